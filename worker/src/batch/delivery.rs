//! The headers of a replayed reading: a dead letter has the place of its first record, a reject was
//! no record of the readings topic before and has only a count.

use rdkafka::message::{Headers, OwnedHeaders};

/// Partition of the reading's first record.
pub const REPLAY_PARTITION: &str = "replay.partition";

/// Offset of the reading's first record.
pub const REPLAY_OFFSET: &str = "replay.offset";

/// Number of replays of the reading.
pub const REPLAY_COUNT: &str = "replay.count";

/// The origin of a replayed reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// A dead letter, with partition and offset of the reading's first record.
    DeadLetter(i32, i64),
    /// An item that was rejected at first.
    Reject,
}

impl Replay {
    /// Returns the origin, or `None` if the reading is not replayed.
    pub fn of(headers: Option<&OwnedHeaders>) -> Option<Self> {
        let headers = headers?;
        let text = |name: &str| {
            let value = headers.iter().find(|header| header.key == name)?.value?;
            std::str::from_utf8(value).ok()
        };
        let place =
            || Some((text(REPLAY_PARTITION)?.parse().ok()?, text(REPLAY_OFFSET)?.parse().ok()?));
        match place() {
            Some((partition, offset)) => Some(Self::DeadLetter(partition, offset)),
            None => text(REPLAY_COUNT).map(|_| Self::Reject),
        }
    }
}
