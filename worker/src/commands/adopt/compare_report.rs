//! Compares old rows with adopted ones, and collects what differs by device and day. Pure.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, Write};

use jiff::civil::Date;
use ljwx_reading::{DeviceSn, Documents};
use ljwx_service::text::{Align, table_of};
use serde::Serialize;
use serde_json::Value;

use super::adopted_rows::ADOPTED_SOURCE;
use super::old_row::OldReading;
use crate::mysql::main_table::FIELDS;

/// Most devices and days that a report names, and most groups of serial numbers.
const NAMED_MAX: usize = 100;

/// Most devices and days with differences that a report counts: if all rows are missing, there are as many as
/// devices times days.
const COUNTED_MAX: usize = 100_000;

/// Largest difference of two numbers that are the same: columns round to six decimals.
const ROUNDING: f64 = 1e-6;

/// Names of the columns of the printed table.
const COLUMNS: [&str; 8] =
    ["table", "compared", "live", "older", "set aside", "missing", "differing", "behind"];

/// The values of a stored row, as text, in the order of [`stored_columns`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredRow {
    pub id: i64,
    pub last_source: i64,
    pub deliveries: i64,
    pub values: Vec<Option<String>>,
}

/// Columns of a stored row that are compared, beside [`FIELDS`].
const OWN_COLUMNS: [&str; 4] = ["customer_id", "upload_method", "phone_number", "is_deleted"];

/// Number of columns of a stored row that are compared.
pub const STORED_COLUMNS: usize = OWN_COLUMNS.len() + FIELDS.len();

/// Returns the columns of a stored row that are compared.
pub fn stored_columns() -> impl Iterator<Item = &'static str> {
    OWN_COLUMNS.into_iter().chain(FIELDS)
}

impl StoredRow {
    /// Returns whether no live delivery has merged into the row.
    pub fn is_adopted(&self) -> bool {
        // The first record of partition 0 has the source of adopted rows, too.
        self.last_source == ADOPTED_SOURCE && self.deliveries == 1 && self.id != 0
    }
}

/// Returns what an old row says, in the order of [`stored_columns`]; `None`: nothing.
fn said(old: &OldReading) -> [Option<String>; STORED_COLUMNS] {
    let (ids, vitals) = (old.reading.ids(), old.vitals());
    let whole = |value: Option<i32>| value.map(|value| value.to_string());
    let number = |value: Option<f64>| value.map(|value| value.to_string());
    let id = |value: Option<i64>| value.map(|value| value.to_string());
    [
        id(ids.customer_id),
        Some(old.reading.upload_method().as_str().to_owned()),
        old.phone_number.clone(),
        Some(i64::from(old.is_deleted).to_string()),
        id(ids.user_id),
        id(ids.org_id),
        whole(vitals.heart_rate),
        whole(vitals.blood_oxygen),
        number(vitals.temperature),
        whole(vitals.pressure_high),
        whole(vitals.pressure_low),
        whole(vitals.stress),
        whole(vitals.step),
        number(vitals.distance),
        number(vitals.calorie),
        number(vitals.latitude),
        number(vitals.longitude),
        number(vitals.altitude),
        number(vitals.sleep),
    ]
}

/// Returns the columns of a stored row that lack or change what an old row says. A later old row and a
/// live delivery may replace a value, never remove it.
pub fn differences(old: &OldReading, stored: &StoredRow) -> Vec<&'static str> {
    let is_latest = stored.is_adopted() && stored.id == old.id();
    let said = said(old);
    let columns = stored_columns().zip(said.iter().zip(&stored.values));
    let differs = columns.filter(|(_, (said, stored))| match (said, stored) {
        (Some(said), Some(stored)) => is_latest && !is_same(said, stored),
        (Some(_), None) => true,
        (None, _) => false,
    });
    differs.map(|(column, _)| column).collect()
}

fn is_same(a: &str, b: &str) -> bool {
    // Ids have more digits than a float.
    let is_whole = |text: &str| text.bytes().all(|one| one.is_ascii_digit());
    if a == b || is_whole(a) && is_whole(b) {
        return a == b;
    }
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => (a - b).abs() <= ROUNDING * a.abs().max(1.0),
        _ => false,
    }
}

/// A stored document and the source of its guard.
pub type StoredDocument = (Option<String>, Option<i64>);

/// Returns the columns of documents that lack or change those of an old row. Documents of live readings
/// replace old ones. `is_only`: no other old row has documents of the same period.
pub fn document_differences(
    old: &Documents,
    stored: &BTreeMap<&'static str, StoredDocument>,
    is_only: bool,
) -> Vec<&'static str> {
    let documents = [
        ("sleep_data", &old.sleep_data),
        ("exercise_daily_data", &old.exercise_daily_data),
        ("workout_data", &old.workout_data),
        ("scientific_sleep_data", &old.scientific_sleep_data),
        ("exercise_week_data", &old.exercise_week_data),
    ];
    let parsed = |text: &str| serde_json::from_str::<Value>(text).ok();
    let differs = documents.into_iter().filter(|(column, old)| {
        let Some(old) = old else { return false };
        match stored.get(column) {
            Some((Some(text), source)) => {
                let is_adopted = is_only && *source == Some(ADOPTED_SOURCE);
                is_adopted && parsed(text) != parsed(old.as_str())
            }
            _ => true,
        }
    });
    differs.map(|(column, _)| column).collect()
}

/// The counts of one old table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TableComparison {
    pub table: String,
    /// Rows compared.
    pub compared: i64,
    /// Of these: rows whose reading a live delivery has, too.
    pub live: i64,
    /// Of these: rows that a later old row of the same reading has replaced.
    pub older: i64,
    /// Of these: rows that were set aside.
    pub set_aside: i64,
    /// Rows of which nothing is stored.
    pub missing: i64,
    /// Rows of which a value is missing or changed.
    pub differing: i64,
    /// Rows that are not copied yet; of very many, a part.
    pub behind: i64,
}

/// The differences of one device on one day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DayDifference {
    pub table: String,
    pub device_sn: String,
    pub day: String,
    pub rows: i64,
    /// Columns; empty if the rows are missing.
    pub columns: BTreeSet<&'static str>,
}

/// The result of a comparison.
#[derive(Debug, Default, Serialize)]
pub struct ComparisonReport {
    /// Whether every compared row is there.
    pub holds: bool,
    pub tables: Vec<TableComparison>,
    /// Devices and days with differences, the first ones.
    pub days: Vec<DayDifference>,
    /// All devices and days with differences, at most [`COUNTED_MAX`].
    pub days_total: usize,
    /// Serial numbers that differ in case alone, the first groups.
    pub case_variants: Vec<Vec<String>>,
    #[serde(skip)]
    found: BTreeMap<(String, String, Date), DayDifference>,
    #[serde(skip)]
    devices: HashSet<DeviceSn>,
}

impl ComparisonReport {
    /// Takes note of a device.
    pub fn see(&mut self, device_sn: &DeviceSn) {
        if !self.devices.contains(device_sn) {
            self.devices.insert(device_sn.clone());
        }
    }

    /// Adds a row that is missing, or differs in `columns`.
    pub fn add(&mut self, table: &str, device_sn: &DeviceSn, day: Date, columns: &[&'static str]) {
        let difference = DayDifference {
            table: table.to_owned(),
            device_sn: device_sn.to_string(),
            day: day.to_string(),
            ..DayDifference::default()
        };
        let key = (table.to_owned(), device_sn.to_string(), day);
        if self.found.len() >= COUNTED_MAX && !self.found.contains_key(&key) {
            return;
        }
        let known = self.found.entry(key).or_insert(difference);
        known.rows += 1;
        known.columns.extend(columns);
    }

    /// Ends the comparison.
    pub fn conclude(mut self) -> Self {
        self.holds = self
            .tables
            .iter()
            .all(|table| table.missing == 0 && table.differing == 0 && table.behind == 0);
        self.days_total = self.found.len();
        self.days = std::mem::take(&mut self.found).into_values().take(NAMED_MAX).collect();
        let mut folded: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for device in self.devices.drain() {
            let device = device.to_string();
            folded.entry(device.to_lowercase()).or_default().push(device);
        }
        let variants = folded.into_values().filter(|group| group.len() > 1).take(NAMED_MAX);
        self.case_variants = variants.collect();
        self.case_variants.iter_mut().for_each(|group| group.sort_unstable());
        self
    }

    /// Prints the report.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let mut rows = vec![COLUMNS.map(str::to_owned)];
        rows.extend(self.tables.iter().map(|table| {
            let TableComparison { compared, live, older, set_aside, .. } = *table;
            let counts =
                [compared, live, older, set_aside, table.missing, table.differing, table.behind];
            let mut cells: [String; COLUMNS.len()] = std::array::from_fn(|_| table.table.clone());
            for (cell, count) in cells[1..].iter_mut().zip(counts) {
                *cell = count.to_string();
            }
            cells
        }));
        let mut sides = [Align::Right; COLUMNS.len()];
        sides[0] = Align::Left;
        table_of(sides, &rows, out)?;
        for DayDifference { table, device_sn, day, rows, columns } in &self.days {
            let columns: Vec<&str> = columns.iter().copied().collect();
            let what = if columns.is_empty() { "missing".to_owned() } else { columns.join(", ") };
            writeln!(out, "{table}: {device_sn} on {day}: {rows} rows: {what}")?;
        }
        if self.days_total > self.days.len() {
            let least = if self.days_total >= COUNTED_MAX { "at least " } else { "" };
            let more = self.days_total - self.days.len();
            writeln!(out, "… and {least}{more} more devices and days")?;
        }
        for group in &self.case_variants {
            writeln!(out, "note: devices that differ in case alone: {}", group.join(", "))?;
        }
        writeln!(out, "{}", if self.holds { "holds" } else { "does not hold" })
    }
}

#[cfg(test)]
mod tests {
    use super::super::adopted_rows::merge;
    use super::*;

    /// Returns the row that these old rows are stored as.
    fn stored(olds: &[OldReading]) -> StoredRow {
        let merged = merge(olds.to_vec());
        let latest = olds.last().unwrap();
        let row = &merged.values().next().unwrap().row;
        let whole = OldReading { sleep: row.vitals.sleep, ..latest.clone() };
        let mut values = said(&whole).to_vec();
        values[6] = row.vitals.heart_rate.map(|rate| rate.to_string());
        values[8] = row.vitals.temperature.map(|value| format!("{value:.3}"));
        StoredRow { id: row.id, last_source: 0, deliveries: 1, values }
    }

    #[test]
    fn the_latest_old_row_is_there_exactly_and_an_earlier_one_is_not_lost() {
        let first = OldReading::of_columns(5, &[("heart_rate", "80"), ("temperature", "36.5")]);
        let second = OldReading::of_columns(9, &[("heart_rate", "81")]);
        let row = stored(&[first.clone(), second.clone()]);
        assert!(differences(&second, &row).is_empty(), "36.500 is 36.5");
        assert!(differences(&first, &row).is_empty(), "81 has replaced 80");

        let mut changed = row.clone();
        changed.values[6] = Some("99".to_owned());
        assert_eq!(differences(&second, &changed), ["heart_rate"]);
        assert!(differences(&first, &changed).is_empty());
        for (last_source, deliveries) in [(17, 2), (0, 2)] {
            let live = StoredRow { last_source, deliveries, ..changed.clone() };
            assert!(differences(&second, &live).is_empty(), "a live delivery has replaced it");
        }

        let mut lost = row;
        lost.values[8] = None;
        assert_eq!(differences(&first, &lost), ["temperature"]);
    }

    #[test]
    fn differences_are_named_by_device_and_day_and_so_are_serials_that_differ_in_case() {
        let mut report = ComparisonReport::default();
        let day = |text: &str| text.parse().unwrap();
        let device = |text: &str| DeviceSn::new(text).unwrap();
        for serial in ["AB1", "ab1", "AB2"] {
            report.see(&device(serial));
        }
        report.add("t", &device("AB1"), day("2025-09-02"), &["heart_rate"]);
        report.add("t", &device("AB1"), day("2025-09-02"), &["step", "heart_rate"]);
        report.add("t", &device("AB1"), day("2025-09-03"), &[]);
        let table = TableComparison { table: "t".to_owned(), differing: 3, ..Default::default() };
        report.tables.push(table);
        let report = report.conclude();
        assert!(!report.holds);
        assert_eq!(report.case_variants, [["AB1", "ab1"]]);
        let mut out = Vec::new();
        report.print(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in [
            "t: AB1 on 2025-09-02: 2 rows: heart_rate, step\n",
            "t: AB1 on 2025-09-03: 1 rows: missing\n",
            "does not hold\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
