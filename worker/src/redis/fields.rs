//! The fields of a device's hash.

use common::reading::{Document, wall_text};

use crate::row::{Identity, Row};

/// Fields of the hash with the place of their value in [`values`], the timestamp first; both spellings
/// of each, so that all readers work.
pub const FIELDS: [(&str, usize); 38] = [
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

/// Values of a hash.
pub const VALUES: usize = 24;

/// The values of a hash, absent ones empty.
pub fn values((device_sn, timestamp): &Identity, row: &Row) -> [String; VALUES] {
    fn text(value: Option<impl ToString>) -> String {
        value.map(|value| value.to_string()).unwrap_or_default()
    }
    let vitals = &row.vitals;
    let documents = &row.documents;
    let json =
        |document: &Option<Document>| text(document.as_ref().map(|document| document.as_str()));
    let ids = row.all_ids();
    [
        wall_text(*timestamp),
        device_sn.as_str().to_owned(),
        text(vitals.heart_rate),
        text(vitals.blood_oxygen),
        text(vitals.temperature),
        text(vitals.pressure_high),
        text(vitals.pressure_low),
        text(vitals.stress),
        text(vitals.step),
        text(vitals.distance),
        text(vitals.calorie),
        text(vitals.latitude),
        text(vitals.longitude),
        text(vitals.altitude),
        text(vitals.sleep),
        row.upload_method.as_str().to_owned(),
        text(ids.user_id),
        text(ids.org_id),
        text(ids.customer_id),
        json(&documents.sleep_data),
        json(&documents.exercise_daily_data),
        json(&documents.exercise_week_data),
        json(&documents.scientific_sleep_data),
        json(&documents.workout_data),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_a_field_and_every_field_a_value_and_one_name() {
        let mut places: Vec<usize> = FIELDS.iter().map(|(_, place)| *place).collect();
        assert_eq!((FIELDS[0].0, places[0]), ("timestamp", 0));
        places.dedup();
        assert_eq!(places, (0..VALUES).collect::<Vec<_>>());
        let mut names: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FIELDS.len());
    }
}
