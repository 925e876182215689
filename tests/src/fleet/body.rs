//! Bodies in the form of watches and phones, with the faults seen in the field.

use rand::RngExt;
use rand::rngs::SmallRng;

use super::vitals::Vitals;
use crate::accounting::verdict::wall_time;

/// Tenant of all simulated devices. Like real tenants, the number is beyond the exact integers of a
/// double.
pub const TENANT: i64 = 1_900_000_000_000_000_001;

/// Length of a real serial number.
const SERIAL_LENGTH: usize = 16;

/// Serial number of the `number`th device of a fleet.
pub fn serial(prefix: &str, number: usize) -> String {
    let width = SERIAL_LENGTH.saturating_sub(prefix.len());
    format!("{prefix}{number:0width$}")
}

/// The fault of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// No fault.
    None,
    /// The sensor had no contact: all zeros.
    Zeros,
    /// A heart rate of 1000, a temperature of 99.
    OutOfRange,
    /// The upload method of old scripts.
    FourG,
    /// A nested document cut in its middle.
    BrokenDocument,
    /// No serial number: the item cannot become a reading.
    NoSerial,
    /// An unreadable time: the item cannot become a reading.
    UnreadableTime,
    /// A body that is not JSON.
    NotJson,
}

impl Flaw {
    /// Returns a random fault.
    pub fn any(random: &mut SmallRng) -> Self {
        const ALL: [Flaw; 7] = [
            Flaw::Zeros,
            Flaw::OutOfRange,
            Flaw::FourG,
            Flaw::BrokenDocument,
            Flaw::NoSerial,
            Flaw::UnreadableTime,
            Flaw::NotJson,
        ];
        ALL[random.random_range(0..ALL.len())]
    }

    /// Whether the item cannot become a reading.
    pub const fn rejected(self) -> bool {
        matches!(self, Self::NoSerial | Self::UnreadableTime | Self::NotJson)
    }
}

/// Returns a reading as a watch caches it.
pub fn watch_item(serial: &str, user: i64, at: i64, vitals: &Vitals, flaw: Flaw) -> String {
    let serial = if flaw == Flaw::NoSerial { "" } else { serial };
    let time = if flaw == Flaw::UnreadableTime { "yesterday".to_owned() } else { wall_time(at) };
    let method = if flaw == Flaw::FourG { "4g" } else { "wifi" };
    let sleep = if flaw == Flaw::BrokenDocument { "{\\\"code\\\":0,\\\"da" } else { "null" };
    let (heart_rate, oxygen, temperature) = shown(vitals, flaw);
    let Vitals {
        systolic, diastolic, stress, step, distance, calorie, latitude, longitude, ..
    } = vitals;
    let org = TENANT + 1;
    format!(
        "{{\"deviceSn\":\"{serial}\",\"customerId\":\"{TENANT}\",\"orgId\":\"{org}\",\
         \"userId\":\"{user}\",\"heart_rate\":{heart_rate},\"blood_oxygen\":{oxygen},\
         \"body_temperature\":\"{temperature:.1}\",\"step\":{step},\"distance\":\"{distance:.1}\",\
         \"calorie\":\"{calorie:.1}\",\"latitude\":\"{latitude:.6}\",\
         \"longitude\":\"{longitude:.6}\",\"altitude\":\"0\",\"stress\":{stress},\
         \"upload_method\":\"{method}\",\"blood_pressure_systolic\":{systolic},\
         \"blood_pressure_diastolic\":{diastolic},\"sleepData\":\"{sleep}\",\
         \"exerciseDailyData\":\"{{\\\"code\\\":0,\\\"data\\\":[{{\\\"strengthTimes\\\":2,\
         \\\"totalTime\\\":5}}],\\\"name\\\":\\\"daily\\\",\\\"type\\\":\\\"history\\\"}}\",\
         \"exerciseWeekData\":\"null\",\"scientificSleepData\":\"null\",\
         \"workoutData\":\"{{\\\"code\\\":0,\\\"data\\\":[],\\\"name\\\":\\\"workout\\\",\
         \\\"type\\\":\\\"history\\\"}}\",\"timestamp\":\"{time}\"}}"
    )
}

/// Returns the body by which a watch uploads its whole cache.
pub fn watch_body<'a>(items: impl ExactSizeIterator<Item = &'a str>) -> String {
    let alone = items.len() == 1;
    let mut body = String::with_capacity(items.len() * 900 + 16);
    body.push_str(if alone { "{\"data\":" } else { "{\"data\":[" });
    for (number, item) in items.enumerate() {
        if number > 0 {
            body.push(',');
        }
        body.push_str(item);
    }
    body.push_str(if alone { "}" } else { "]}" });
    body
}

/// Returns the body of a phone that relays one reading: every number is a string, the serial number
/// is in `id`.
pub fn phone_body(serial: &str, at: i64, vitals: &Vitals, flaw: Flaw) -> String {
    let serial = if flaw == Flaw::NoSerial { "" } else { serial };
    let time = if flaw == Flaw::UnreadableTime { "yesterday".to_owned() } else { wall_time(at) };
    let method = if flaw == Flaw::FourG { "4g" } else { "bluetooth" };
    let sleep = if flaw == Flaw::BrokenDocument { "{\\\"code\\\":0,\\\"da" } else { "" };
    let (heart_rate, oxygen, temperature) = shown(vitals, flaw);
    let Vitals {
        systolic, diastolic, stress, step, distance, calorie, latitude, longitude, ..
    } = vitals;
    format!(
        "{{\"type\":\"health\",\"data\":{{\"id\":\"{serial}\",\"upload_method\":\"{method}\",\
         \"heart_rate\":\"{heart_rate}\",\"blood_oxygen\":\"{oxygen}\",\
         \"body_temperature\":\"{temperature:.1}\",\"blood_pressure_systolic\":\"{systolic}\",\
         \"blood_pressure_diastolic\":\"{diastolic}\",\"step\":\"{step}\",\
         \"distance\":\"{distance:.1}\",\"calorie\":\"{calorie:.1}\",\
         \"latitude\":\"{latitude:.6}\",\"longitude\":\"{longitude:.6}\",\"altitude\":\"0\",\
         \"stress\":\"{stress}\",\"timestamp\":\"{time}\",\"sleepData\":\"{sleep}\"}}}}"
    )
}

/// Returns the first part of a body whose transmission broke off.
pub fn broken_body(serial: &str) -> String {
    format!("{{\"data\":{{\"deviceSn\":\"{serial}\",\"heart_rate\":8")
}

const fn shown(vitals: &Vitals, flaw: Flaw) -> (i32, i32, f64) {
    match flaw {
        Flaw::Zeros => (0, 0, 0.0),
        Flaw::OutOfRange => (1000, vitals.blood_oxygen, 99.0),
        _ => (vitals.heart_rate, vitals.blood_oxygen, vitals.temperature),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::vitals::Patient;
    use rand::SeedableRng;

    #[test]
    fn bodies_are_json_with_the_serial_and_time_given() {
        let mut random = SmallRng::seed_from_u64(1);
        let vitals = Patient::new(&mut random, false).measure(&mut random);
        let serial = serial("ABCDE", 7);
        assert_eq!(serial.len(), SERIAL_LENGTH);
        for flaw in [Flaw::None, Flaw::BrokenDocument, Flaw::Zeros, Flaw::FourG] {
            let item = watch_item(&serial, 5, 1_756_800_540, &vitals, flaw);
            let body = watch_body([item.as_str(), &item].into_iter());
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["data"][1]["deviceSn"], serial.as_str());
            assert_eq!(body["data"][1]["timestamp"], "2025-09-02 16:09:00");
            let body = phone_body(&serial, 1_756_800_540, &vitals, flaw);
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["data"]["id"], serial.as_str());
        }
        assert!(serde_json::from_str::<serde_json::Value>(&broken_body(&serial)).is_err());
    }
}
