//! One row of the main table on its way: a reading, or several deliveries of one identity merged
//! field by field, the later delivery winning. The rule is MySQL's as well (`statements`), so where
//! a batch is cut changes nothing.

use common::reading::{DeviceSn, Documents, Ids, Reading, UploadMethod, Vitals};
use jiff::civil::DateTime;

/// Place of a delivery in the topic as one number: `partition * 2^40 + offset`.
pub fn source(partition: i32, offset: i64) -> i64 {
    (i64::from(partition) << 40) + offset
}

/// Key of a row.
pub type Identity = (DeviceSn, DateTime);

/// A row to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Source of the first delivery.
    pub id: i64,
    /// Source of the latest.
    pub last_source: i64,
    /// How many deliveries.
    pub deliveries: i64,
    /// Whether its clock runs ahead, so that it moves no guard.
    pub ahead: bool,
    pub ids: Ids,
    pub upload_method: UploadMethod,
    pub vitals: Vitals,
    pub documents: Documents,
}

impl Row {
    /// The row of one delivery.
    pub fn new(reading: &Reading, source: i64) -> Self {
        Self {
            id: source,
            last_source: source,
            deliveries: 1,
            ahead: reading.ahead_of_clock(),
            ids: reading.ids(),
            upload_method: reading.upload_method(),
            vitals: *reading.vitals(),
            documents: reading.documents().clone(),
        }
    }

    /// Merges a later delivery of the same identity: what it carries wins, what it lacks stays.
    pub fn merge(&mut self, reading: &Reading, source: i64) {
        self.last_source = source;
        self.deliveries += 1;
        // Once it is not ahead by one receipt, it is not ahead: the clock was judged again.
        self.ahead &= reading.ahead_of_clock();
        self.ids = reading.ids().or(self.ids);
        self.upload_method = reading.upload_method();
        self.vitals = later(reading.vitals(), &self.vitals);
        let newer = reading.documents();
        let documents = &mut self.documents;
        for (value, slot) in [
            (&newer.sleep_data, &mut documents.sleep_data),
            (&newer.exercise_daily_data, &mut documents.exercise_daily_data),
            (&newer.exercise_week_data, &mut documents.exercise_week_data),
            (&newer.scientific_sleep_data, &mut documents.scientific_sleep_data),
            (&newer.workout_data, &mut documents.workout_data),
        ] {
            if value.is_some() {
                slot.clone_from(value);
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
