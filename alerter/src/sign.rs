//! The measured quantities that rules speak of, and when each was last seen on a device.

use common::reading::{Reading, Vitals};
use serde::{Deserialize, Serialize};

/// A quantity a rule can watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// Beats per minute.
    HeartRate,
    /// Percent.
    BloodOxygen,
    /// Degrees Celsius.
    Temperature,
    /// Systolic pressure.
    PressureHigh,
    /// Diastolic pressure.
    PressureLow,
    /// Either of the two pressures.
    BloodPressure,
    /// Score.
    Stress,
    /// Steps of the day.
    Step,
    /// Metres of the day.
    Distance,
    /// Small calories of the day.
    Calorie,
    /// Hours.
    Sleep,
    /// Seconds since the device was heard last. No reading carries it and no rule names it: it is
    /// what a rule of category `NO_DATA` looks at.
    Absence,
}

impl Sign {
    /// All that a reading can carry.
    pub const ALL: [Self; 11] = [
        Self::HeartRate,
        Self::BloodOxygen,
        Self::Temperature,
        Self::PressureHigh,
        Self::PressureLow,
        Self::BloodPressure,
        Self::Stress,
        Self::Step,
        Self::Distance,
        Self::Calorie,
        Self::Sleep,
    ];

    /// Reads any spelling the platform has for a sign: snake case, camel case, the older names.
    pub fn from_word(word: &str) -> Option<Self> {
        let plain: String =
            word.trim().chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect();
        Some(match plain.as_str() {
            "heartrate" => Self::HeartRate,
            "bloodoxygen" => Self::BloodOxygen,
            "temperature" | "bodytemperature" => Self::Temperature,
            "pressurehigh" | "bloodpressuresystolic" => Self::PressureHigh,
            "pressurelow" | "bloodpressurediastolic" => Self::PressureLow,
            "bloodpressure" => Self::BloodPressure,
            "stress" => Self::Stress,
            "step" | "steps" => Self::Step,
            "distance" => Self::Distance,
            "calorie" | "calories" => Self::Calorie,
            "sleep" => Self::Sleep,
            _ => return None,
        })
    }

    /// The canonical name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HeartRate => "heart_rate",
            Self::BloodOxygen => "blood_oxygen",
            Self::Temperature => "temperature",
            Self::PressureHigh => "pressure_high",
            Self::PressureLow => "pressure_low",
            Self::BloodPressure => "blood_pressure",
            Self::Stress => "stress",
            Self::Step => "step",
            Self::Distance => "distance",
            Self::Calorie => "calorie",
            Self::Sleep => "sleep",
            Self::Absence => "no_data",
        }
    }

    /// The name shown to the people who are told.
    pub fn label(self) -> &'static str {
        match self {
            Self::HeartRate => "心率",
            Self::BloodOxygen => "血氧",
            Self::Temperature => "体温",
            Self::PressureHigh => "收缩压",
            Self::PressureLow => "舒张压",
            Self::BloodPressure => "血压",
            Self::Stress => "压力",
            Self::Step => "步数",
            Self::Distance => "距离",
            Self::Calorie => "卡路里",
            Self::Sleep => "睡眠",
            Self::Absence => "数据中断",
        }
    }

    /// The values a reading has for this sign; blood pressure may have two, the systolic one first.
    pub fn values(self, vitals: &Vitals) -> impl Iterator<Item = (Self, f64)> + use<> {
        let whole = |value: Option<i32>| value.map(f64::from);
        let high = (Self::PressureHigh, whole(vitals.pressure_high));
        let low = (Self::PressureLow, whole(vitals.pressure_low));
        let none = (self, None);
        let values = match self {
            Self::HeartRate => [(self, whole(vitals.heart_rate)), none],
            Self::BloodOxygen => [(self, whole(vitals.blood_oxygen)), none],
            Self::Temperature => [(self, vitals.temperature), none],
            Self::PressureHigh => [high, none],
            Self::PressureLow => [low, none],
            Self::BloodPressure => [high, low],
            Self::Stress => [(self, whole(vitals.stress)), none],
            Self::Step => [(self, whole(vitals.step)), none],
            Self::Distance => [(self, vitals.distance), none],
            Self::Calorie => [(self, vitals.calorie), none],
            Self::Sleep => [(self, vitals.sleep), none],
            Self::Absence => [none, none],
        };
        values.into_iter().filter_map(|(sign, value)| Some((sign, value?)))
    }
}

/// A set of signs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Signs(u16);

impl Signs {
    /// Whether `sign` is one of them.
    pub fn contains(self, sign: Sign) -> bool {
        self.0 & (1 << sign as u16) != 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Sign> {
        Sign::ALL.into_iter().filter(move |sign| self.contains(*sign))
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn add(&mut self, sign: Sign) {
        self.0 |= 1 << sign as u16;
    }
}

impl FromIterator<Sign> for Signs {
    fn from_iter<T: IntoIterator<Item = Sign>>(signs: T) -> Self {
        let mut all = Self::default();
        signs.into_iter().for_each(|sign| all.add(sign));
        all
    }
}

/// When a device last reported each sign, in milliseconds of event time.
///
/// Kept by device rather than by rule: what counts as late must not depend on which rules were in
/// force when a reading came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen([Option<i64>; Sign::ALL.len()]);

/// What a reading brings to a device: the signs it carries, and those of them that are news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Signs with a value.
    pub all: Signs,
    /// Signs whose last value is older than this one.
    pub fresh: Signs,
}

impl Seen {
    /// Notes the signs of `reading` and says which of them are newer than what was seen.
    pub fn note(&mut self, reading: &Reading) -> Carried {
        let mut carried = Carried { all: Signs::default(), fresh: Signs::default() };
        for sign in Sign::ALL {
            if sign.values(reading.vitals()).next().is_none() {
                continue;
            }
            carried.all.add(sign);
            let last = &mut self.0[sign as usize];
            if last.is_none_or(|last| last < reading.epoch_ms()) {
                *last = Some(reading.epoch_ms());
                carried.fresh.add(sign);
            }
        }
        carried
    }

    /// When `sign` was last reported.
    pub fn last(&self, sign: Sign) -> Option<i64> {
        self.0[sign as usize]
    }

    /// The form it is stored in: the times in the order of [`Sign::ALL`], absent ones empty.
    pub fn encode(&self) -> String {
        let times = self.0.map(|time| time.map_or_else(String::new, |time| time.to_string()));
        times.join(",")
    }

    /// Reads the stored form; signs added since are absent in it.
    pub fn decode(stored: &str) -> Self {
        let mut seen = Self::default();
        for (time, stored) in seen.0.iter_mut().zip(stored.split(',')) {
            *time = stored.parse().ok();
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_sign_are_one_sign() {
        for (word, sign) in [
            ("heartRate", Sign::HeartRate),
            ("body_temperature", Sign::Temperature),
            ("bodyTemperature", Sign::Temperature),
            ("bloodPressure", Sign::BloodPressure),
            ("blood_pressure_systolic", Sign::PressureHigh),
            ("pressureLow", Sign::PressureLow),
            ("steps", Sign::Step),
        ] {
            assert_eq!(Sign::from_word(word), Some(sign), "{word}");
        }
        assert!(Sign::ALL.iter().all(|sign| Sign::from_word(sign.as_str()) == Some(*sign)));
        assert!(Sign::ALL.iter().enumerate().all(|(place, sign)| *sign as usize == place));
    }

    #[test]
    fn the_stored_form_of_seen_reads_back() {
        let mut seen = Seen::default();
        assert_eq!(Seen::decode(&seen.encode()), seen);
        seen.0[Sign::Stress as usize] = Some(1_756_785_600_000);
        seen.0[0] = Some(5);
        assert_eq!(Seen::decode(&seen.encode()), seen);
        assert_eq!(Seen::decode("5").0[0], Some(5), "a form from before a sign was added");
    }
}
