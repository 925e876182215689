//! The vitals that rules use, and sets of vitals.
//!
//! Pure. The time at which a device last reported each vital belongs to [`crate::engine::device`].

use std::iter;

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

    /// Returns the values that a reading has, in the order of [`Self::ALL`]. Blood pressure has two
    /// values of other vitals, and none of its own.
    // Every reading asks for them. A call for each vital would cost as much as the rest of a usual
    // evaluation.
    #[inline]
    pub fn each(vitals: &Vitals) -> [Option<f64>; Self::ALL.len()] {
        let blood_pressure = None;
        [
            vitals.heart_rate.map(f64::from),
            vitals.blood_oxygen.map(f64::from),
            vitals.temperature,
            vitals.pressure_high.map(f64::from),
            vitals.pressure_low.map(f64::from),
            blood_pressure,
            vitals.stress.map(f64::from),
            vitals.step.map(f64::from),
            vitals.distance,
            vitals.calorie,
            vitals.sleep,
        ]
    }

    /// Returns the values that a reading has for a rule on this vital, each with its own vital. Blood
    /// pressure may have two, the systolic value first.
    #[inline]
    pub fn values(self, vitals: &Vitals) -> impl Iterator<Item = (Self, f64)> {
        let all = Self::each(vitals);
        self.parts().filter_map(move |vital| Some((vital, (*all.get(vital as usize)?)?)))
    }

    /// Returns the vitals with a value of their own of which this one consists.
    #[inline]
    pub fn parts(self) -> impl Iterator<Item = Self> {
        let (first, second) = match self {
            Self::BloodPressure => (Self::PressureHigh, Some(Self::PressureLow)),
            _ => (self, None),
        };
        iter::once(first).chain(second)
    }
}

/// A set of vitals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VitalSet(u16);

impl VitalSet {
    /// The vitals of which blood pressure consists.
    pub const PRESSURES: Self =
        Self(1 << Vital::PressureHigh as u16 | 1 << Vital::PressureLow as u16);

    /// Whether the set contains `vital`.
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

    /// Returns the first vital of the set.
    pub fn first(self) -> Option<Vital> {
        Vital::ALL.get(self.0.trailing_zeros() as usize).copied()
    }

    /// Returns the set without `others`.
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Returns the set with both pressures if it contains blood pressure.
    pub fn with_parts(self) -> Self {
        if self.contains(Vital::BloodPressure) { Self(self.0 | Self::PRESSURES.0) } else { self }
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
    fn from_iter<T: IntoIterator<Item = Vital>>(vitals: T) -> Self {
        let mut all = Self::default();
        vitals.into_iter().for_each(|vital| all.add(vital));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_vital_are_one_vital() {
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

    #[test]
    fn the_value_of_a_vital_stands_at_the_place_of_the_vital() {
        let vitals = Vitals {
            heart_rate: Some(1),
            blood_oxygen: Some(2),
            temperature: Some(3.0),
            pressure_high: Some(4),
            pressure_low: Some(5),
            stress: Some(6),
            step: Some(7),
            distance: Some(8.0),
            calorie: Some(9.0),
            sleep: Some(10.0),
            ..Vitals::default()
        };
        let mut numbers = (1..).map(f64::from);
        let expected = Vital::ALL.map(|vital| match vital {
            Vital::BloodPressure => None,
            _ => numbers.next(),
        });
        assert_eq!(Vital::each(&vitals), expected);
        assert_eq!(Vital::NoData.values(&vitals).count(), 0);
        let pressures: Vec<_> = Vital::BloodPressure.values(&vitals).collect();
        assert_eq!(pressures, [(Vital::PressureHigh, 4.0), (Vital::PressureLow, 5.0)]);
    }
}
