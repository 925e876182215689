//! The subject of a report: a period of event time, a tenant, and the zone of the tables' times.
//!
//! Pure. [`super::rows`] holds the statements.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use ljwx_reading::wall_text;
use ljwx_service::config::TimeArg;

use crate::notify::outbox::KEPT_DAYS;

/// The subject of a report.
#[derive(Debug, Clone)]
pub struct ReportQuery {
    /// Start of the period by event time, in milliseconds since 1970.
    pub from_ms: i64,
    /// End of the period, exclusive. Not after now.
    pub to_ms: i64,
    /// The only tenant. `None`: all tenants.
    pub customer_id: Option<i64>,
    /// The zone of the tables' times.
    pub zone: TimeZone,
}

impl ReportQuery {
    /// Formats an instant as the tables hold it.
    pub(super) fn wall(&self, epoch_ms: i64) -> String {
        wall_text(self.datetime(epoch_ms))
    }

    fn datetime(&self, epoch_ms: i64) -> DateTime {
        let at = Timestamp::from_millisecond(epoch_ms).unwrap_or(Timestamp::MAX);
        self.zone.to_datetime(at)
    }

    /// Converts a time of the tables. A time that occurs twice means the earlier instant.
    pub(super) fn at_ms(&self, wall: DateTime) -> i64 {
        TimeArg::Wall(wall).at_ms(&self.zone)
    }

    /// Returns the first and the last day that the period touches.
    pub(super) fn days(&self) -> (Date, Date) {
        (self.datetime(self.from_ms).date(), self.datetime(self.to_ms - 1).date())
    }

    /// Returns notes on what the figures do not include. `sampled`: times of some episodes only.
    pub(super) fn notes(&self, now_ms: i64, sampled: bool) -> Vec<String> {
        let mut notes = Vec::new();
        let kept_from = now_ms - KEPT_DAYS * 86_400_000;
        if self.from_ms < kept_from {
            notes.push(format!(
                "notifications are kept for {KEPT_DAYS} days after they are done with: those \
                 recorded before {} are not counted, and the times from their recording are not \
                 known",
                self.wall(kept_from)
            ));
        }
        let (first, last) = self.days();
        let is_midnight = |at_ms| self.wall(at_ms).ends_with(" 00:00:00");
        if !is_midnight(self.from_ms) || !is_midnight(self.to_ms) {
            notes.push(format!(
                "notifications not sent are counted by the day: these are of {first} to {last}, \
                 whole"
            ));
        }
        if sampled {
            notes.push(
                "times are of every second, fourth … episode where a rule has many".to_owned(),
            );
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_numbers_do_not_include_is_said() {
        let day = 86_400_000;
        let question =
            |from_ms, to_ms| ReportQuery { from_ms, to_ms, customer_id: None, zone: TimeZone::UTC };
        for (from_ms, to_ms, sampled, said) in [
            (70 * day, 100 * day, false, &[][..]),
            (70 * day - 1_000, 100 * day, false, &["30 days", "by the day"]),
            (69 * day, 100 * day, false, &["before 1970-03-12 00:00:00"]),
            (98 * day, 99 * day + 1_000, false, &["1970-04-09 to 1970-04-10"]),
            (98 * day, 99 * day, true, &["every second"]),
        ] {
            let notes = question(from_ms, to_ms).notes(100 * day, sampled);
            assert_eq!(notes.len(), said.len(), "{notes:?}");
            let all = notes.iter().zip(said).all(|(note, said)| note.contains(said));
            assert!(all, "{notes:?}");
        }
    }
}
