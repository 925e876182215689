//! The newest document of each kind per device and day, and per device and week, of one batch. Pure:
//! `tables` makes statements of them.

use std::collections::BTreeMap;

use jiff::civil::{Date, DateTime};
use ljwx_reading::{DeviceSn, Document, Ids};

use crate::batch::Segment;
use crate::batch::row::Row;

/// When and where a document came from: the newest time wins, of one time the latest source.
pub type Guard = (DateTime, i64);

/// A document with its guard.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guarded<'a> {
    /// When and where it came from.
    pub guard: Guard,
    /// What it says.
    pub content: Content<'a>,
}

/// What a document says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Content<'a> {
    /// This.
    Document(&'a Document),
    /// The same as the stored one, which came from this source: only the guard moves.
    As(i64),
}

/// A table of periods.
#[derive(Debug, Clone, Copy)]
pub struct Kind<const N: usize> {
    pub(super) table: &'static str,
    pub(super) day: &'static str,
    pub(super) columns: [&'static str; N],
}

/// The daily table.
pub const DAILY: Kind<4> = Kind {
    table: "t_user_health_data_daily",
    day: "date",
    columns: ["sleep_data", "exercise_daily_data", "workout_data", "scientific_sleep_data"],
};

/// The weekly table.
pub const WEEKLY: Kind<1> =
    Kind { table: "t_user_health_data_weekly", day: "week_start", columns: ["exercise_week_data"] };

/// Documents of one day of one device, or of one week, in the order of their table's columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Period<'a, const N: usize> {
    /// Source of the first delivery.
    pub id: i64,
    /// The largest id of each kind: the same whatever the order, and the newest where ids grow.
    pub ids: Ids,
    /// What the device is bound to, where its readings do not say.
    pub bound: Ids,
    /// The documents.
    pub documents: [Option<Guarded<'a>>; N],
}

impl<const N: usize> Period<'_, N> {
    /// Whether only guards move, of a row that must be there.
    pub fn moves_only(&self) -> bool {
        self.documents.iter().flatten().any(|slot| matches!(slot.content, Content::As(_)))
    }
}

/// A device and the first day of a period.
pub type Key<'a> = (&'a DeviceSn, Date);

/// Periods, sorted as their table's key is.
pub type Periods<'a, const N: usize> = BTreeMap<Key<'a>, Period<'a, N>>;

/// The periods of a batch, of both tables.
#[derive(Debug, PartialEq)]
pub struct Calendar<'a> {
    /// Of the daily table.
    pub days: Periods<'a, 4>,
    /// Of the weekly table.
    pub weeks: Periods<'a, 1>,
}

impl<'a> Calendar<'a> {
    /// Everything that `segments` have documents for.
    pub fn of(segments: &'a [Segment]) -> Self {
        Self { days: daily(segments), weeks: weekly(segments) }
    }
}

/// A row's document of one kind and its source.
type Found<'a> = (&'a Option<Document>, i64);

/// The days that `segments` have documents for.
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

/// The weeks that `segments` have documents for.
fn weekly(segments: &[Segment]) -> Periods<'_, 1> {
    collect(segments, monday, |row| {
        [(&row.documents.exercise_week_data, row.document_sources.exercise_week_data)]
    })
}

fn monday(date: Date) -> Option<Date> {
    let days = i64::from(date.weekday().to_monday_zero_offset());
    date.checked_sub(jiff::Span::new().days(days)).ok()
}

fn collect<'a, const N: usize>(
    segments: &'a [Segment],
    first_day: impl Fn(Date) -> Option<Date>,
    documents: impl Fn(&'a Row) -> [Found<'a>; N],
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
                *slot = Some(Guarded { guard, content: Content::Document(document) });
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
