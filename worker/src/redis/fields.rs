//! Packs the fields of a device's hash into arguments of the script.

use std::fmt::{Display, Write};

use fred::bytes::Bytes;
use ljwx_reading::{Document, wall_text};
use rmp::encode;

use crate::batch::row::{FillOnlyIds, Identity, ReadingRow};

/// Fields of the hash, each with the index of its value among the values of a [`packed_row`]; the
/// timestamp is first. Both spellings of each are written, so that all readers work.
const FIELDS: [(&str, usize); 38] = [
    ("timestamp", 0),
    ("deviceSn", 1),
    ("device_sn", 1),
    ("heartRate", 2),
    ("heart_rate", 2),
    ("bloodOxygen", 3),
    ("blood_oxygen", 3),
    ("temperature", 4),
    ("body_temperature", 4),
    ("bodyTemperature", 4),
    ("pressureHigh", 5),
    ("pressure_high", 5),
    ("blood_pressure_systolic", 5),
    ("pressureLow", 6),
    ("pressure_low", 6),
    ("blood_pressure_diastolic", 6),
    ("stress", 7),
    ("step", 8),
    ("distance", 9),
    ("calorie", 10),
    ("latitude", 11),
    ("longitude", 12),
    ("altitude", 13),
    ("sleep", 14),
    ("uploadMethod", 15),
    ("upload_method", 15),
    ("userId", 16),
    ("user_id", 16),
    ("orgId", 17),
    ("org_id", 17),
    ("customerId", 18),
    ("customer_id", 18),
    ("sleepData", 19),
    ("exerciseDailyData", 20),
    ("exerciseWeekData", 21),
    ("exerciseDailyWeekData", 21),
    ("scientificSleepData", 22),
    ("workoutData", 23),
];

/// Number of values in a hash.
const VALUES: u32 = 24;

/// Returns the names of the fields, each with the index of its value, as one argument of the
/// script.
pub fn packed_fields() -> Bytes {
    let mut packed = PackedRow::new(FIELDS.len() as u32 * 2);
    for (name, place) in FIELDS {
        packed.text(name);
        packed.text(place);
    }
    packed.finish()
}

/// Returns a device's row as one argument of the script: its source, the ids that only fill, and
/// the values of its hash, absent ones empty. Several arguments would cost both sides more than
/// their bytes.
pub fn packed_row((device_sn, timestamp): &Identity, row: &ReadingRow) -> Bytes {
    let mut packed = PackedRow::new(2 + VALUES);
    packed.text(row.last_source);
    packed.text(FillOnlyIds::of(row.ids, row.bound).index());
    packed.text(wall_text(*timestamp));
    packed.text(device_sn.as_str());
    let vitals = &row.vitals;
    packed.optional(vitals.heart_rate);
    packed.optional(vitals.blood_oxygen);
    packed.optional(vitals.temperature);
    packed.optional(vitals.pressure_high);
    packed.optional(vitals.pressure_low);
    packed.optional(vitals.stress);
    packed.optional(vitals.step);
    packed.optional(vitals.distance);
    packed.optional(vitals.calorie);
    packed.optional(vitals.latitude);
    packed.optional(vitals.longitude);
    packed.optional(vitals.altitude);
    packed.optional(vitals.sleep);
    packed.text(row.upload_method.as_str());
    let ids = row.all_ids();
    for id in [ids.user_id, ids.org_id, ids.customer_id] {
        packed.optional(id);
    }
    let documents = &row.documents;
    for document in [
        &documents.sleep_data,
        &documents.exercise_daily_data,
        &documents.exercise_week_data,
        &documents.scientific_sleep_data,
        &documents.workout_data,
    ] {
        packed.optional(document.as_ref().map(Document::as_str));
    }
    packed.finish()
}

/// Bytes of a typical row.
const ROW_BYTES_EXPECTED: usize = 256;

/// An array of strings in `MessagePack`.
struct PackedRow {
    bytes: Vec<u8>,
    scratch: String,
}

impl PackedRow {
    fn new(strings: u32) -> Self {
        let mut bytes = Vec::with_capacity(ROW_BYTES_EXPECTED);
        // Writing to a Vec cannot fail.
        let _ = encode::write_array_len(&mut bytes, strings);
        Self { bytes, scratch: String::new() }
    }

    fn text(&mut self, value: impl Display) {
        self.scratch.clear();
        let _ = write!(self.scratch, "{value}");
        let _ = encode::write_str(&mut self.bytes, &self.scratch);
    }

    fn optional(&mut self, value: Option<impl Display>) {
        match value {
            Some(value) => self.text(value),
            None => drop(encode::write_str(&mut self.bytes, "")),
        }
    }

    fn finish(self) -> Bytes {
        self.bytes.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_field_and_every_field_a_value_and_one_name() {
        let mut places: Vec<usize> = FIELDS.iter().map(|(_, place)| *place).collect();
        assert_eq!((FIELDS[0].0, places[0]), ("timestamp", 0));
        places.dedup();
        assert_eq!(places, (0..VALUES as usize).collect::<Vec<_>>());
        let mut names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FIELDS.len());
    }
}
