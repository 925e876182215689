//! The newest document of each kind per device and day, and per device and week, of one batch.

use std::collections::BTreeMap;

use common::reading::{DeviceSn, Document, Ids};
use jiff::civil::{Date, DateTime};

use crate::batch::Segment;
use crate::row::Row;

/// When and where a document came from: the newest time wins, of one time the latest source.
pub type Guard = (DateTime, i64);

/// A document with its guard.
pub type Guarded<'a> = Option<(Guard, &'a Document)>;

/// Documents of one day of one device, in the order of [`DAILY_COLUMNS`], or of one week, in that
/// of [`WEEKLY_COLUMNS`].
#[derive(Debug, PartialEq)]
pub struct Period<'a, const N: usize> {
    /// Source of the first delivery.
    pub id: i64,
    /// The largest id of each kind: the same whatever the order, and the newest where ids grow.
    pub ids: Ids,
    /// The documents.
    pub documents: [Guarded<'a>; N],
}

/// Columns of the daily table.
pub const DAILY_COLUMNS: [&str; 4] =
    ["sleep_data", "exercise_daily_data", "workout_data", "scientific_sleep_data"];

/// Columns of the weekly table.
pub const WEEKLY_COLUMNS: [&str; 1] = ["exercise_week_data"];

/// Periods by device and first day, sorted as their table's key is.
pub type Periods<'a, const N: usize> = BTreeMap<(&'a DeviceSn, Date), Period<'a, N>>;

/// The days that `segments` have documents for.
pub fn daily(segments: &[Segment]) -> Periods<'_, 4> {
    collect(segments, Some, |row| {
        let documents = &row.documents;
        [
            documents.sleep_data.as_ref(),
            documents.exercise_daily_data.as_ref(),
            documents.workout_data.as_ref(),
            documents.scientific_sleep_data.as_ref(),
        ]
    })
}

/// The weeks that `segments` have documents for.
pub fn weekly(segments: &[Segment]) -> Periods<'_, 1> {
    collect(segments, monday, |row| [row.documents.exercise_week_data.as_ref()])
}

fn monday(date: Date) -> Option<Date> {
    let days = i64::from(date.weekday().to_monday_zero_offset());
    date.checked_sub(jiff::Span::new().days(days)).ok()
}

fn collect<'a, const N: usize>(
    segments: &'a [Segment],
    first_day: impl Fn(Date) -> Option<Date>,
    documents: impl Fn(&'a Row) -> [Option<&'a Document>; N],
) -> Periods<'a, N> {
    let mut periods = Periods::new();
    let rows = segments.iter().flat_map(Segment::all_rows);
    for ((device_sn, timestamp), row) in rows.filter(|(_, row)| !row.ahead) {
        let found = documents(row);
        if found.iter().all(Option::is_none) {
            continue;
        }
        let Some(day) = first_day(timestamp.date()) else { continue };
        let period = periods.entry((device_sn, day)).or_insert_with(|| Period {
            id: row.id,
            ids: row.ids,
            documents: [None; N],
        });
        period.id = period.id.min(row.id);
        period.ids = largest(period.ids, row.ids);
        for (slot, document) in period.documents.iter_mut().zip(found) {
            let Some(document) = document else { continue };
            let guard = (*timestamp, row.last_source);
            if slot.is_none_or(|(held, _)| guard >= held) {
                *slot = Some((guard, document));
            }
        }
    }
    periods
}

fn largest(a: Ids, b: Ids) -> Ids {
    Ids {
        customer_id: a.customer_id.max(b.customer_id),
        org_id: a.org_id.max(b.org_id),
        user_id: a.user_id.max(b.user_id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weeks_start_on_monday() {
        for (day, first) in [("2025-09-01", "2025-09-01"), ("2025-09-07", "2025-09-01")] {
            let expected: Date = first.parse().unwrap();
            assert_eq!(monday(day.parse().unwrap()), Some(expected));
        }
    }
}
