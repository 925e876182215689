//! Decides when operators are notified of a state that lasts: when it begins, when it ends, and once
//! a day while it lasts.
//!
//! Every replica remembers the states that it measures, and sends those of which it speaks. What it
//! did not send itself does not count as sent: a replica that begins to speak sends what lasts. It
//! sends the end of every state that it remembers, because the former speaker may have sent the
//! beginning. So a change of the speaker can repeat an event, and loses none that the new speaker
//! has measured.
//!
//! Pure: time comes as an argument. The callers may measure a state as often as they like.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::event::OperatorEvent;

/// Lasting states that are remembered. Only metrics show further ones.
const STATES_MAX: usize = 10_000;

/// Time after which operators get a further event of a state that lasts.
const REPEAT_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// A state that lasts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LastingEvent {
    /// The WeChat account of this name does not send.
    WechatBroken(String),
    /// Major or critical alerts of this tenant reach no recipient.
    NoRecipientReached(i64),
    /// No reading arrives any more.
    ReadingsStopped,
    /// Notifications are due and nobody sends them.
    SenderLate,
    /// The clock of a gateway is ahead.
    GatewayClock,
    /// The clocks of many devices are ahead.
    ClockAhead,
}

impl LastingEvent {
    /// Returns the word of the event.
    fn word(&self, is_over: bool) -> &'static str {
        let [begun, over] = match self {
            Self::WechatBroken(_) => ["wechat_broken", "wechat_works"],
            Self::NoRecipientReached(_) => ["no_recipient_reached"; 2],
            Self::ReadingsStopped => ["readings_stopped", "readings_resumed"],
            Self::SenderLate => ["sender_late", "on_time"],
            Self::GatewayClock => ["gateway_clock"; 2],
            Self::ClockAhead => ["clock_ahead"; 2],
        };
        if is_over { over } else { begun }
    }

    /// Returns the text of the event. `count` 0: the state is over, which `lasted`.
    fn text(&self, count: u64, lasted: SignedDuration) -> String {
        match (self, count) {
            (Self::WechatBroken(account), 0) => {
                format!("WeChat account {account} sends again, or was replaced, after {lasted:#}")
            }
            (Self::WechatBroken(account), _) => {
                format!("WeChat account {account} does not send, its notifications wait")
            }
            (Self::NoRecipientReached(tenant), 0) => format!(
                "major and critical alerts of tenant {tenant} reach recipients again, or are over"
            ),
            (Self::NoRecipientReached(tenant), _) => {
                format!("{count} major or critical alerts of tenant {tenant} reach no recipient")
            }
            (Self::ReadingsStopped, 0) => format!("readings arrive again, after {lasted:#}"),
            (Self::ReadingsStopped, _) => {
                "no reading arrives any more, so no alert about a patient can arise".into()
            }
            (Self::SenderLate, 0) => format!("notifications are sent on time again, after {lasted:#}"),
            (Self::SenderLate, _) => format!("notifications are due and not sent, for {lasted:#}"),
            (Self::GatewayClock, 0) => {
                format!("the clocks of all gateways are right again, after {lasted:#}")
            }
            (Self::GatewayClock, _) => {
                "the clock of a gateway is more than a minute ahead, so its readings are dated wrong"
                    .into()
            }
            (Self::ClockAhead, 0) => format!("few devices' clocks are ahead again, after {lasted:#}"),
            (Self::ClockAhead, _) => format!(
                "{count} readings of 5 minutes are ahead of the clock and evaluated by no rule"
            ),
        }
    }
}

/// When a state began, and when this replica last notified operators of it.
#[derive(Debug, Clone, Copy)]
struct Lasting {
    since: Timestamp,
    sent_at: Option<Timestamp>,
}

/// The states that last now.
#[derive(Debug, Default)]
pub struct LastingEvents {
    states: HashMap<LastingEvent, Lasting>,
}

impl LastingEvents {
    /// Takes a measurement of a state: `count` cases, the first of them `since`. 0 cases: the state
    /// is over. Returns the event that is due, if this replica `speaks` of the state.
    pub fn update(
        &mut self,
        event: LastingEvent,
        count: u64,
        since: Timestamp,
        at: Timestamp,
        speaks: bool,
    ) -> Option<OperatorEvent> {
        if count > 0 && self.states.len() < STATES_MAX {
            self.states.entry(event.clone()).or_insert(Lasting { since, sent_at: None });
        }
        let state = self.states.get_mut(&event)?;
        let is_old = |sent_at| at.duration_since(sent_at) >= REPEAT_AFTER;
        let is_sent = speaks && (count == 0 || state.sent_at.is_none_or(is_old));
        if is_sent {
            state.sent_at = Some(at);
        }
        let since = state.since;
        if count == 0 {
            self.states.remove(&event);
        }
        if !is_sent {
            return None;
        }
        let lasted = SignedDuration::from_secs(at.duration_since(since).as_secs().max(0));
        let (word, text) = (event.word(count == 0), event.text(count, lasted));
        let (account, customer_id) = match event {
            LastingEvent::WechatBroken(account) => (Some(account), None),
            LastingEvent::NoRecipientReached(customer_id) => (None, Some(customer_id)),
            _ => (None, None),
        };
        let about = OperatorEvent::about(word, text, at);
        Some(OperatorEvent { account, customer_id, count, since, ..about })
    }

    /// Returns the tenants whose alerts reach no recipient.
    pub fn unreached(&self) -> Vec<i64> {
        let tenant = |event: &LastingEvent| match event {
            LastingEvent::NoRecipientReached(customer_id) => Some(*customer_id),
            _ => None,
        };
        self.states.keys().filter_map(tenant).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::LastingEvent::{NoRecipientReached, ReadingsStopped, SenderLate, WechatBroken};
    use super::*;

    const HOUR: i64 = 3_600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_756_785_600 + seconds).unwrap()
    }

    #[test]
    fn a_state_is_an_event_when_it_begins_when_it_ends_and_once_a_day_while_it_lasts() {
        let mut events = LastingEvents::default();
        for (time, event, count, expected) in [
            (0, ReadingsStopped, 0, None),
            (1, ReadingsStopped, 1, Some("readings_stopped")),
            (2, ReadingsStopped, 1, None),
            (3, SenderLate, 9, Some("sender_late")),
            (4, NoRecipientReached(7), 2, Some("no_recipient_reached")),
            (5, NoRecipientReached(8), 1, Some("no_recipient_reached")),
            (6, NoRecipientReached(7), 3, None),
            (7, NoRecipientReached(7), 0, Some("no_recipient_reached")),
            (8, NoRecipientReached(7), 0, None),
            (9, SenderLate, 0, Some("on_time")),
            (10, WechatBroken("wx7".into()), 1, Some("wechat_broken")),
            (11, WechatBroken("wx8".into()), 0, None),
            (12, WechatBroken("wx7".into()), 0, Some("wechat_works")),
            (24 * HOUR, ReadingsStopped, 1, None),
            (24 * HOUR + 1, ReadingsStopped, 1, Some("readings_stopped")),
            (25 * HOUR, ReadingsStopped, 1, None),
            (26 * HOUR, ReadingsStopped, 0, Some("readings_resumed")),
            (27 * HOUR, ReadingsStopped, 1, Some("readings_stopped")),
        ] {
            let sent = events.update(event.clone(), count, at(time), at(time), true);
            assert_eq!(sent.as_ref().map(|sent| sent.event), expected, "{event:?} at {time}");
            let Some(sent) = sent else { continue };
            let (account, customer_id) = match event {
                WechatBroken(account) => (Some(account), None),
                NoRecipientReached(customer_id) => (None, Some(customer_id)),
                _ => (None, None),
            };
            assert_eq!((sent.account, sent.customer_id), (account, customer_id));
            assert_eq!(sent.count, count);
        }
    }

    #[test]
    fn an_event_says_since_when_and_of_whom() {
        let mut events = LastingEvents::default();
        let mut update = |event, count, time| {
            events.update(event, count, at(time - 300), at(time), true).unwrap()
        };
        let begun = update(ReadingsStopped, 1, 300);
        assert_eq!((begun.since, begun.at), (at(0), at(300)));
        let over = update(ReadingsStopped, 0, 1_000);
        assert_eq!((over.since, over.at), (at(0), at(1_000)));
        assert_eq!(over.text, "readings arrive again, after 16m 40s");
        let nobody = update(NoRecipientReached(7), 2, 300);
        assert_eq!(nobody.text, "2 major or critical alerts of tenant 7 reach no recipient");
        let late = update(SenderLate, 1, 300);
        assert_eq!(late.text, "notifications are due and not sent, for 5m");
        update(WechatBroken("wx7".into()), 1, 300);
        let works = update(WechatBroken("wx7".into()), 0, 360);
        assert_eq!(works.text, "WeChat account wx7 sends again, or was replaced, after 6m");
    }

    #[test]
    fn further_states_than_are_remembered_send_nothing_until_one_ends() {
        let mut events = LastingEvents::default();
        let mut nobody =
            |tenant, count| events.update(NoRecipientReached(tenant), count, at(0), at(0), true);
        let last = i64::try_from(STATES_MAX).unwrap();
        assert!((0..last).all(|tenant| nobody(tenant, 1).is_some()));
        assert!(nobody(last, 1).is_none() && nobody(last, 0).is_none());
        assert!(nobody(0, 0).is_some() && nobody(last, 1).is_some());
    }
}
