//! The fields of a device's hash.

use common::reading::{Document, wall_text};

use crate::row::{Identity, Row};

/// Fields of the hash, the timestamp first; both spellings of each, so that all readers work.
pub const FIELDS: [&str; 38] = [
    "timestamp",
    "deviceSn",
    "device_sn",
    "heartRate",
    "heart_rate",
    "bloodOxygen",
    "blood_oxygen",
    "temperature",
    "body_temperature",
    "pressureHigh",
    "blood_pressure_systolic",
    "pressureLow",
    "blood_pressure_diastolic",
    "stress",
    "step",
    "distance",
    "calorie",
    "latitude",
    "longitude",
    "altitude",
    "sleep",
    "uploadMethod",
    "upload_method",
    "userId",
    "user_id",
    "orgId",
    "org_id",
    "customerId",
    "customer_id",
    "sleepData",
    "exerciseDailyData",
    "exerciseWeekData",
    "exerciseDailyWeekData",
    "scientificSleepData",
    "workoutData",
    "pressure_high",
    "pressure_low",
    "bodyTemperature",
];

/// The values of [`FIELDS`], absent ones empty.
pub fn values((device_sn, timestamp): &Identity, row: &Row) -> [String; FIELDS.len()] {
    fn text(value: Option<impl ToString>) -> String {
        value.map(|value| value.to_string()).unwrap_or_default()
    }
    let vitals = &row.vitals;
    let documents = &row.documents;
    let json =
        |document: &Option<Document>| text(document.as_ref().map(|document| document.as_str()));
    let sn = device_sn.as_str().to_owned();
    let (heart_rate, blood_oxygen) = (text(vitals.heart_rate), text(vitals.blood_oxygen));
    let temperature = text(vitals.temperature);
    let (high, low) = (text(vitals.pressure_high), text(vitals.pressure_low));
    let method = row.upload_method.as_str().to_owned();
    let ids = row.all_ids();
    let (user, org) = (text(ids.user_id), text(ids.org_id));
    let customer = text(ids.customer_id);
    let week = json(&documents.exercise_week_data);
    [
        wall_text(*timestamp),
        sn.clone(),
        sn,
        heart_rate.clone(),
        heart_rate,
        blood_oxygen.clone(),
        blood_oxygen,
        temperature.clone(),
        temperature.clone(),
        high.clone(),
        high.clone(),
        low.clone(),
        low.clone(),
        text(vitals.stress),
        text(vitals.step),
        text(vitals.distance),
        text(vitals.calorie),
        text(vitals.latitude),
        text(vitals.longitude),
        text(vitals.altitude),
        text(vitals.sleep),
        method.clone(),
        method,
        user.clone(),
        user,
        org.clone(),
        org,
        customer.clone(),
        customer,
        json(&documents.sleep_data),
        json(&documents.exercise_daily_data),
        week.clone(),
        week,
        json(&documents.scientific_sleep_data),
        json(&documents.workout_data),
        high,
        low,
        temperature,
    ]
}
