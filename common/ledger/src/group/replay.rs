//! The headers of a replayed reading: a dead letter has the place of its first record, a reject was
//! no record of the readings topic before and has only a count.

use rdkafka::message::Headers;

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
    /// Reads the origin from the headers of a record. Returns `None` if the reading is not
    /// replayed.
    pub fn of_headers<H: Headers>(headers: &H) -> Option<Self> {
        let (mut partition, mut offset, mut count) = (None, None, None);
        for header in headers.iter() {
            let slot = match header.key {
                REPLAY_PARTITION => &mut partition,
                REPLAY_OFFSET => &mut offset,
                REPLAY_COUNT => &mut count,
                _ => continue,
            };
            *slot = slot.or(header.value.and_then(|value| std::str::from_utf8(value).ok()));
        }
        let place = || Some((partition?.parse().ok()?, offset?.parse().ok()?));
        match place() {
            Some((partition, offset)) => Some(Self::DeadLetter(partition, offset)),
            None => count.map(|_| Self::Reject),
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::message::{Header, OwnedHeaders};

    use super::*;

    #[test]
    fn a_place_is_a_dead_letter_s_and_a_count_alone_a_reject_s() {
        for (headers, origin) in [
            (&[][..], None),
            (&[("traceparent", "00-x")], None),
            (&[(REPLAY_COUNT, "1")], Some(Replay::Reject)),
            (
                &[(REPLAY_PARTITION, "4"), (REPLAY_OFFSET, "17"), (REPLAY_COUNT, "1")],
                Some(Replay::DeadLetter(4, 17)),
            ),
            (&[(REPLAY_PARTITION, "4"), (REPLAY_COUNT, "1")], Some(Replay::Reject)),
            (&[(REPLAY_PARTITION, "4"), (REPLAY_OFFSET, "x")], None),
        ] {
            let add = |all: OwnedHeaders, (key, value): &(&str, &str)| {
                all.insert(Header { key, value: Some(*value) })
            };
            let record = headers.iter().fold(OwnedHeaders::new(), add);
            assert_eq!(Replay::of_headers(&record), origin, "{headers:?}");
        }
    }
}
