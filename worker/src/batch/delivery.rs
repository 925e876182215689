//! Headers of a reading that was sent once more from a dead-letter or rejects topic.

use rdkafka::message::{Headers, OwnedHeaders};

/// Partition of the reading's first record.
pub const REPLAY_PARTITION: &str = "replay.partition";

/// Offset of the reading's first record.
pub const REPLAY_OFFSET: &str = "replay.offset";

/// How often it was replayed.
pub const REPLAY_COUNT: &str = "replay.count";

/// The first place of a replayed reading, as partition and offset; `None` for any other.
pub fn first_place(headers: Option<&OwnedHeaders>) -> Option<(i32, i64)> {
    let headers = headers?;
    let text = |name: &str| {
        let value = headers.iter().find(|header| header.key == name)?.value?;
        std::str::from_utf8(value).ok()
    };
    Some((text(REPLAY_PARTITION)?.parse().ok()?, text(REPLAY_OFFSET)?.parse().ok()?))
}
