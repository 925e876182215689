//! Makes readings and documents of the rows of an earlier server, by the rules of a device's readings.
//! Pure.
//!
//! The columns of a row become the fields of an item, and `Reading::parse` reads the item. So a row is
//! accepted and rejected as if its device sent it again. `adopted_rows` merges the results.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ljwx_reading::{Ids, ParseContext, Reading, RejectionCode, Vitals, WarningCode};
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use crate::batch::row::adopted_id;
use crate::mysql::main_table::FIELDS;

/// Columns of readings that are fields of an item of the same name, beside [`FIELDS`].
const OWN_COLUMNS: [&str; 4] = ["device_sn", "timestamp", "customer_id", "upload_method"];

/// Returns the columns of readings that are fields of an item of the same name. Hours of sleep are
/// none: in an item, they come from the document.
pub fn item_columns() -> impl Iterator<Item = &'static str> {
    OWN_COLUMNS.into_iter().chain(FIELDS).filter(|column| *column != "sleep")
}

/// Columns of documents, with the names of their fields in an item. Those of days come first.
pub static DOCUMENT_COLUMNS: [(&str, &str); 5] = [
    ("sleep_data", "sleepData"),
    ("exercise_daily_data", "exerciseDailyData"),
    ("workout_data", "workoutData"),
    ("scientific_sleep_data", "scientificSleepData"),
    ("exercise_week_data", "exerciseWeekData"),
];

/// Most characters of the column `phone_number`.
const PHONE_CHARS_MAX: usize = 20;

/// Most hours of sleep, as in a reading.
const SLEEP_HOURS_MAX: f64 = 100_000.0;

/// Years that a TIMESTAMP column takes in every time zone.
const TIMESTAMP_YEARS: std::ops::RangeInclusive<i16> = 1971..=2037;

/// The reason to set a row aside that has no time. A device's reading would get the time of its receipt.
const MISSING_TIMESTAMP: &str = "missing_timestamp";

/// A row of an old table, every value as the server's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldRow {
    pub id: i64,
    /// Values by column; `None`: NULL, or the table lacks the column.
    pub columns: Vec<(&'static str, Option<String>)>,
}

/// A row that cannot become a reading, or a value that a reading cannot have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAside {
    /// Id of the row in the old table.
    pub id: i64,
    /// The column; empty for the whole row.
    pub field: String,
    /// Stable word.
    pub reason: &'static str,
    /// The row as a JSON object, or the value.
    pub content: String,
}

/// The time zone of the old rows and the present moment.
#[derive(Debug, Clone, Copy)]
pub struct Clock<'a> {
    pub zone: &'a TimeZone,
    pub now: Timestamp,
}

/// A reading of an old row, and the columns that no device sends.
#[derive(Debug, Clone, PartialEq)]
pub struct OldReading {
    /// Id of the row in the old table.
    pub old_id: i64,
    pub reading: Reading,
    /// Hours of sleep. In an item, they come from the document.
    pub sleep: Option<f64>,
    pub phone_number: Option<String>,
    pub is_deleted: bool,
    pub created: DateTime,
    pub updated: DateTime,
}

impl OldReading {
    /// Returns the id under which the row is adopted.
    pub fn id(&self) -> i64 {
        adopted_id(self.old_id)
    }

    /// Returns all numbers of the row.
    pub fn vitals(&self) -> Vitals {
        Vitals { sleep: self.sleep, ..*self.reading.vitals() }
    }

    /// Returns the reading of a row with these columns, of one device and one second.
    #[cfg(test)]
    pub fn of_columns(id: i64, columns: &[(&'static str, &str)]) -> Self {
        let (zone, now) = (TimeZone::UTC, Timestamp::now());
        let given = [("device_sn", "A1"), ("timestamp", "2025-09-02 16:09:00")].into_iter();
        let columns = given.chain(columns.iter().copied());
        let columns = columns.map(|(name, value)| (name, Some(value.to_owned()))).collect();
        read_reading(&OldRow { id, columns }, Clock { zone: &zone, now }).unwrap().0
    }
}

/// Fields of an item, in the form of a JSON object.
struct Item<'a>(Vec<(&'a str, &'a str)>);

impl Serialize for Item<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

impl OldRow {
    /// Returns the value of a column.
    pub fn get(&self, column: &str) -> Option<&str> {
        let named = self.columns.iter().find(|(name, _)| *name == column);
        named.and_then(|(_, value)| value.as_deref())
    }

    /// Returns the whole row as a JSON object.
    pub fn to_json(&self) -> String {
        let named =
            self.columns.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        serde_json::to_string(&Item(named.collect())).unwrap_or_default()
    }

    /// Sets the whole row aside.
    pub fn set_aside(&self, reason: &'static str) -> SetAside {
        SetAside { id: self.id, field: String::new(), reason, content: self.to_json() }
    }

    fn set_value_aside(&self, column: &str, reason: &'static str) -> SetAside {
        let content = self.get(column).unwrap_or_default().to_owned();
        SetAside { id: self.id, field: column.to_owned(), reason, content }
    }

    fn wall(&self, column: &str) -> Option<DateTime> {
        let at: DateTime = self.get(column)?.parse().ok()?;
        TIMESTAMP_YEARS.contains(&at.year()).then_some(at)
    }

    fn item(&self, fields: Vec<(&str, &str)>) -> Result<Box<RawValue>, SetAside> {
        to_raw_value(&Item(fields)).map_err(|_| self.set_aside(RejectionCode::InvalidItem.as_str()))
    }

    /// Parses an item of this row, received at `received_at`. Returns the values that it cannot have
    /// beside the reading.
    fn parse(
        &self,
        item: &RawValue,
        zone: &TimeZone,
        received_at: Timestamp,
    ) -> Result<(Reading, Vec<SetAside>), SetAside> {
        let context =
            ParseContext { zone, received_at, index: 0, ids: Ids::default(), id_warnings: &[] };
        let reading = Reading::parse(item, &context)
            .map_err(|rejection| self.set_aside(rejection.code.as_str()))?;
        let mut aside = Vec::new();
        for warning in reading.warnings() {
            match warning.code {
                WarningCode::Missing => return Err(self.set_aside(MISSING_TIMESTAMP)),
                WarningCode::AheadOfClock => {}
                code => aside.push(self.set_value_aside(&warning.field, code.as_str())),
            }
        }
        Ok((reading, aside))
    }
}

/// Reads a row of the main table or of an archive.
pub fn read_reading(
    row: &OldRow,
    clock: Clock<'_>,
) -> Result<(OldReading, Vec<SetAside>), SetAside> {
    let fields = item_columns().filter_map(|name| Some((name, row.get(name)?)));
    let item = row.item(fields.collect())?;
    let created = row.wall("create_time");
    let instant = |at| clock.zone.to_ambiguous_timestamp(at).compatible().ok();
    let received_at = created.and_then(instant).unwrap_or(clock.now);
    let (reading, mut aside) = row.parse(&item, clock.zone, received_at)?;
    let sleep = hours_of_sleep(row, &mut aside);
    let phone_number = phone_number(row, &mut aside);
    let at = reading.timestamp();
    let created = created.unwrap_or(at);
    // An update before the reading's own time would mean that the device's clock was ahead: such a
    // reading is never a device's newest. Servers in another time zone have such times in all rows.
    let updated = row.wall("update_time").unwrap_or(created).max(at);
    let is_deleted = row.get("is_deleted").is_some_and(|flag| !matches!(flag, "" | "0" | "\0"));
    let old =
        OldReading { old_id: row.id, reading, sleep, phone_number, is_deleted, created, updated };
    Ok((old, aside))
}

fn hours_of_sleep(row: &OldRow, aside: &mut Vec<SetAside>) -> Option<f64> {
    let hours: f64 = row.get("sleep")?.trim().parse().ok()?;
    let hours = (hours * 100.0).round() / 100.0;
    if !(0.0..=SLEEP_HOURS_MAX).contains(&hours) {
        aside.push(row.set_value_aside("sleep", WarningCode::OutOfRange.as_str()));
        return None;
    }
    (hours > 0.0).then_some(hours)
}

fn phone_number(row: &OldRow, aside: &mut Vec<SetAside>) -> Option<String> {
    let number = row.get("phone_number").map(str::trim).filter(|number| !number.is_empty())?;
    if number.chars().count() > PHONE_CHARS_MAX {
        aside.push(row.set_value_aside("phone_number", WarningCode::TooLarge.as_str()));
        return None;
    }
    Some(number.to_owned())
}

/// Reads a row of a daily or weekly table: a reading at the start of its day or week, which is in the
/// column `first_day`, with documents.
pub fn read_period(
    row: &OldRow,
    first_day: &str,
    clock: Clock<'_>,
) -> Result<(Reading, Vec<SetAside>), SetAside> {
    let day = row.get(first_day).map(|day| format!("{day} 00:00:00"));
    let ids = ["device_sn", "customer_id", "org_id", "user_id"];
    let mut fields: Vec<(&str, &str)> =
        ids.into_iter().filter_map(|name| Some((name, row.get(name)?))).collect();
    fields.extend(day.as_deref().map(|day| ("timestamp", day)));
    let documents = DOCUMENT_COLUMNS.iter();
    fields.extend(documents.filter_map(|(column, field)| Some((*field, row.get(column)?))));
    let item = row.item(fields)?;
    row.parse(&item, clock.zone, clock.now)
}

#[cfg(test)]
#[path = "old_row_tests.rs"]
mod tests;
