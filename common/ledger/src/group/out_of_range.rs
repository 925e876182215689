//! A position outside the topic: retention deleted readings, or brokers lost readings.
//!
//! The message names the missing offsets and the command. No position is ever reset silently.

/// A partition's position and the topic's watermarks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfRange {
    pub partition: i32,
    pub position: i64,
    pub low: i64,
    pub high: i64,
}

impl OutOfRange {
    /// Describes the missing offsets and the remedy. Returns `None` if the topic has the position.
    pub fn message(&self, group: &str) -> Option<String> {
        let Self { partition, position, low, high } = *self;
        let (what, target) = if position < low {
            (format!("{} offsets were deleted before they were processed", low - position), low)
        } else if position > high {
            (format!("it lacks {} offsets that were processed", position - high), high)
        } else {
            return None;
        };
        Some(format!(
            "the ledger stands at {position}, but the topic has {low} to {high}: {what}. To go on \
             from {target}, with the gap in the ledger: \
             worker offsets --partition {partition} --to-offset {target} --execute --group {group}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_named_with_its_way_out() {
        let gap =
            |position| OutOfRange { partition: 3, position, low: 10, high: 20 }.message("care");
        assert_eq!((gap(10), gap(15), gap(20)), (None, None, None));
        let deleted = gap(4).unwrap();
        assert!(deleted.contains("stands at 4, but the topic has 10 to 20"), "{deleted}");
        assert!(deleted.contains("6 offsets were deleted"), "{deleted}");
        let command = "worker offsets --partition 3 --to-offset 10 --execute --group care";
        assert!(deleted.ends_with(command), "{deleted}");
        let beyond = gap(25).unwrap();
        assert!(
            beyond.contains("lacks 5 offsets") && beyond.contains("--to-offset 20"),
            "{beyond}"
        );
    }
}
