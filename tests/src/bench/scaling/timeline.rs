//! The observations of the drill, and the table of them.

use std::fmt::{self, Write};
use std::time::Duration;

/// Most rows of the table. Observations between two rows only count in their sums.
const ROWS_MAX: usize = 60;

/// One observation. Readings are counted from the start of the drill.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Observation {
    pub(super) at: Duration,
    pub(super) sent: usize,
    pub(super) stored: i64,
    /// Records behind the offsets that the group has committed.
    pub(super) lag: u64,
    /// The lag that counts.
    pub(super) metric: u64,
    pub(super) wanted: usize,
    pub(super) ready: usize,
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, sent, stored, lag, metric, wanted, ready } = self;
        write!(
            f,
            "{:>4.0} s: {sent} sent, {stored} stored, lag {lag} of which {metric} count, \
             {wanted} workers wanted, {ready} ready",
            at.as_secs_f64()
        )
    }
}

/// All observations, by time.
#[derive(Debug, Default)]
pub(super) struct Timeline(Vec<Observation>);

impl Timeline {
    pub(super) fn add(&mut self, observation: Observation) {
        self.0.push(observation);
    }

    /// Returns the greatest lag.
    pub(super) fn lag_max(&self) -> u64 {
        self.0.iter().map(|observation| observation.lag).max().unwrap_or_default()
    }

    /// Returns the most replicas that were wanted.
    pub(super) fn wanted_max(&self) -> usize {
        self.0.iter().map(|observation| observation.wanted).max().unwrap_or_default()
    }

    /// Returns the most readings a second that were stored over a time of `window`.
    pub(super) fn stored_max(&self, window: Duration) -> f64 {
        let rates = self.0.iter().filter_map(|from| {
            let to = self.0.iter().find(|to| to.at >= from.at + window)?;
            Some(rate(to.stored - from.stored, to.at - from.at))
        });
        rates.fold(0.0, f64::max)
    }

    /// Returns how long after `from` the lag was at most `lag` again.
    pub(super) fn recovery(&self, from: Duration, lag: u64) -> Option<Duration> {
        let later = |observation: &&Observation| observation.at >= from && observation.lag <= lag;
        self.0.iter().find(later).map(|found| found.at - from)
    }

    /// Returns the last observation.
    pub(super) fn last(&self) -> Option<&Observation> {
        self.0.last()
    }

    /// Returns the table as Markdown. Rates are those since the row before.
    pub(super) fn markdown(&self) -> String {
        let step = self.0.len().div_ceil(ROWS_MAX).max(1);
        let mut text = "| s | sent/s | stored/s | lag | counted | wanted | ready |\n".to_owned();
        text.push_str("|---|---|---|---|---|---|---|\n");
        let mut before = self.0.first().copied().unwrap_or_default();
        for row in self.0.iter().step_by(step) {
            let time = row.at - before.at;
            let sent = rate(row.sent as i64 - before.sent as i64, time);
            let stored = rate(row.stored - before.stored, time);
            let Observation { lag, metric, wanted, ready, .. } = row;
            let seconds = row.at.as_secs_f64();
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {seconds:.0} | {sent:.0} | {stored:.0} | {lag} | {metric} | {wanted} | {ready} |"
            );
            before = *row;
        }
        text
    }
}

fn rate(readings: i64, time: Duration) -> f64 {
    readings as f64 / time.as_secs_f64().max(0.001)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(observations: u64) -> Timeline {
        let observation = |second: u64| Observation {
            at: Duration::from_secs(second),
            sent: second as usize * 100,
            stored: second as i64 * 50,
            lag: second * 50,
            ..Observation::default()
        };
        Timeline((0..observations).map(observation).collect())
    }

    #[test]
    fn a_long_run_has_few_rows_with_the_rates_between_them() {
        let text = timeline(600).markdown();
        assert_eq!(text.lines().count(), 2 + ROWS_MAX);
        assert_eq!(text.lines().last(), Some("| 590 | 100 | 50 | 29500 | 0 | 0 | 0 |"));
    }

    #[test]
    fn the_greatest_rate_and_the_recovery_are_those_of_the_observations() {
        let timeline = timeline(100);
        assert_eq!(timeline.stored_max(Duration::from_secs(10)).round() as i64, 50);
        assert_eq!(timeline.recovery(Duration::from_secs(10), 500), Some(Duration::ZERO));
        assert_eq!(timeline.recovery(Duration::from_secs(11), 500), None);
    }
}
