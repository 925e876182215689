//! What a report is about: a span of event time, a tenant, and the zone of the tables' times.
//!
//! Pure. The statements belong to [`super::counts`] and [`super::episodes`].

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use ljwx_reading::wall_text;

/// What the report is about.
#[derive(Debug, Clone)]
pub struct Question {
    /// Event time from which on, in milliseconds since 1970.
    pub from_ms: i64,
    /// Event time before which; not after now.
    pub to_ms: i64,
    /// Only this tenant.
    pub customer_id: Option<i64>,
    /// The zone of the tables' times.
    pub zone: TimeZone,
}

impl Question {
    /// An instant as the tables write it.
    pub(super) fn wall(&self, epoch_ms: i64) -> String {
        wall_text(self.datetime(epoch_ms))
    }

    fn datetime(&self, epoch_ms: i64) -> DateTime {
        let at = Timestamp::from_millisecond(epoch_ms).unwrap_or(Timestamp::MAX);
        self.zone.to_datetime(at)
    }

    /// A time of the tables; one that stands twice means the earlier moment.
    pub(super) fn at_ms(&self, wall: DateTime) -> i64 {
        let at = self.zone.to_ambiguous_timestamp(wall).compatible();
        at.map_or(i64::MAX, Timestamp::as_millisecond)
    }

    /// The first and the last day that the span touches.
    pub(super) fn days(&self) -> (Date, Date) {
        (self.datetime(self.from_ms).date(), self.datetime(self.to_ms - 1).date())
    }
}
