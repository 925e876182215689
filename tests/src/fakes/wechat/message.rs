//! The messages that people have received by either platform. Tests check these messages.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::settings::Kind;

/// Most messages kept; a demo may run for days.
const KEPT_MAX: usize = 100_000;

/// The time for which an official account remembers a message by its `client_msg_id`.
pub const SAME_WITHIN_OFFICIAL: Duration = Duration::from_secs(600);

/// The time for which WeCom remembers a request that asks for a duplicate check without an
/// interval.
pub const SAME_WITHIN_WECOM: Duration = Duration::from_secs(1_800);

/// A message that reached a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Position among all messages, from 1.
    pub number: u64,
    /// Time of arrival by the fake's clock, since its start.
    pub arrived: Duration,
    /// The platform that delivered the message.
    pub kind: Kind,
    /// Appid or corp id of the sending account.
    pub account: String,
    /// The openid or member who received the message.
    pub touser: String,
    /// The sender's idempotency key, if the message has one.
    pub client_msg_id: Option<String>,
    /// The fields of the template as they are shown, in their order. WeCom's messages have one,
    /// `content`.
    pub fields: Vec<(String, String)>,
}

impl Message {
    /// The message as the person reads it.
    pub fn text(&self) -> String {
        let fields = self.fields.iter().map(|(_, value)| value.as_str());
        fields.filter(|value| !value.is_empty()).collect::<Vec<_>>().join(" · ")
    }

    /// Returns a field of the template as the person sees it.
    pub fn field(&self, name: &str) -> Option<&str> {
        let field = self.fields.iter().find(|(field, _)| field == name)?;
        Some(&field.1)
    }

    /// The line that the person reads before opening the message: the first.
    pub fn title(&self) -> String {
        let fields = self.fields.iter().flat_map(|(_, value)| value.lines());
        fields.map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
    }

    fn same_within(&self) -> Duration {
        match self.kind {
            Kind::Official => SAME_WITHIN_OFFICIAL,
            Kind::Wecom => SAME_WITHIN_WECOM,
        }
    }
}

/// The messages, oldest first.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) messages: VecDeque<Message>,
    pub(super) delivered: u64,
    pub(super) dropped: u64,
}

impl Inbox {
    /// Delivers a message and returns its number. The number that the message has is ignored.
    pub(super) fn deliver(&mut self, message: Message) -> u64 {
        self.delivered += 1;
        self.messages.push_back(Message { number: self.delivered, ..message });
        if self.messages.len() > KEPT_MAX {
            self.messages.pop_front();
        }
        self.delivered
    }

    /// Returns the messages after number `seen`.
    pub(super) fn since(&self, seen: u64) -> Vec<Message> {
        self.messages.iter().filter(|message| message.number > seen).cloned().collect()
    }

    /// Returns the messages that repeat an earlier message to the same address within their
    /// platform's window: one of `keys` is the same.
    pub(super) fn repeated<K: AsRef<[String]>>(
        &self,
        keys: impl Fn(&Message) -> K,
    ) -> Vec<Message> {
        let mut last: HashMap<(Kind, &str, String), Duration> = HashMap::new();
        let mut repeated = Vec::new();
        for message in &self.messages {
            let mut again = false;
            for key in keys(message).as_ref() {
                let key = (message.kind, message.touser.as_str(), key.clone());
                let before = last.insert(key, message.arrived);
                again |= before.is_some_and(|at| message.arrived < at + message.same_within());
            }
            if again {
                repeated.push(message.clone());
            }
        }
        repeated
    }
}

/// Returns the keys by which the reader or the platform sees the same message.
pub(super) fn sameness(message: &Message) -> Vec<String> {
    let id = message.client_msg_id.iter().map(|id| format!("id {id}"));
    id.chain([format!("text {}", message.text())]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(touser: &str, id: &str, text: &str, second: u64) -> Message {
        Message {
            number: 0,
            arrived: Duration::from_secs(second),
            kind: Kind::Official,
            account: "wx1".into(),
            touser: touser.into(),
            client_msg_id: Some(id.into()),
            fields: vec![("keyword1".into(), text.into()), ("keyword2".into(), String::new())],
        }
    }

    #[test]
    fn a_message_is_received_twice_by_its_key_or_by_its_text_and_within_the_window() {
        let first = || message("o1", "1", "a", 0);
        for (second, twice) in [
            (message("o1", "1", "b", 599), true),
            (message("o1", "2", "a", 599), true),
            (message("o1", "1", "a", 600), false),
            (message("o1", "2", "b", 1), false),
            (message("o2", "1", "a", 1), false),
            (Message { kind: Kind::Wecom, ..message("o1", "1", "a", 1) }, false),
        ] {
            let mut inbox = Inbox::default();
            inbox.deliver(first());
            inbox.deliver(second);
            let repeated: Vec<_> = inbox.repeated(sameness).iter().map(|one| one.number).collect();
            assert_eq!(repeated, if twice { vec![2] } else { vec![] }, "{:?}", inbox.messages[1]);
        }
    }

    #[test]
    fn a_message_s_title_is_its_first_line() {
        assert_eq!(message("o1", "1", "\n **a** \nb", 0).title(), "**a**");
        assert_eq!(message("o1", "1", "", 0).title(), "");
    }

    #[test]
    fn no_more_than_so_many_are_kept_and_their_numbers_go_on() {
        let mut inbox = Inbox::default();
        for number in 1..=KEPT_MAX as u64 + 2 {
            assert_eq!(inbox.deliver(message("o1", "1", "a", number)), number);
        }
        assert_eq!((inbox.messages.len(), inbox.messages[0].number), (KEPT_MAX, 3));
        assert_eq!(inbox.since(0).len(), KEPT_MAX);
        assert_eq!(inbox.since(inbox.delivered - 2).len(), 2);
    }
}
