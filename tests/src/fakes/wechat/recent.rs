//! Remembers the messages that the platform has taken, to recognise a message that is sent again.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use sha2::{Digest, Sha256};

/// Most messages remembered. Beyond them the oldest are forgotten before their time.
const REMEMBERED_MAX: usize = 100_000;

/// The key by which two messages are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// Computes the key of these parts. It is a digest, because a part may be a whole request.
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            // Include the length, so that no two lists of parts give the same bytes.
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        Self(digest.finalize().into())
    }
}

/// The latest messages, each remembered for its own window.
#[derive(Debug, Default)]
pub(super) struct Recent {
    taken: HashMap<Key, (Duration, u64)>,
    order: VecDeque<(Key, Duration)>,
}

impl Recent {
    /// Returns the number of the message with this key, if it is still remembered at `now`.
    pub(super) fn find(&self, key: Key, now: Duration) -> Option<u64> {
        self.taken.get(&key).filter(|(until, _)| now < *until).map(|(_, number)| *number)
    }

    /// Remembers a message until a time.
    pub(super) fn remember(&mut self, key: Key, until: Duration, number: u64) {
        self.taken.insert(key, (until, number));
        self.order.push_back((key, until));
        if self.order.len() > REMEMBERED_MAX
            && let Some((oldest, until)) = self.order.pop_front()
            // The message may have been remembered again since.
            && self.taken.get(&oldest).is_some_and(|(kept, _)| *kept == until)
        {
            self.taken.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_message_is_known_within_its_window_and_anew_after_it() {
        let mut recent = Recent::default();
        let key = Key::of(&[b"a", b"bc"]);
        assert_eq!(recent.find(key, seconds(0)), None);
        recent.remember(key, seconds(600), 7);
        assert_eq!(recent.find(key, seconds(599)), Some(7));
        assert_eq!(recent.find(key, seconds(600)), None);
        recent.remember(key, seconds(1_200), 8);
        assert_eq!(recent.find(key, seconds(601)), Some(8));
        assert_eq!(recent.find(Key::of(&[b"ab", b"c"]), seconds(601)), None, "other parts");
    }

    #[test]
    fn no_more_than_so_many_are_remembered() {
        let mut recent = Recent::default();
        for number in 0..REMEMBERED_MAX as u64 + 10 {
            recent.remember(Key::of(&[&number.to_le_bytes()]), seconds(600), number);
        }
        assert_eq!((recent.taken.len(), recent.order.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
        assert_eq!(recent.find(Key::of(&[&0_u64.to_le_bytes()]), seconds(0)), None, "the oldest");
    }
}
