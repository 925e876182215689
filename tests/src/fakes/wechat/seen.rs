//! What the stand-in has seen: people's messages first, calls where a test is about them.

use super::FakeWechat;
use super::message::{Message, sameness};
use super::platform::lock;

impl FakeWechat {
    /// The messages people have received, oldest first; the last 10,000.
    pub fn messages(&self) -> Vec<Message> {
        lock(&self.platform).inbox.since(0)
    }

    /// The messages received since the first `seen`, and how many there are now.
    pub fn messages_since(&self, seen: u64) -> (Vec<Message>, u64) {
        let platform = lock(&self.platform);
        (platform.inbox.since(seen), platform.inbox.delivered)
    }

    /// What one person has received, by whichever platform, oldest first: a person of
    /// [`super::Settings::people`], or who has this very address.
    pub fn inbox(&self, person: &str) -> Vec<Message> {
        let platform = lock(&self.platform);
        let people = &platform.settings.people;
        let theirs = |message: &&Message| {
            people.get(&message.touser).unwrap_or(&message.touser).as_str() == person
        };
        platform.inbox.messages.iter().filter(theirs).cloned().collect()
    }

    /// The messages that repeat one for the same address: with the same `client_msg_id` or the same
    /// text, within the time for which the platform knows a message again.
    pub fn received_twice(&self) -> Vec<Message> {
        lock(&self.platform).inbox.repeated(sameness)
    }

    /// As [`Self::received_twice`], where `key` alone says what makes two messages the same; for
    /// instance [`Message::title`].
    pub fn received_twice_by(&self, key: impl Fn(&Message) -> String) -> Vec<Message> {
        lock(&self.platform).inbox.repeated(|message| [key(message)])
    }

    /// How many messages people have received.
    pub fn delivered(&self) -> u64 {
        lock(&self.platform).inbox.delivered
    }

    /// How many messages WeCom has dropped while it said that all was well.
    pub fn dropped(&self) -> u64 {
        lock(&self.platform).inbox.dropped
    }

    /// How many sends were asked for, refused and repeated ones included.
    pub fn sends(&self) -> usize {
        lock(&self.platform).sends.all
    }

    /// How many sends were asked for with a token of this account that worked.
    pub fn sends_of(&self, account: &str) -> usize {
        lock(&self.platform).sends.of(account)
    }

    /// How many tokens were asked for.
    pub fn token_requests(&self) -> usize {
        lock(&self.platform).token_requests.all
    }

    /// How many tokens were asked for by this appid or corp id.
    pub fn token_requests_of(&self, account: &str) -> usize {
        lock(&self.platform).token_requests.of(account)
    }
}
