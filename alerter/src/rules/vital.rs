//! The vitals that rules use, and sets of vitals.
//!
//! Pure. The time at which a device last reported each vital belongs to [`crate::engine::device`].

use ljwx_reading::Vitals;
use serde::{Deserialize, Serialize};

/// A vital that a rule can watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vital {
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
    /// Seconds since the device was last seen: the value of `NO_DATA` rules. No reading carries
    /// this value, and no rule names it.
    NoData,
}

impl Vital {
    /// All vitals that a reading can carry.
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

    /// Parses any spelling that the platform has for a vital: snake case, camel case, the older
    /// names.
    pub fn from_word(word: &str) -> Option<Self> {
        let plain: String =
            word.trim().chars().filter(|c| *c != '_').flat_map(char::to_lowercase).collect();
        Some(match plain.as_str() {
            "bodytemperature" => Self::Temperature,
            "bloodpressuresystolic" => Self::PressureHigh,
            "bloodpressurediastolic" => Self::PressureLow,
            "steps" => Self::Step,
            "calories" => Self::Calorie,
            plain => {
                let letters = |vital: Self| vital.as_str().chars().filter(|c| *c != '_');
                Self::ALL.into_iter().find(|vital| letters(*vital).eq(plain.chars()))?
            }
        })
    }

    /// Returns the canonical name, and the name shown to people.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::HeartRate => ("heart_rate", "心率"),
            Self::BloodOxygen => ("blood_oxygen", "血氧"),
            Self::Temperature => ("temperature", "体温"),
            Self::PressureHigh => ("pressure_high", "收缩压"),
            Self::PressureLow => ("pressure_low", "舒张压"),
            Self::BloodPressure => ("blood_pressure", "血压"),
            Self::Stress => ("stress", "压力"),
            Self::Step => ("step", "步数"),
            Self::Distance => ("distance", "距离"),
            Self::Calorie => ("calorie", "卡路里"),
            Self::Sleep => ("sleep", "睡眠"),
            Self::NoData => ("no_data", "数据中断"),
        }
    }

    /// Returns the canonical name.
    pub fn as_str(self) -> &'static str {
        self.names().0
    }

    /// Returns the name shown to the people who are notified.
    pub fn label(self) -> &'static str {
        self.names().1
    }

    /// Returns the values that a reading has for this vital. Blood pressure may have two, the
    /// systolic value first.
    // Every reading asks for the values of all vitals: as calls, they would double an evaluation.
    #[inline]
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
            Self::NoData => [none, none],
        };
        values.into_iter().filter_map(|(vital, value)| Some((vital, value?)))
    }
}

/// A set of vitals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VitalSet(u16);

impl VitalSet {
    /// Whether the set contains `sign`.
    pub fn contains(self, vital: Vital) -> bool {
        self.0 & (1 << vital as u16) != 0
    }

    /// Whether the two sets have a vital in common.
    pub fn intersects(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Returns each vital of the set.
    pub fn iter(self) -> impl Iterator<Item = Vital> {
        Vital::ALL.into_iter().filter(move |vital| self.contains(*vital))
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds a vital.
    pub fn add(&mut self, vital: Vital) {
        self.0 |= 1 << vital as u16;
    }

    /// Returns the set as bits. Bit n stands for the vital at place n of [`Vital::ALL`].
    pub fn bits(self) -> u16 {
        self.0
    }

    /// Returns the set of these bits. Bits without a vital are kept, and no iteration returns them.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }
}

impl FromIterator<Vital> for VitalSet {
    fn from_iter<T: IntoIterator<Item = Vital>>(signs: T) -> Self {
        let mut all = Self::default();
        signs.into_iter().for_each(|vital| all.add(vital));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_sign_are_one_sign() {
        for (word, vital) in [
            ("heartRate", Vital::HeartRate),
            ("body_temperature", Vital::Temperature),
            ("bodyTemperature", Vital::Temperature),
            ("bloodPressure", Vital::BloodPressure),
            ("blood_pressure_systolic", Vital::PressureHigh),
            ("pressureLow", Vital::PressureLow),
            ("steps", Vital::Step),
        ] {
            assert_eq!(Vital::from_word(word), Some(vital), "{word}");
        }
        assert!(Vital::ALL.iter().all(|vital| Vital::from_word(vital.as_str()) == Some(*vital)));
        assert!(Vital::ALL.iter().enumerate().all(|(place, vital)| *vital as usize == place));
    }
}
