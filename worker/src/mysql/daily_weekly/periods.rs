//! Collects the newest document of each kind in a batch, per device and day, and per device and
//! week. Pure: `tables` makes statements of them.

use std::collections::BTreeMap;

use jiff::civil::{Date, DateTime};
use ljwx_reading::{DeviceSn, Document, Ids};

use crate::batch::Segment;
use crate::batch::row::ReadingRow;

/// Time and source of the reading that a document came with. The newest time wins, and of equal
/// times the latest source.
pub type Guard = (DateTime, i64);

/// A document with its guard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GuardedDocument<'a> {
    pub guard: Guard,
    pub content: DocumentContent<'a>,
}

/// The content of a document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DocumentContent<'a> {
    /// The document itself.
    Document(&'a Document),
    /// The same as the stored document, which came from this source. Only the guard moves.
    Unchanged(i64),
}

/// A table of periods.
#[derive(Debug, Clone, Copy)]
pub struct PeriodTable<const N: usize> {
    pub(super) table: &'static str,
    pub(super) day: &'static str,
    pub(super) columns: [&'static str; N],
}

/// The daily table.
pub const DAILY: PeriodTable<4> = PeriodTable {
    table: "t_user_health_data_daily",
    day: "date",
    columns: ["sleep_data", "exercise_daily_data", "workout_data", "scientific_sleep_data"],
};

/// The weekly table.
pub const WEEKLY: PeriodTable<1> = PeriodTable {
    table: "t_user_health_data_weekly",
    day: "week_start",
    columns: ["exercise_week_data"],
};

/// The documents of one device's day or week, in the order of the table's columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Period<'a, const N: usize> {
    /// Source of the first delivery.
    pub id: i64,
    /// The largest id of each kind: independent of the order, and the newest if ids grow.
    pub ids: Ids,
    /// The ids of the device's binding, if its readings do not have all ids.
    pub bound: Ids,
    pub documents: [Option<GuardedDocument<'a>>; N],
}

impl<const N: usize> Period<'_, N> {
    /// Returns whether only guards move, so that the row must exist.
    pub fn moves_only(&self) -> bool {
        self.documents
            .iter()
            .flatten()
            .any(|slot| matches!(slot.content, DocumentContent::Unchanged(_)))
    }
}

/// A device and the first day of a period.
pub type PeriodKey<'a> = (&'a DeviceSn, Date);

/// Periods in the order of their table's key.
pub type Periods<'a, const N: usize> = BTreeMap<PeriodKey<'a>, Period<'a, N>>;

/// The periods of a batch, of both tables.
#[derive(Debug, PartialEq)]
pub struct PeriodDocuments<'a> {
    /// Periods of the daily table.
    pub days: Periods<'a, 4>,
    /// Periods of the weekly table.
    pub weeks: Periods<'a, 1>,
}

impl<'a> PeriodDocuments<'a> {
    /// Collects the periods that `segments` have documents for.
    pub fn of(segments: &'a [Segment]) -> Self {
        Self { days: daily(segments), weeks: weekly(segments) }
    }
}

/// A row's document of one kind and its source.
type SourcedDocument<'a> = (&'a Option<Document>, i64);

/// Returns the days that `segments` have documents for.
fn daily(segments: &[Segment]) -> Periods<'_, 4> {
    collect(segments, Some, |row| {
        let (documents, from) = (&row.documents, &row.document_sources);
        [
            (&documents.sleep_data, from.sleep_data),
            (&documents.exercise_daily_data, from.exercise_daily_data),
            (&documents.workout_data, from.workout_data),
            (&documents.scientific_sleep_data, from.scientific_sleep_data),
        ]
    })
}

/// Returns the weeks that `segments` have documents for.
fn weekly(segments: &[Segment]) -> Periods<'_, 1> {
    collect(segments, monday, |row| {
        [(&row.documents.exercise_week_data, row.document_sources.exercise_week_data)]
    })
}

/// Returns the first day of the week of `date`; `None` at the end of the calendar.
pub fn monday(date: Date) -> Option<Date> {
    let days = i64::from(date.weekday().to_monday_zero_offset());
    date.checked_sub(jiff::Span::new().days(days)).ok()
}

fn collect<'a, const N: usize>(
    segments: &'a [Segment],
    first_day: impl Fn(Date) -> Option<Date>,
    documents: impl Fn(&'a ReadingRow) -> [SourcedDocument<'a>; N],
) -> Periods<'a, N> {
    let mut periods = Periods::new();
    for ((device_sn, timestamp), row) in segments.iter().flat_map(Segment::all_rows) {
        let found = documents(row);
        if found.iter().all(|(document, _)| document.is_none()) {
            continue;
        }
        let Some(day) = first_day(timestamp.date()) else { continue };
        let period = periods.entry((device_sn, day)).or_insert_with(|| Period {
            id: row.id,
            ids: row.ids,
            bound: row.bound,
            documents: [None; N],
        });
        period.id = period.id.min(row.id);
        period.ids = largest(period.ids, row.ids);
        period.bound = largest(period.bound, row.bound);
        for (slot, (document, source)) in period.documents.iter_mut().zip(found) {
            let Some(document) = document else { continue };
            let guard = (*timestamp, source);
            if slot.is_none_or(|held| guard >= held.guard) {
                *slot =
                    Some(GuardedDocument { guard, content: DocumentContent::Document(document) });
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
