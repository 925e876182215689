//! A row of the main table before it is written: one reading, or several deliveries of one
//! identity, merged. A later delivery wins field by field. The upsert in `mysql::main_table`
//! follows the same rule, so the place at which a batch is cut changes nothing.

use jiff::civil::DateTime;
use ljwx_reading::{DeviceSn, Documents, Ids, Reading, UploadMethod, Vitals};

/// Number of sources of one Kafka partition.
pub const PARTITION_SOURCES: i64 = 1 << 40;

/// Returns the source of a delivery: `partition * 2^40 + offset`.
pub fn source(partition: i32, offset: i64) -> i64 {
    i64::from(partition) * PARTITION_SOURCES + offset
}

/// The `last_source` of a replayed reject, and of a replayed dead letter whose partition is gone. It
/// lies before every source: the item was read before readings that may be stored by now, and nobody
/// knows before which.
pub const REJECT_SOURCE: i64 = -1;

/// First id that is no source: a topic would need a million partitions.
const FOREIGN_IDS: i64 = 1 << 60;

/// Returns the id under which another program's row is adopted. An id that could be a source becomes
/// negative: once a delivery has merged into the row, the audit would take it for a worker's.
pub fn adopted_id(id: i64) -> i64 {
    if (0..FOREIGN_IDS).contains(&id) { -id } else { id }
}

/// Key of a row.
pub type Identity = (DeviceSn, DateTime);

/// Returns the key of a reading's row.
pub fn identity(reading: &Reading) -> Identity {
    (reading.device_sn().clone(), reading.timestamp())
}

/// The ids that come from a device's binding alone. They fill ids that a stored row is missing, and
/// overwrite nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FillOnlyIds(u8);

impl FillOnlyIds {
    /// The user's id.
    pub const USER: u8 = 1;
    /// The organisation's id.
    pub const ORG: u8 = 2;
    /// The tenant's id.
    pub const CUSTOMER: u8 = 4;

    /// Returns every combination, in the order of [`FillOnlyIds::index`].
    pub fn all() -> impl Iterator<Item = Self> {
        (0..8).map(Self)
    }

    /// Returns the ids that `bound` adds to a row's own ids.
    pub fn of(own: Ids, bound: Ids) -> Self {
        let adds = |own: Option<i64>, bound: Option<i64>| own.is_none() && bound.is_some();
        let bits = [
            (adds(own.user_id, bound.user_id), Self::USER),
            (adds(own.org_id, bound.org_id), Self::ORG),
            (adds(own.customer_id, bound.customer_id), Self::CUSTOMER),
        ];
        Self(bits.into_iter().filter(|(adds, _)| *adds).map(|(_, bit)| bit).sum())
    }

    /// Returns whether an id only fills.
    pub fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    /// Returns the index of this combination among all.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A row to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadingRow {
    /// Source of the first delivery.
    pub id: i64,
    /// Source of the latest delivery, or [`REJECT_SOURCE`].
    pub last_source: i64,
    pub deliveries: i64,
    /// Whether its event time is ahead of the clock at the receipt, so that the row moves no guard.
    pub ahead: bool,
    /// The ids in its deliveries.
    pub ids: Ids,
    /// The ids of its device's binding, if its deliveries do not have all ids
    /// (`mysql::device_ids`).
    pub bound: Ids,
    pub upload_method: UploadMethod,
    pub vitals: Vitals,
    /// The documents of deliveries that are not ahead of the clock: the others move no guard.
    pub documents: Documents,
    /// The source of each document.
    pub document_sources: DocumentSources,
}

/// Sources of a row's documents; 0 without a document.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DocumentSources {
    pub sleep_data: i64,
    pub exercise_daily_data: i64,
    pub exercise_week_data: i64,
    pub scientific_sleep_data: i64,
    pub workout_data: i64,
}

impl ReadingRow {
    /// Creates the row of one delivery.
    pub fn new(reading: &Reading, source: i64) -> Self {
        let mut row = Self {
            id: source,
            last_source: source,
            deliveries: 1,
            ahead: reading.ahead_of_clock(),
            ids: reading.ids(),
            bound: Ids::default(),
            upload_method: reading.upload_method(),
            vitals: *reading.vitals(),
            documents: Documents::default(),
            document_sources: DocumentSources::default(),
        };
        row.take_documents(reading, source);
        row
    }

    /// Returns the ids to store: those of the deliveries, else those of the binding.
    pub fn all_ids(&self) -> Ids {
        self.ids.or(self.bound)
    }

    /// Merges a later delivery of the same identity. Its fields win, and fields that it does not
    /// have stay.
    pub fn merge(&mut self, reading: &Reading, source: i64) {
        self.last_source = source;
        self.deliveries += 1;
        // One delivery that is not ahead is enough: each receipt compares the reading with the
        // clock again.
        self.ahead &= reading.ahead_of_clock();
        self.ids = reading.ids().or(self.ids);
        self.upload_method = reading.upload_method();
        self.vitals = later(reading.vitals(), &self.vitals);
        self.take_documents(reading, source);
    }

    fn take_documents(&mut self, reading: &Reading, source: i64) {
        if reading.ahead_of_clock() {
            return;
        }
        let newer = reading.documents();
        let (held, from) = (&mut self.documents, &mut self.document_sources);
        for (value, slot, from) in [
            (&newer.sleep_data, &mut held.sleep_data, &mut from.sleep_data),
            (
                &newer.exercise_daily_data,
                &mut held.exercise_daily_data,
                &mut from.exercise_daily_data,
            ),
            (&newer.exercise_week_data, &mut held.exercise_week_data, &mut from.exercise_week_data),
            (
                &newer.scientific_sleep_data,
                &mut held.scientific_sleep_data,
                &mut from.scientific_sleep_data,
            ),
            (&newer.workout_data, &mut held.workout_data, &mut from.workout_data),
        ] {
            if value.is_some() {
                slot.clone_from(value);
                *from = source;
            }
        }
    }
}

fn later(newer: &Vitals, older: &Vitals) -> Vitals {
    Vitals {
        heart_rate: newer.heart_rate.or(older.heart_rate),
        blood_oxygen: newer.blood_oxygen.or(older.blood_oxygen),
        temperature: newer.temperature.or(older.temperature),
        pressure_high: newer.pressure_high.or(older.pressure_high),
        pressure_low: newer.pressure_low.or(older.pressure_low),
        stress: newer.stress.or(older.stress),
        step: newer.step.or(older.step),
        distance: newer.distance.or(older.distance),
        calorie: newer.calorie.or(older.calorie),
        latitude: newer.latitude.or(older.latitude),
        longitude: newer.longitude.or(older.longitude),
        altitude: newer.altitude.or(older.altitude),
        sleep: newer.sleep.or(older.sleep),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_adopted_id_is_a_source() {
        let snowflake = 1_960_000_000_000_000_001;
        for (id, adopted) in [
            (1, -1),
            (source(11, 17), -source(11, 17)),
            (FOREIGN_IDS - 1, 1 - FOREIGN_IDS),
            (FOREIGN_IDS, FOREIGN_IDS),
            (snowflake, snowflake),
            (-5, -5),
        ] {
            assert_eq!(adopted_id(id), adopted, "{id}");
        }
    }
}
