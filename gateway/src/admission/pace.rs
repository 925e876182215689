//! Computes when a slow body is given up. Pure.

use std::time::Duration;

/// The progress that a body must make.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Time that every body has, however few bytes have arrived.
    pub grace: Duration,
    /// Bytes a second that a body must reach after the grace.
    pub rate_min: u32,
    /// Longest pause between two chunks.
    pub gap: Duration,
}

impl Pace {
    /// Returns when a body is given up if nothing more arrives. `received` bytes have arrived, the
    /// last at `last`. All times count from the end of the head.
    pub fn deadline(&self, received: usize, last: Duration) -> Duration {
        let earned = Duration::from_secs_f64(received as f64 / f64::from(self.rate_min));
        (self.grace + earned).min(last + self.gap)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct File {
        vectors: Vectors,
    }

    #[derive(Deserialize)]
    struct Vectors {
        body_deadline: Vec<Vector>,
    }

    /// A body in `chunks` of (second, bytes), or at a `rate`.
    #[derive(Deserialize)]
    struct Vector {
        grace_s: f64,
        rate_min: u32,
        gap_s: f64,
        length: usize,
        chunks: Option<Vec<(f64, usize)>>,
        rate: Option<usize>,
        verdict: String,
        ends_at_s: Option<f64>,
        at_s: Option<f64>,
    }

    const TICK_S: f64 = 0.01;

    impl Vector {
        fn chunks(&self) -> Vec<(f64, usize)> {
            let Some(rate) = self.rate else { return self.chunks.clone().unwrap_or_default() };
            let ticks = self.length as f64 / rate as f64 / TICK_S;
            let by = |tick: usize| (rate as f64 * tick as f64 * TICK_S) as usize;
            (1..=ticks.ceil() as usize)
                .map(|tick| (tick as f64 * TICK_S, by(tick).min(self.length) - by(tick - 1)))
                .collect()
        }

        /// Whether the body arrives, and the second at which this is known.
        fn outcome(&self) -> (bool, f64) {
            let pace = Pace {
                grace: Duration::from_secs_f64(self.grace_s),
                rate_min: self.rate_min,
                gap: Duration::from_secs_f64(self.gap_s),
            };
            let (mut received, mut last) = (0, 0.0);
            for (at, bytes) in self.chunks() {
                let deadline = pace.deadline(received, Duration::from_secs_f64(last));
                if at > deadline.as_secs_f64() {
                    return (false, deadline.as_secs_f64());
                }
                (received, last) = (received + bytes, at);
                if received >= self.length {
                    return (true, at);
                }
            }
            (false, pace.deadline(received, Duration::from_secs_f64(last)).as_secs_f64())
        }
    }

    #[test]
    fn a_body_is_given_up_exactly_when_the_contract_says() {
        let file = include_str!("../../../tests/cases/gateway_cases.json");
        let vectors = serde_json::from_str::<File>(file).unwrap().vectors.body_deadline;
        assert!(vectors.len() >= 7);
        for vector in vectors {
            let (complete, at) = vector.outcome();
            let what = format!("{} bytes: {}", vector.length, vector.verdict);
            assert_eq!(complete, vector.verdict == "complete", "{what}");
            let expected = vector.ends_at_s.or(vector.at_s).unwrap();
            assert!((at - expected).abs() < 0.1, "{what} at {at} for {expected}");
        }
    }
}
