//! Percentiles of series that may be longer than memory should hold.
//!
//! Pure and deterministic: the same series gives the same result.

/// Most values that are kept of one series.
const VALUES_MAX: usize = 4_096;

/// Every value of a series, or every second, fourth, eighth …, so that at most [`VALUES_MAX`]
/// values are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Percentiles {
    values: Vec<i64>,
    /// How often every second value was left out.
    halvings: u32,
    seen: u64,
}

impl Percentiles {
    /// Adds one value.
    pub fn add(&mut self, value: i64) {
        if self.seen.is_multiple_of(1 << self.halvings) {
            // The number of values seen is a multiple of the new interval too, so this one is kept.
            if self.values.len() == VALUES_MAX {
                self.values = self.values.iter().copied().step_by(2).collect();
                self.halvings += 1;
            }
            self.values.push(value);
        }
        self.seen += 1;
    }

    /// Returns, for each percentage, the smallest value that at least so many percent of the values
    /// do not exceed. `None` if the series is empty.
    pub fn percentiles<const N: usize>(&self, percents: [usize; N]) -> [Option<i64>; N] {
        let mut sorted = self.values.clone();
        sorted.sort_unstable();
        percents.map(|percent| {
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted.get(rank - 1).copied()
        })
    }

    /// Whether values were left out.
    pub fn is_partial(&self) -> bool {
        self.halvings > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(values: impl IntoIterator<Item = i64>) -> Percentiles {
        let mut sample = Percentiles::default();
        values.into_iter().for_each(|value| sample.add(value));
        sample
    }

    #[test]
    fn a_percentile_is_the_smallest_value_that_so_many_are_not_above() {
        for (values, p50, p95) in [
            (vec![], None, None),
            (vec![7], Some(7), Some(7)),
            (vec![2, 1], Some(1), Some(2)),
            (vec![3, 1, 2], Some(2), Some(3)),
            ((1..=20).rev().collect(), Some(10), Some(19)),
            ((1..=100).collect(), Some(50), Some(95)),
            (vec![5; 1_000], Some(5), Some(5)),
        ] {
            assert_eq!(sample(values.clone()).percentiles([50, 95]), [p50, p95], "{values:?}");
        }
    }

    #[test]
    fn a_long_series_is_thinned_out_evenly_and_says_so() {
        let whole = sample(0..4_096);
        assert!(!whole.is_partial());
        let long = sample(0..100_000);
        assert!(long.is_partial() && long.values.len() <= VALUES_MAX);
        assert!(long.values.windows(2).all(|pair| pair[1] - pair[0] == 32), "{:?}", long.halvings);
        let [p50, p95] = long.percentiles([50, 95]).map(|value| value.unwrap());
        assert!((49_900..50_100).contains(&p50) && (94_900..95_100).contains(&p95), "{p50} {p95}");
    }
}
