//! Detects that no reading arrives any more, whichever part of the way from the devices has failed.
//!
//! Pure: the ends of the readings topic and the time come as arguments.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use ljwx_service::kafka::topic_ends::{TopicWatermarks, Watermarks};

/// Time for which the ends must be seen without a new record, after a start or a gap in Kafka's
/// answers.
///
/// The clock that dated the last record may be wrong, and gateways wait while Kafka is away.
const SEEN_MIN: SignedDuration = SignedDuration::from_secs(60);

/// Longest time between two answers of Kafka that is no gap.
const ANSWERS_APART_MAX: SignedDuration = SignedDuration::from_secs(30);

/// Follows the ends of the readings topic.
#[derive(Debug)]
pub struct ReadingsFlow {
    /// Time without a new record after which readings have stopped. 0: never.
    after: SignedDuration,
    /// The last known ends of the partitions.
    ends: TopicWatermarks,
    /// The times since which the ends were seen without a gap, and at which they were seen last.
    seen: Option<(Timestamp, Timestamp)>,
    last_record: Option<Timestamp>,
    has_stopped: bool,
}

impl ReadingsFlow {
    /// Readings have stopped once no new record came for `after`. 0: they never count as stopped.
    pub fn new(after: Duration) -> Self {
        Self {
            after: SignedDuration::try_from(after).unwrap_or(SignedDuration::MAX),
            ends: TopicWatermarks::new(),
            seen: None,
            last_record: None,
            has_stopped: false,
        }
    }

    /// Takes the last known ends of the partitions.
    pub fn update(&mut self, ends: &TopicWatermarks, now: Timestamp) {
        let before = std::mem::replace(&mut self.ends, ends.clone());
        // A partition that answers for the first time may have had its records for long.
        let has_grown = |(partition, end): (&i32, &Watermarks)| {
            before.get(partition).is_some_and(|known| end.high > known.high)
        };
        if ends.iter().any(has_grown) {
            // By this clock: that of a gateway may be wrong.
            self.last_record = Some(now);
            self.has_stopped = false;
        }
        // A clock that was set back must not put the finding off until it has caught up.
        self.last_record = self.last_record.map(|last| last.min(now));
        let apart = SignedDuration::ZERO..=ANSWERS_APART_MAX;
        let unbroken = self.seen.filter(|(_, at)| apart.contains(&now.duration_since(*at)));
        let since = unbroken.map_or(now, |(since, _)| since);
        self.seen = Some((since, now));
        let is_long = self.last_record.is_some_and(|last| now.duration_since(last) >= self.after);
        let is_seen = now.duration_since(since) >= self.after.min(SEEN_MIN);
        self.has_stopped |= is_long && is_seen && !self.after.is_zero();
    }

    /// Takes the time at which the last record came, by the topic itself.
    pub fn set_last_record(&mut self, at: Timestamp, now: Timestamp) {
        self.last_record = Some(at.min(now));
    }

    /// Returns the time of the last record, if it is known.
    pub fn last_record(&self) -> Option<Timestamp> {
        self.last_record
    }

    /// Whether a record came, and readings have not stopped.
    pub fn arrive(&self) -> bool {
        self.last_record.is_some() && !self.has_stopped
    }

    /// Returns since when readings have stopped: the last record and the time without a new one.
    pub fn stopped_since(&self) -> Option<Timestamp> {
        let last = self.last_record.filter(|_| self.has_stopped)?;
        Some(last.checked_add(self.after).unwrap_or(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(300);
    const START: i64 = 1_756_785_600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(START + seconds).unwrap()
    }

    /// Shows these ends of the partitions 0, 1, … every two seconds, from the first second to the
    /// last.
    fn show(flow: &mut ReadingsFlow, ends: &[i64], seconds: (i64, i64)) {
        let ends = (0..).zip(ends.iter().map(|high| Watermarks { low: 0, high: *high })).collect();
        for second in (seconds.0..=seconds.1).step_by(2) {
            flow.update(&ends, at(second));
        }
    }

    /// A flow whose last record arrived at 0.
    fn flowing(after: Duration) -> ReadingsFlow {
        let mut flow = ReadingsFlow::new(after);
        show(&mut flow, &[50, 50], (-2, -2));
        assert!(!flow.arrive(), "no record is known");
        show(&mut flow, &[50, 51], (0, 0));
        assert_eq!((flow.arrive(), flow.last_record()), (true, Some(at(0))));
        flow
    }

    #[test]
    fn readings_have_stopped_five_minutes_after_the_last_and_resume_with_the_next() {
        let mut flow = flowing(AFTER);
        show(&mut flow, &[50, 51], (2, 298));
        assert_eq!((flow.stopped_since(), flow.arrive()), (None, true));
        show(&mut flow, &[50, 51], (300, 900));
        assert_eq!((flow.stopped_since(), flow.arrive()), (Some(at(300)), false));
        show(&mut flow, &[50, 51], (9_000, 9_000));
        assert_eq!(flow.stopped_since(), Some(at(300)), "Kafka's silence ends nothing");
        show(&mut flow, &[51, 51], (9_002, 9_300));
        assert_eq!((flow.stopped_since(), flow.last_record()), (None, Some(at(9_002))));
        show(&mut flow, &[51, 51], (9_302, 9_302));
        assert_eq!(flow.stopped_since(), Some(at(9_302)));
    }

    #[test]
    fn only_a_known_end_that_grows_is_a_record() {
        for (ends, last) in [(&[50, 51, 7][..], 0), (&[50], 0), (&[3, 51], 0), (&[3, 52], 2)] {
            let mut flow = flowing(AFTER);
            show(&mut flow, ends, (2, 2));
            assert_eq!(flow.last_record(), Some(at(last)), "{ends:?}");
        }
    }

    #[test]
    fn after_kafka_was_away_a_minute_without_a_record_decides() {
        let mut flow = flowing(AFTER);
        show(&mut flow, &[50, 51], (2, 100));
        show(&mut flow, &[50, 51], (400, 458));
        assert_eq!(flow.stopped_since(), None, "gateways had no time yet");
        show(&mut flow, &[50, 51], (460, 460));
        assert_eq!(flow.stopped_since(), Some(at(300)));
    }

    #[test]
    fn a_clock_that_jumps_stops_no_readings_and_puts_no_finding_off() {
        let mut flow = flowing(AFTER);
        show(&mut flow, &[50, 51], (3_600, 3_658));
        assert_eq!(flow.stopped_since(), None, "an hour ahead");
        show(&mut flow, &[50, 52], (3_660, 3_660));
        show(&mut flow, &[50, 52], (62, 360));
        assert_eq!(flow.stopped_since(), None, "right again");
        show(&mut flow, &[50, 52], (362, 362));
        assert_eq!(flow.stopped_since(), Some(at(362)));
    }

    #[test]
    fn after_a_start_the_topic_says_when_its_last_record_came() {
        for (last, stopped_after) in [(-600, 60), (-270, 60), (-60, 240), (60, 300)] {
            let mut flow = ReadingsFlow::new(AFTER);
            show(&mut flow, &[50], (0, 0));
            flow.set_last_record(at(last), at(0));
            assert!(flow.arrive());
            show(&mut flow, &[50], (2, stopped_after - 2));
            assert_eq!(flow.stopped_since(), None, "{last}");
            show(&mut flow, &[50], (stopped_after, stopped_after));
            assert_eq!(flow.stopped_since(), Some(at(last.min(0) + 300)));
        }
    }

    #[test]
    fn readings_never_stop_if_the_setting_is_zero_and_soon_if_it_is_short() {
        let mut flow = flowing(Duration::ZERO);
        show(&mut flow, &[50, 51], (2, 4_000));
        assert_eq!((flow.stopped_since(), flow.arrive()), (None, true));
        let mut flow = flowing(Duration::from_secs(4));
        show(&mut flow, &[50, 51], (2, 2));
        assert_eq!(flow.stopped_since(), None);
        show(&mut flow, &[50, 51], (4, 4));
        assert_eq!(flow.stopped_since(), Some(at(4)));
    }
}
