//! The subject of a report: a period of event time, a tenant, and the zone of the tables' times.
//!
//! Pure. [`super::counts`] and [`super::episodes`] hold the statements.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use ljwx_reading::wall_text;
use ljwx_service::config::TimeArg;

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
}
