//! Detects that no reading arrives any more, whichever part of the way from the devices has failed.
//!
//! Pure: the ends of the readings topic, Kafka's answers and the time come as arguments.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Period before the last record in which readings must have arrived. A topic that is hardly used
/// cannot stop.
const PERIOD: SignedDuration = SignedDuration::from_hours(1);

/// Records in that period up to which a topic counts as hardly used: one a minute.
const FEW_RECORDS: i64 = 60;

/// A question to Kafka, which only the topic itself can answer after a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KafkaQuestion {
    /// The time of the topic's last record.
    LastRecord,
    /// The number of records since this time.
    RecordsSince(Timestamp),
}

/// What the present time without a new record means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gap {
    /// It is not long enough, or Kafka has not answered yet.
    Undecided,
    /// Hardly any readings arrived before it.
    Unremarkable,
    /// Readings have stopped.
    Stopped,
}

/// Follows the ends of the readings topic.
#[derive(Debug)]
pub struct ReadingsFlow {
    /// Time without a new record after which readings have stopped. 0: never.
    after: SignedDuration,
    /// The sum of the ends of all partitions.
    end: Option<i64>,
    last_record: Option<Timestamp>,
    knows_last: bool,
    gap: Gap,
    /// Whether readings have stopped once. Then operators hear of every further stop.
    has_stopped: bool,
}

impl ReadingsFlow {
    /// Readings have stopped once no new record came for `after`. 0: they never count as stopped.
    pub fn new(after: Duration) -> Self {
        Self {
            after: SignedDuration::try_from(after).unwrap_or(SignedDuration::MAX),
            end: None,
            last_record: None,
            knows_last: false,
            gap: Gap::Undecided,
            has_stopped: false,
        }
    }

    /// Takes the sum of the ends of all partitions. Returns what Kafka must answer to decide.
    pub fn update(&mut self, end: i64, now: Timestamp) -> Option<KafkaQuestion> {
        if self.end.replace(end).is_some_and(|before| before != end) {
            // By this clock: that of a gateway may be wrong.
            self.last_record = Some(now);
            self.knows_last = true;
            self.gap = Gap::Undecided;
        }
        if !self.knows_last {
            return Some(KafkaQuestion::LastRecord);
        }
        let last = self.last_record?;
        let is_long = !self.after.is_zero() && now.duration_since(last) >= self.after;
        if !is_long || self.gap != Gap::Undecided {
            return None;
        }
        if self.has_stopped {
            self.gap = Gap::Stopped;
            return None;
        }
        Some(KafkaQuestion::RecordsSince(last.checked_sub(PERIOD).unwrap_or(last)))
    }

    /// Takes Kafka's answer about the last record. `None`: the topic has no record.
    pub fn set_last_record(&mut self, at: Option<Timestamp>, now: Timestamp) {
        self.last_record = at.map(|at| at.min(now));
        self.knows_last = true;
    }

    /// Takes Kafka's answer about the number of records in the period before the last one.
    pub fn set_records(&mut self, count: i64) {
        let is_used = count > FEW_RECORDS;
        self.gap = if is_used { Gap::Stopped } else { Gap::Unremarkable };
        self.has_stopped |= is_used;
    }

    /// Returns the time of the last record, if it is known.
    pub fn last_record(&self) -> Option<Timestamp> {
        self.last_record
    }

    /// Returns since when readings have stopped: the last record and the time without a new one.
    pub fn stopped_since(&self) -> Option<Timestamp> {
        let last = self.last_record.filter(|_| self.gap == Gap::Stopped)?;
        Some(last.checked_add(self.after).unwrap_or(last))
    }
}

#[cfg(test)]
mod tests {
    use super::KafkaQuestion::{LastRecord, RecordsSince};
    use super::*;

    const AFTER: Duration = Duration::from_secs(300);
    const START: i64 = 1_756_785_600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(START + seconds).unwrap()
    }

    /// A flow whose last record arrived at 0.
    fn flowing() -> ReadingsFlow {
        let mut flow = ReadingsFlow::new(AFTER);
        flow.update(100, at(-2));
        assert_eq!(flow.update(101, at(0)), None);
        flow
    }

    #[test]
    fn readings_have_stopped_five_minutes_after_the_last_and_resume_with_the_next() {
        let mut flow = flowing();
        assert_eq!(flow.update(101, at(299)), None);
        let asked = flow.update(101, at(300));
        assert_eq!(asked, Some(RecordsSince(at(-3_600))));
        assert_eq!(flow.update(101, at(302)), asked, "Kafka did not answer");
        assert_eq!(flow.stopped_since(), None);
        flow.set_records(FEW_RECORDS + 1);
        assert_eq!(flow.stopped_since(), Some(at(300)));
        assert_eq!(flow.update(101, at(90_000)), None);
        assert_eq!(flow.stopped_since(), Some(at(300)));
        assert_eq!(flow.update(102, at(90_002)), None);
        assert_eq!((flow.stopped_since(), flow.last_record()), (None, Some(at(90_002))));
        assert_eq!(flow.update(102, at(90_302)), None, "a further stop needs no hour");
        assert_eq!(flow.stopped_since(), Some(at(90_302)));
    }

    #[test]
    fn a_topic_that_is_hardly_used_does_not_stop() {
        let mut flow = flowing();
        assert!(flow.update(101, at(300)).is_some());
        flow.set_records(FEW_RECORDS);
        assert_eq!((flow.update(101, at(9_000)), flow.stopped_since()), (None, None));
        assert_eq!(flow.update(102, at(9_002)), None);
        assert_eq!(flow.update(102, at(9_302)), Some(RecordsSince(at(9_002 - 3_600))));
    }

    #[test]
    fn after_a_start_the_topic_says_when_its_last_record_came() {
        for (last, expected) in [
            (Some(at(-600)), Some(RecordsSince(at(-600 - 3_600)))),
            (Some(at(-60)), None),
            (Some(at(60)), None),
            (None, None),
        ] {
            let mut flow = ReadingsFlow::new(AFTER);
            assert_eq!(flow.update(100, at(-4)), Some(LastRecord));
            assert_eq!(flow.update(100, at(-2)), Some(LastRecord), "Kafka did not answer");
            flow.set_last_record(last, at(0));
            assert_eq!(flow.last_record(), last.map(|last| last.min(at(0))));
            assert_eq!(flow.update(100, at(2)), expected, "{last:?}");
        }
    }

    #[test]
    fn readings_never_stop_if_the_setting_is_zero() {
        let mut flow = ReadingsFlow::new(Duration::ZERO);
        flow.update(100, at(-2));
        flow.update(101, at(0));
        assert_eq!(flow.update(101, at(1_000_000)), None);
        assert_eq!((flow.stopped_since(), flow.last_record()), (None, Some(at(0))));
    }
}
