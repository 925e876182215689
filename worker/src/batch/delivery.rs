//! The headers of a replayed reading.

use rdkafka::message::{Headers, OwnedHeaders};

/// Partition of the reading's first record.
pub const REPLAY_PARTITION: &str = "replay.partition";

/// Offset of the reading's first record.
pub const REPLAY_OFFSET: &str = "replay.offset";

/// Number of replays of the reading.
pub const REPLAY_COUNT: &str = "replay.count";

/// Returns partition and offset of the first record of a replayed dead letter; `None` for others.
pub fn first_place(headers: Option<&OwnedHeaders>) -> Option<(i32, i64)> {
    let headers = headers?;
    let text = |name: &str| {
        let value = headers.iter().find(|header| header.key == name)?.value?;
        std::str::from_utf8(value).ok()
    };
    Some((text(REPLAY_PARTITION)?.parse().ok()?, text(REPLAY_OFFSET)?.parse().ok()?))
}
