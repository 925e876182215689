//! A patient's values: a random walk around the person's normal values and, for some patients, a
//! drift into a breach and back. All values are synthetic.

use rand::RngExt;
use rand::rngs::SmallRng;

/// Readings before the first breach, of a breach, and between breaches.
const CALM_FIRST: u32 = 4;
const BREACH: u32 = 7;
const CALM_BETWEEN: u32 = 80;

/// The values of one measurement.
#[derive(Debug, Clone, Copy)]
pub struct Vitals {
    pub heart_rate: i32,
    pub blood_oxygen: i32,
    pub temperature: f64,
    pub systolic: i32,
    pub diastolic: i32,
    pub stress: i32,
    pub step: u32,
    pub distance: f64,
    pub calorie: f64,
    pub latitude: f64,
    pub longitude: f64,
}

/// A person who wears a device.
#[derive(Debug)]
pub struct Patient {
    resting: f64,
    heart_rate: f64,
    blood_oxygen: f64,
    temperature: f64,
    step: u32,
    latitude: f64,
    longitude: f64,
    drifts: bool,
    measured: u32,
}

impl Patient {
    /// Creates a person at rest. `drifts` decides whether the heart rate breaches now and then.
    pub fn new(random: &mut SmallRng, drifts: bool) -> Self {
        let resting = random.random_range(58.0..84.0);
        Self {
            resting,
            heart_rate: resting,
            blood_oxygen: random.random_range(96.0..99.0),
            temperature: random.random_range(36.2..36.8),
            step: random.random_range(0..4000),
            latitude: 22.54 + random.random_range(-0.02..0.02),
            longitude: 114.01 + random.random_range(-0.02..0.02),
            drifts,
            measured: 0,
        }
    }

    /// Returns the next measurement.
    pub fn measure(&mut self, random: &mut SmallRng) -> Vitals {
        let breaching = self.breaching();
        self.measured += 1;
        walk(&mut self.heart_rate, self.resting, 2.0, random);
        walk(&mut self.blood_oxygen, 97.5, 0.3, random);
        walk(&mut self.temperature, 36.5, 0.05, random);
        self.heart_rate = self.heart_rate.clamp(45.0, 110.0);
        self.blood_oxygen = self.blood_oxygen.clamp(94.0, 100.0);
        self.temperature = self.temperature.clamp(35.8, 37.4);
        self.step += random.random_range(0..12);
        let heart_rate =
            if breaching { 126.0 + random.random_range(0.0..18.0) } else { self.heart_rate };
        Vitals {
            heart_rate: heart_rate as i32,
            blood_oxygen: self.blood_oxygen as i32,
            temperature: self.temperature,
            // Watches compute the blood pressure from the heart rate and never measure it.
            systolic: (heart_rate * 260.0 / 255.0) as i32 + 40,
            diastolic: (heart_rate * 170.0 / 255.0) as i32 + 30,
            stress: random.random_range(20..60),
            step: self.step,
            distance: f64::from(self.step) * 0.64,
            calorie: f64::from(self.step) * 32.2,
            latitude: self.latitude,
            longitude: self.longitude,
        }
    }

    fn breaching(&self) -> bool {
        let phase =
            self.measured.checked_sub(CALM_FIRST).map(|since| since % (BREACH + CALM_BETWEEN));
        self.drifts && phase.is_some_and(|phase| phase < BREACH)
    }
}

/// Makes one step of a random walk that is pulled back to `normal`.
fn walk(value: &mut f64, normal: f64, step: f64, random: &mut SmallRng) {
    *value += random.random_range(-step..step) + (normal - *value) * 0.05;
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn only_the_drifting_breach_and_they_recover() {
        let mut random = SmallRng::seed_from_u64(7);
        for drifts in [false, true] {
            let mut patient = Patient::new(&mut random, drifts);
            let rates: Vec<_> = (0..60).map(|_| patient.measure(&mut random).heart_rate).collect();
            let breaches = rates.iter().filter(|rate| **rate > 120).count();
            assert_eq!(breaches, if drifts { BREACH as usize } else { 0 }, "{rates:?}");
        }
    }
}
