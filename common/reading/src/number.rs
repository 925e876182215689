//! Reads numbers from JSON numbers or strings, and checks their ranges.

use crate::reading::Vitals;

/// Rounding of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest whole number.
    Whole,
    /// To two decimals.
    Hundredths,
    /// No rounding.
    None,
}

/// One numeric field: its names, its range and its rounding.
#[derive(Debug)]
pub struct NumberField {
    /// Canonical name.
    pub name: &'static str,
    pub(super) spellings: &'static [&'static str],
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) rounding: Rounding,
    /// Whether 0 means that nothing was measured.
    pub(super) zero_is_absent: bool,
}

/// Result of reading a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ParsedNumber {
    /// Not measured.
    Absent,
    /// Within the range.
    Value(f64),
    /// Outside the range.
    OutOfRange,
    /// Not a number.
    Invalid,
}

impl NumberField {
    /// Reads `text`, plain or in scientific notation, and checks the range.
    pub fn read(&self, text: &str) -> ParsedNumber {
        match decimal(text) {
            None => ParsedNumber::Invalid,
            Some(value) => self.check(value),
        }
    }

    fn check(&self, value: f64) -> ParsedNumber {
        let value = match self.rounding {
            Rounding::Whole => value.round(),
            Rounding::Hundredths => (value * 100.0).round() / 100.0,
            Rounding::None => value,
        };
        if value == 0.0 && self.zero_is_absent {
            ParsedNumber::Absent
        } else if self.accepts(value) {
            // Adding zero turns -0.0 into 0.0, which would print as "-0".
            ParsedNumber::Value(value + 0.0)
        } else {
            ParsedNumber::OutOfRange
        }
    }

    /// Whether a value that is already rounded lies within the field's range.
    pub fn accepts(&self, value: f64) -> bool {
        (self.min..=self.max).contains(&value)
    }
}

/// Parses a finite decimal number. Rejects forms that only some languages accept (`inf`, `0x10`,
/// `1_000`).
fn decimal(text: &str) -> Option<f64> {
    let plain = |byte: u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    if !text.bytes().all(plain) {
        return None;
    }
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

const fn whole(
    name: &'static str,
    spellings: &'static [&'static str],
    min: f64,
    max: f64,
    zero_is_absent: bool,
) -> NumberField {
    NumberField { name, spellings, min, max, rounding: Rounding::Whole, zero_is_absent }
}

const fn exact(
    name: &'static str,
    spellings: &'static [&'static str],
    min: f64,
    max: f64,
) -> NumberField {
    NumberField { name, spellings, min, max, rounding: Rounding::None, zero_is_absent: false }
}

pub const HEART_RATE: NumberField =
    whole("heart_rate", &["heart_rate", "heartRate", "xlv"], 1.0, 300.0, true);
pub const BLOOD_OXYGEN: NumberField =
    whole("blood_oxygen", &["blood_oxygen", "bloodOxygen", "xy"], 1.0, 100.0, true);
pub const TEMPERATURE: NumberField = NumberField {
    name: "temperature",
    spellings: &["body_temperature", "bodyTemperature", "temperature", "tw"],
    min: 20.0,
    max: 45.0,
    rounding: Rounding::Hundredths,
    zero_is_absent: true,
};
pub const PRESSURE_HIGH: NumberField = whole(
    "pressure_high",
    &["blood_pressure_systolic", "bloodPressureSystolic", "pressureHigh", "pressure_high", "gxy"],
    20.0,
    300.0,
    true,
);
pub const PRESSURE_LOW: NumberField = whole(
    "pressure_low",
    &["blood_pressure_diastolic", "bloodPressureDiastolic", "pressureLow", "pressure_low", "dxy"],
    10.0,
    250.0,
    true,
);
pub const STRESS: NumberField = whole("stress", &["stress", "yl"], 1.0, 100.0, true);
pub const STEP: NumberField = whole("step", &["step", "steps", "bs"], 0.0, 1_000_000.0, false);
pub const DISTANCE: NumberField = exact("distance", &["distance", "jl"], 0.0, 1_000_000.0);
pub const CALORIE: NumberField =
    exact("calorie", &["calorie", "calories", "rl"], 0.0, 100_000_000.0);
pub const LATITUDE: NumberField = exact("latitude", &["latitude", "wd"], -90.0, 90.0);
pub const LONGITUDE: NumberField = exact("longitude", &["longitude", "jd"], -180.0, 180.0);
pub const ALTITUDE: NumberField = exact("altitude", &["altitude", "hb"], -500.0, 20_000.0);
/// Derived from `sleep_data`, never read from a device.
pub const SLEEP: NumberField = NumberField {
    name: "sleep",
    spellings: &[],
    min: 0.01,
    max: 100_000.0,
    rounding: Rounding::Hundredths,
    zero_is_absent: true,
};

impl Vitals {
    /// Returns the name of the first number outside its field's range.
    pub fn first_out_of_range(&self) -> Option<&'static str> {
        let whole = |value: Option<i32>| value.map(f64::from);
        let all: [(&NumberField, Option<f64>); 13] = [
            (&HEART_RATE, whole(self.heart_rate)),
            (&BLOOD_OXYGEN, whole(self.blood_oxygen)),
            (&TEMPERATURE, self.temperature),
            (&PRESSURE_HIGH, whole(self.pressure_high)),
            (&PRESSURE_LOW, whole(self.pressure_low)),
            (&STRESS, whole(self.stress)),
            (&STEP, whole(self.step)),
            (&DISTANCE, self.distance),
            (&CALORIE, self.calorie),
            (&LATITUDE, self.latitude),
            (&LONGITUDE, self.longitude),
            (&ALTITUDE, self.altitude),
            (&SLEEP, self.sleep),
        ];
        all.into_iter()
            .find(|(field, value)| value.is_some_and(|value| !field.accepts(value)))
            .map(|(field, _)| field.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_in_every_notation_the_devices_use() {
        for (text, expected) in [
            ("84", ParsedNumber::Value(84.0)),
            ("8.26E1", ParsedNumber::Value(83.0)),
            ("97.0", ParsedNumber::Value(97.0)),
            ("0", ParsedNumber::Absent),
            ("0E-8", ParsedNumber::Absent),
            ("0.4", ParsedNumber::Absent),
            ("1000", ParsedNumber::OutOfRange),
            ("-5", ParsedNumber::OutOfRange),
            ("1e999", ParsedNumber::Invalid),
            ("NaN", ParsedNumber::Invalid),
            ("inf", ParsedNumber::Invalid),
            ("0x10", ParsedNumber::Invalid),
            ("", ParsedNumber::Invalid),
            ("-", ParsedNumber::Invalid),
        ] {
            assert_eq!(HEART_RATE.read(text), expected, "{text}");
        }
        assert_eq!(TEMPERATURE.read("36.555"), ParsedNumber::Value(36.56));
        assert_eq!(STEP.read("0"), ParsedNumber::Value(0.0));
        assert_eq!(ALTITUDE.read("1.2E2"), ParsedNumber::Value(120.0));
    }
}
