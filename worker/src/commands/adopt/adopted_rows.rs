//! Merges old rows by identity, and writes the statements that store them. Pure.
//!
//! A live delivery is later than every old row. So an old row fills what a live row lacks and replaces
//! nothing. Of old rows of one identity, the later id wins field by field. Rows come in the order of their
//! ids, and the stored `id` and `last_source` tell an adopted row from one with a live delivery.

use std::collections::BTreeMap;

use jiff::civil::{DateTime, Time};
use ljwx_ledger::mysql::sql::{Dialect, ValueList, fill};
use ljwx_reading::{Document, Ids, Reading};

use super::old_row::{OldReading, SetAside};
use super::source::TableKind;
use crate::batch::row::{Identity, ReadingRow, adopted_id, identity};
use crate::mysql::daily_weekly::{
    DocumentContent, GuardedDocument, Period, PeriodDocuments, PeriodKey, Periods, monday,
};
use crate::mysql::main_table::{FIELDS, MAIN_TABLE, columns, write_row};

/// The source of adopted rows and documents: before every delivery.
pub const ADOPTED_SOURCE: i64 = 0;

/// Old rows of one identity, merged.
#[derive(Debug, Clone, PartialEq)]
pub struct AdoptedRow {
    /// Id of the latest row in the old table.
    pub old_id: i64,
    pub row: ReadingRow,
    phone_number: Option<String>,
    is_deleted: bool,
    created: DateTime,
    updated: DateTime,
}

impl AdoptedRow {
    fn new(old: OldReading) -> Self {
        let mut row = ReadingRow::new(&old.reading, ADOPTED_SOURCE);
        row.id = old.id();
        row.vitals.sleep = old.sleep;
        Self {
            old_id: old.old_id,
            row,
            phone_number: old.phone_number,
            is_deleted: old.is_deleted,
            created: old.created,
            updated: old.updated,
        }
    }

    fn merge(&mut self, later: OldReading) {
        self.row.merge(&later.reading, ADOPTED_SOURCE);
        // All old rows of an identity count as one delivery: copied again, they are not more.
        self.row.deliveries = 1;
        self.row.id = later.id();
        self.row.vitals.sleep = later.sleep.or(self.row.vitals.sleep);
        self.old_id = later.old_id;
        self.phone_number = later.phone_number.or(self.phone_number.take());
        self.is_deleted = later.is_deleted;
        self.updated = self.updated.max(later.updated);
    }
}

/// Merges readings in the order of their ids, by identity.
pub fn merge(readings: Vec<OldReading>) -> BTreeMap<Identity, AdoptedRow> {
    let mut merged: BTreeMap<Identity, AdoptedRow> = BTreeMap::new();
    for reading in readings {
        let key = identity(&reading.reading);
        match merged.get_mut(&key) {
            Some(row) => row.merge(reading),
            None => drop(merged.insert(key, AdoptedRow::new(reading))),
        }
    }
    merged
}

/// The statements of adopted rows, in the dialect of one server.
#[derive(Debug, Clone)]
pub struct AdoptedStatements {
    head: String,
    tail: String,
    aside_tail: String,
}

impl AdoptedStatements {
    /// Creates the statements.
    pub fn new(dialect: Dialect) -> Self {
        let columns = columns();
        Self {
            head: format!(
                "INSERT INTO {MAIN_TABLE} ({columns},phone_number,is_deleted,create_time,update_time) \
                 VALUES"
            ),
            tail: tail(dialect),
            aside_tail: format!(
                "{} ON DUPLICATE KEY UPDATE reason={},content={}",
                dialect.alias(),
                dialect.incoming("reason"),
                dialect.incoming("content")
            ),
        }
    }

    /// Returns the upserts of rows in texts of at most `bytes_max` bytes, with their numbers of rows.
    pub fn upserts<'a>(
        &self,
        rows: impl ExactSizeIterator<Item = (&'a Identity, &'a AdoptedRow)>,
        bytes_max: usize,
    ) -> Vec<(String, i64)> {
        fill(&self.head, &self.tail, bytes_max, rows, write)
    }

    /// Returns the statements that keep what was set aside of a table.
    pub fn set_aside(&self, table: &str, aside: &[SetAside], bytes_max: usize) -> Vec<String> {
        let head =
            "INSERT INTO adopt_set_aside (source_table,source_id,field,reason,content) VALUES";
        let texts =
            fill(head, &self.aside_tail, bytes_max, aside.iter(), |rows, one: &SetAside| {
                rows.string(table);
                rows.whole(one.id);
                rows.string(&one.field);
                rows.string(one.reason);
                rows.string(&one.content);
            });
        texts.into_iter().map(|(text, _)| text).collect()
    }
}

fn write(rows: &mut ValueList, (identity, adopted): (&Identity, &AdoptedRow)) {
    write_row(rows, (identity, &adopted.row));
    rows.optional_string(adopted.phone_number.as_deref());
    rows.whole(i64::from(adopted.is_deleted));
    rows.datetime(Some(adopted.created));
    rows.datetime(Some(adopted.updated));
}

fn tail(dialect: Dialect) -> String {
    let stored = |column: &str| format!("{MAIN_TABLE}.`{column}`");
    // The first record of partition 0 has the source of adopted rows, too.
    let is_adopted = format!(
        "{}={ADOPTED_SOURCE} AND {}=1 AND {}<>0",
        stored("last_source"),
        stored("deliveries"),
        stored("id")
    );
    let mut tail = format!("{} ON DUPLICATE KEY UPDATE ", dialect.alias());
    for column in FIELDS.into_iter().chain(["phone_number"]) {
        let (new, old) = (dialect.incoming(column), stored(column));
        tail.push_str(&format!(
            "`{column}`=IF({is_adopted},COALESCE({new},{old}),COALESCE({old},{new})),"
        ));
    }
    let (new, old) = (dialect.incoming("customer_id"), stored("customer_id"));
    tail.push_str(&format!("customer_id=IF({new}<>0 AND ({old}=0 OR {is_adopted}),{new},{old}),"));
    // The column would move by itself. Assign the conditions' columns last.
    for column in ["upload_method", "is_deleted", "update_time", "id"] {
        let (new, old) = (dialect.incoming(column), stored(column));
        let comma = if column == "id" { "" } else { "," };
        tail.push_str(&format!("{column}=IF({is_adopted},{new},{old}){comma}"));
    }
    tail
}

/// An old row of a daily or weekly table.
#[derive(Debug)]
pub struct OldPeriod {
    pub old_id: i64,
    /// The documents, in a reading at the start of the period.
    pub reading: Reading,
}

/// Collects the documents of old rows, which come in the order of their ids. Their guards are the start of
/// the period, so every document of a reading replaces them.
pub fn documents(kind: TableKind, periods: &[OldPeriod]) -> PeriodDocuments<'_> {
    let mut collected = PeriodDocuments { days: BTreeMap::new(), weeks: BTreeMap::new() };
    for period in periods {
        let (reading, date) = (&period.reading, period.reading.timestamp().date());
        let documents = reading.documents();
        if kind == TableKind::Weekly {
            let Some(week) = monday(date) else { continue };
            let found = [&documents.exercise_week_data];
            add(&mut collected.weeks, (reading.device_sn(), week), period, found);
        } else {
            let found = [
                &documents.sleep_data,
                &documents.exercise_daily_data,
                &documents.workout_data,
                &documents.scientific_sleep_data,
            ];
            add(&mut collected.days, (reading.device_sn(), date), period, found);
        }
    }
    collected
}

fn add<'a, const N: usize>(
    periods: &mut Periods<'a, N>,
    key: PeriodKey<'a>,
    old: &'a OldPeriod,
    documents: [&'a Option<Document>; N],
) {
    let guard = (key.1.to_datetime(Time::midnight()), ADOPTED_SOURCE);
    let period = periods.entry(key).or_insert_with(|| Period {
        id: adopted_id(old.old_id),
        ids: Ids::default(),
        bound: Ids::default(),
        documents: [None; N],
    });
    // Like those of a binding, these ids fill and replace none.
    period.bound = old.reading.ids().or(period.bound);
    for (slot, document) in period.documents.iter_mut().zip(documents) {
        if let Some(document) = document {
            *slot = Some(GuardedDocument { guard, content: DocumentContent::Document(document) });
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::super::old_row::{Clock, OldRow, read_period};
    use super::*;

    #[test]
    fn of_old_rows_of_one_identity_the_later_wins_field_by_field() {
        let first =
            OldReading::of_columns(5, &[("heart_rate", "80"), ("stress", "40"), ("sleep", "7")]);
        let second = OldReading::of_columns(
            9,
            &[("heart_rate", "81"), ("step", "3"), ("phone_number", "139")],
        );
        let merged = merge(vec![first, second]);
        let row = merged.values().next().unwrap();
        let vitals = &row.row.vitals;
        assert_eq!((vitals.heart_rate, vitals.stress, vitals.step), (Some(81), Some(40), Some(3)));
        assert_eq!((vitals.sleep, row.phone_number.as_deref()), (Some(7.0), Some("139")));
        assert_eq!((row.row.id, row.row.last_source, row.row.deliveries), (-9, 0, 1));
        assert_eq!((merged.len(), row.old_id), (1, 9));
    }

    #[test]
    fn the_upsert_assigns_its_conditions_last_and_names_each_column_once() {
        for dialect in [Dialect::MariaDb, Dialect::MySql] {
            let statements = AdoptedStatements::new(dialect);
            let merged = merge(vec![OldReading::of_columns(5, &[("heart_rate", "80")])]);
            let texts = statements.upserts(merged.iter(), usize::MAX);
            let (text, rows) = &texts[0];
            assert_eq!((texts.len(), *rows), (1, 1));
            let (insert, update) = text.split_once("ON DUPLICATE KEY UPDATE ").unwrap();
            let (columns, values) = insert.split_once(") VALUES (").unwrap();
            let count = columns.split_once('(').unwrap().1.split(',').count();
            assert_eq!(values.split(',').count(), count, "{insert}");
            assert!(update.rsplit_once(",id=IF(").is_some_and(|(_, id)| !id.contains("=IF(")));
            assert!(!update.contains("last_source=IF"), "a live delivery's source stays");
        }
    }

    proptest! {
        #[test]
        fn where_old_rows_are_cut_into_chunks_changes_nothing(
            rates in proptest::collection::vec(proptest::option::of(60_u8..90), 1..12),
            cut in 0_usize..12,
        ) {
            let readings = |range: &[Option<u8>], first: usize| -> Vec<OldReading> {
                (first..).zip(range).map(|(id, rate)| {
                    let rate = rate.map(|rate| rate.to_string());
                    let columns = rate.iter().map(|rate| ("heart_rate", rate.as_str()));
                    OldReading::of_columns(id as i64, &columns.collect::<Vec<_>>())
                }).collect()
            };
            let cut = cut.min(rates.len());
            let whole = merge(readings(&rates, 1));
            let last = rates.iter().flatten().next_back().map(|rate| i32::from(*rate));
            let stored = merge(readings(&rates[..cut], 1));
            let later = merge(readings(&rates[cut..], 1 + cut));
            // The upsert of a later chunk over an adopted row.
            let rate = |rows: &BTreeMap<Identity, AdoptedRow>| {
                rows.values().next().and_then(|row| row.row.vitals.heart_rate)
            };
            prop_assert_eq!(rate(&whole), last);
            prop_assert_eq!(rate(&later).or(rate(&stored)), last);
        }
    }

    #[test]
    fn the_documents_of_a_period_have_the_guard_of_its_start_and_fill_only_ids() {
        let (zone, now) = (TimeZone::UTC, Timestamp::now());
        let clock = Clock { zone: &zone, now };
        let columns = [
            ("device_sn", "A1"),
            ("week_start", "2025-09-03"),
            ("user_id", "12"),
            ("exercise_week_data", r#"{"data":[1]}"#),
        ];
        let columns = columns.map(|(name, value)| (name, Some(value.to_owned()))).to_vec();
        let row = OldRow { id: 3, columns };
        let (reading, _) = read_period(&row, "week_start", clock).unwrap();
        let periods = [OldPeriod { old_id: 3, reading }];
        let collected = documents(TableKind::Weekly, &periods);
        let ((_, week), period) = collected.weeks.iter().next().unwrap();
        assert_eq!(week.to_string(), "2025-09-01", "weeks start on Monday");
        assert_eq!((period.ids.user_id, period.bound.user_id), (None, Some(12)));
        let guard = period.documents[0].unwrap().guard;
        assert_eq!((guard.0.to_string().as_str(), guard.1), ("2025-09-01T00:00:00", 0));
        assert!(collected.days.is_empty());
    }
}
