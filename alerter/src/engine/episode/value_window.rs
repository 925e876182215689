//! The latest values of a device, and the distance of a value from their mean.
//!
//! Pure: event time comes as an argument. The rule sets the allowed distance.

use serde::{Deserialize, Serialize};

use crate::rules::verdict::MEAN_VALUES_MIN;
use crate::rules::{Deviation, Vital};

/// Values stored per vital, at most. Of a longer window only the latest values count.
const VALUES_MAX: usize = 1_000;

/// A device's latest values of the vitals that a rule watches, oldest first, with event times.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ValueWindow(Vec<(Vital, Vec<(i64, f64)>)>);

impl ValueWindow {
    /// Whether no value is stored.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the end of the usual range that `value` lies beyond at `at`. Stores the value for
    /// later calls.
    pub fn broken_by(
        &mut self,
        usual: &Deviation,
        vital: Vital,
        at: i64,
        value: f64,
    ) -> Option<f64> {
        let values = self.of(vital);
        values.retain(|(since, _)| at - since <= usual.window_ms);
        let count = values.len();
        let sum = values.iter().map(|(_, value)| value).sum::<f64>();
        values.push((at, value));
        let surplus = values.len().saturating_sub(VALUES_MAX);
        values.drain(..surplus);
        let times = count as f64;
        // Not divided: whole numbers stay whole, and equal values compare as equal.
        let beyond = (value * times - sum).abs() * 100.0 > usual.percentage * sum.abs();
        (count >= MEAN_VALUES_MIN && beyond).then(|| {
            let mean = sum / times;
            let side = (value - mean).signum();
            let bound = rounded(mean + side * usual.percentage / 100.0 * mean.abs());
            // The value lies beyond the bound after rounding, too: its side is read from both.
            if (value - bound) * side > 0.0 { bound } else { rounded(bound - side * 0.01) }
        })
    }

    fn of(&mut self, vital: Vital) -> &mut Vec<(i64, f64)> {
        let place = self.0.iter().position(|(known, _)| *known == vital);
        let place = place.unwrap_or_else(|| {
            self.0.push((vital, Vec::new()));
            self.0.len() - 1
        });
        &mut self.0[place].1
    }
}

/// Rounds for readers: a mean has more digits than any of its values.
fn rounded(bound: f64) -> f64 {
    (bound * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIFTH: Deviation = Deviation { percentage: 20.0, window_ms: 100_000 };

    fn noted(values: &[(i64, f64)]) -> ValueWindow {
        let mut recent = ValueWindow::default();
        for (second, value) in values {
            recent.broken_by(&FIFTH, Vital::HeartRate, second * 1000, *value);
        }
        recent
    }

    #[test]
    fn ten_values_of_the_window_make_the_usual_range_and_the_value_itself_is_none_of_them() {
        let ten: Vec<(i64, f64)> = (0..10).map(|second| (second, 80.0)).collect();
        for (before, second, value, bound) in [
            (&ten[..9], 10, 200.0, None),
            (&ten[..], 10, 96.0, None),
            (&ten[..], 10, 96.1, Some(96.0)),
            (&ten[..], 10, 63.9, Some(64.0)),
            (&ten[..], 100, 96.1, Some(96.0)),
            (&ten[..], 101, 96.1, None),
        ] {
            let mut recent = noted(before);
            let found = recent.broken_by(&FIFTH, Vital::HeartRate, second * 1000, value);
            assert_eq!(found, bound, "{value} after {} at {second}", before.len());
        }
        let mut other = noted(&ten);
        assert_eq!(other.broken_by(&FIFTH, Vital::Stress, 10_000, 1.0), None, "another vital");
    }

    #[test]
    fn no_percentage_makes_a_breach_of_what_differs_by_just_so_much() {
        for percentage in 1..100 {
            let exactly = Deviation { percentage: f64::from(percentage), ..FIFTH };
            for (value, bound) in [(100 - percentage, false), (100 - percentage - 1, true)] {
                let mut recent = noted(&[(0, 100.0); 10]);
                let found = recent.broken_by(&exactly, Vital::HeartRate, 1_000, f64::from(value));
                assert_eq!(found.is_some(), bound, "{value} at {percentage} %");
            }
        }
    }

    #[test]
    fn a_value_just_beyond_lies_beyond_the_rounded_bound() {
        // A fifth above the first mean is 99.9960, a fifth below the second one is 100.0036.
        for (usual, last, bound) in [(82.0, 96.63, 99.99), (128.0, 95.05, 100.01)] {
            let mut values: Vec<(i64, f64)> = (0..10).map(|second| (second, usual)).collect();
            values.push((10, last));
            let found = noted(&values).broken_by(&FIFTH, Vital::HeartRate, 11_000, 100.0);
            assert_eq!(found, Some(bound), "after {usual}");
        }
    }

    #[test]
    fn no_more_is_kept_than_said() {
        let many: Vec<(i64, f64)> = (0..2_000).map(|n| (n / 50, 1.0)).collect();
        assert_eq!(noted(&many).0[0].1.len(), VALUES_MAX);
    }
}
