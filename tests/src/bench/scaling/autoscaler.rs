//! Decides on a number of replicas as Kubernetes' `HorizontalPodAutoscaler` v2 does; pure. Time is an
//! argument. The metric belongs to [`super::lag_metric`].

use std::cmp::Ordering;
use std::time::Duration;

use super::policy::{ChangeLimit, ScalingPolicy};

/// Deviation from the target that changes nothing: `--horizontal-pod-autoscaler-tolerance`.
const TOLERANCE: f64 = 0.1;

/// Decides how many replicas there are to be.
#[derive(Debug)]
pub(super) struct Autoscaler {
    policy: ScalingPolicy,
    /// The recommendations of the longer window, each with its time.
    recommendations: Vec<(Duration, usize)>,
    changes: Vec<Change>,
}

#[derive(Debug)]
struct Change {
    at: Duration,
    added: usize,
    removed: usize,
}

impl Autoscaler {
    pub(super) fn new(policy: ScalingPolicy) -> Self {
        Self { policy, recommendations: Vec::new(), changes: Vec::new() }
    }

    /// Returns the number of replicas that is to follow on `replicas`, by the metric at this time.
    /// Times ascend from call to call.
    pub(super) fn decide(&mut self, at: Duration, metric: u64, replicas: usize) -> usize {
        let recommended = self.recommended(metric, replicas);
        let stabilised = self.stabilised(at, recommended, replicas);
        let wanted = self.limited(at, stabilised, replicas);
        if wanted != replicas {
            let added = wanted.saturating_sub(replicas);
            let removed = replicas.saturating_sub(wanted);
            self.changes.push(Change { at, added, removed });
        }
        wanted
    }

    /// The metric's target is an average (`GetExternalPerPodMetricReplicas`): one replica for each
    /// threshold, unless the present number is within the tolerance.
    fn recommended(&self, metric: u64, replicas: usize) -> usize {
        let threshold = self.policy.metric.threshold;
        let ratio = metric as f64 / (threshold as f64 * replicas as f64);
        if (1.0 - ratio).abs() <= TOLERANCE {
            replicas
        } else {
            metric.div_ceil(threshold) as usize
        }
    }

    /// The least recommendation of the window for adding and the greatest of the window for removing
    /// bound the change (`stabilizeRecommendationWithBehaviors`). The number at the start is a
    /// recommendation, too.
    fn stabilised(&mut self, at: Duration, recommended: usize, replicas: usize) -> usize {
        if self.recommendations.is_empty() {
            self.recommendations.push((at, replicas));
        }
        let (up, down) = (self.policy.up.window, self.policy.down.window);
        let within = |window: Duration| {
            let recent = self.recommendations.iter().filter(move |(then, _)| at - *then < window);
            recent.map(|(_, replicas)| *replicas)
        };
        let least = within(up).fold(recommended, usize::min);
        let greatest = within(down).fold(recommended, usize::max);
        self.recommendations.retain(|(then, _)| at - *then < up.max(down));
        self.recommendations.push((at, recommended));
        replicas.max(least).min(greatest)
    }

    /// Each limit counts from the number of replicas at the start of its period, and the widest
    /// decides (`convertDesiredReplicasWithBehaviorRate`).
    fn limited(&self, at: Duration, stabilised: usize, replicas: usize) -> usize {
        let ScalingPolicy { replicas_min, replicas_max, up, down, .. } = &self.policy;
        match stabilised.cmp(&replicas) {
            Ordering::Equal => replicas,
            Ordering::Greater => {
                let bound = |limit: &ChangeLimit| {
                    self.before(limit.period, at, replicas).saturating_add(limit.replicas)
                };
                let most = up.limits.iter().map(bound).max().unwrap_or(replicas).max(replicas);
                stabilised.min(most).min(*replicas_max)
            }
            Ordering::Less => {
                let bound = |limit: &ChangeLimit| {
                    self.before(limit.period, at, replicas).saturating_sub(limit.replicas)
                };
                let least = down.limits.iter().map(bound).min().unwrap_or(replicas).min(replicas);
                stabilised.max(least).max(*replicas_min)
            }
        }
    }

    /// Returns the number of replicas that there were before the changes of the last period.
    fn before(&self, period: Duration, at: Duration, replicas: usize) -> usize {
        let recent = || self.changes.iter().filter(move |change| at - change.at < period);
        let added: usize = recent().map(|change| change.added).sum();
        let removed: usize = recent().map(|change| change.removed).sum();
        (replicas + removed).saturating_sub(added)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> ScalingPolicy {
        let mut policy = ScalingPolicy::of_manifest().unwrap();
        (policy.replicas_min, policy.replicas_max) = (2, 12);
        policy.metric.threshold = 10_000;
        for (pace, window, replicas, period) in
            [(&mut policy.up, 30, 2, 60), (&mut policy.down, 600, 1, 120)]
        {
            pace.window = Duration::from_secs(window);
            pace.limits.truncate(1);
            pace.limits[0].replicas = replicas;
            pace.limits[0].period = Duration::from_secs(period);
        }
        policy
    }

    /// Plays observations, each a second, a metric and the number of replicas that follows.
    fn play(first: usize, observations: &[(u64, u64, usize)]) {
        let mut autoscaler = Autoscaler::new(policy());
        let mut replicas = first;
        for (second, metric, expected) in observations {
            replicas = autoscaler.decide(Duration::from_secs(*second), *metric, replicas);
            assert_eq!(replicas, *expected, "at {second} s");
        }
    }

    #[test]
    fn replicas_come_by_twos_after_a_window_of_higher_recommendations() {
        play(
            2,
            &[
                (0, 0, 2),
                // The recommendation of the start is in the window for adding.
                (15, 50_000, 2),
                (30, 50_000, 4),
                (45, 50_000, 4),
                (75, 50_000, 4),
                (90, 50_000, 5),
                (105, 900_000, 5),
            ],
        );
    }

    #[test]
    fn replicas_go_one_by_one_after_the_window_of_the_greatest_recommendation() {
        play(
            5,
            &[
                (0, 50_000, 5),
                (15, 0, 5),
                (585, 0, 5),
                (600, 0, 4),
                (705, 0, 4),
                (720, 0, 3),
                (840, 0, 2),
                (960, 0, 2),
            ],
        );
    }

    #[test]
    fn one_high_observation_keeps_the_replicas_for_the_whole_window() {
        play(5, &[(0, 50_000, 5), (300, 0, 5), (315, 50_000, 5), (600, 0, 5), (914, 0, 5)]);
    }

    #[test]
    fn a_small_deviation_changes_nothing_and_the_most_replicas_bound_everything() {
        play(4, &[(0, 43_000, 4), (30, 43_000, 4), (45, 45_000, 4), (90, 45_000, 5)]);
        play(11, &[(0, 900_000, 11), (30, 900_000, 12), (90, 900_000, 12)]);
    }
}
