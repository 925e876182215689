//! Reads the scaling policy of the workers from the `ScaledObject` that Kubernetes gets. Applying the
//! policy belongs to [`super::lag_metric`] and [`super::autoscaler`].
//!
//! A field that neither of them applies is an error: the drill would measure another policy.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::de::{Error, IgnoredAny};
use serde::{Deserialize, Deserializer};

use crate::stack::root;

/// The file of the `ScaledObject`.
const MANIFEST: &str = "deploy/k8s/components/keda/scaled-object.yaml";

/// The least interval of observations. Workers commit offsets once a second, so a partition that is
/// observed more often would seem not to move.
const POLL_MIN: Duration = Duration::from_millis(1500);

/// By which lag, how far and how fast workers are added and removed.
#[derive(Debug, Clone)]
pub(super) struct ScalingPolicy {
    /// The least number of replicas.
    pub(super) replicas_min: usize,
    /// The greatest number of replicas.
    pub(super) replicas_max: usize,
    /// The interval of observations.
    pub(super) poll: Duration,
    /// The metric of an observation.
    pub(super) metric: MetricRule,
    /// The pace of adding replicas.
    pub(super) up: Pace,
    /// The pace of removing replicas.
    pub(super) down: Pace,
}

/// Which lag counts, and how much of it a replica is for.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MetricRule {
    /// Records that wait for each replica.
    #[serde(rename = "lagThreshold", deserialize_with = "from_text")]
    pub(super) threshold: u64,
    /// Whether partitions without lag need no replica.
    #[serde(default, deserialize_with = "from_text")]
    pub(super) limit_to_partitions_with_lag: bool,
    /// Whether the lag of a partition that does not move counts for nothing.
    #[serde(default, deserialize_with = "from_text")]
    pub(super) exclude_persistent_lag: bool,
    #[serde(rename = "offsetResetPolicy")]
    _reset: Reset,
    #[serde(rename = "bootstrapServersFromEnv")]
    _brokers: IgnoredAny,
    #[serde(rename = "topicFromEnv")]
    _topic: IgnoredAny,
    #[serde(rename = "consumerGroupFromEnv")]
    _group: IgnoredAny,
}

/// How fast the number of replicas changes in one direction.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Pace {
    /// The time for which the least change of all recommendations counts.
    #[serde(rename = "stabilizationWindowSeconds", deserialize_with = "seconds")]
    pub(super) window: Duration,
    /// The limits of the change, of which the widest counts.
    #[serde(rename = "policies")]
    pub(super) limits: Vec<ChangeLimit>,
}

/// The most replicas that are added or removed within a period.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct ChangeLimit {
    #[serde(rename = "type")]
    _unit: Unit,
    /// The number of replicas.
    #[serde(rename = "value")]
    pub(super) replicas: usize,
    /// The period.
    #[serde(rename = "periodSeconds", deserialize_with = "seconds")]
    pub(super) period: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Manifest {
    #[serde(rename = "apiVersion")]
    _version: IgnoredAny,
    #[serde(rename = "kind")]
    _kind: Kind,
    #[serde(rename = "metadata")]
    _metadata: IgnoredAny,
    spec: Spec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    #[serde(rename = "scaleTargetRef")]
    _target: IgnoredAny,
    min_replica_count: usize,
    max_replica_count: usize,
    #[serde(deserialize_with = "seconds")]
    polling_interval: Duration,
    triggers: [Trigger; 1],
    advanced: Advanced,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Trigger {
    #[serde(rename = "type")]
    _scaler: Scaler,
    use_cached_metrics: bool,
    metadata: MetricRule,
    #[serde(rename = "authenticationRef")]
    _authentication: IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Advanced {
    horizontal_pod_autoscaler_config: AutoscalerConfig,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AutoscalerConfig {
    behavior: Behaviour,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Behaviour {
    scale_up: Pace,
    scale_down: Pace,
}

#[derive(Debug, Deserialize)]
enum Kind {
    ScaledObject,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scaler {
    Kafka,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Reset {
    Earliest,
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum Unit {
    Pods,
}

/// Parses a value that KEDA takes as text.
fn from_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: Display,
{
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Ok(Duration::from_secs(u64::deserialize(deserializer)?))
}

impl ScalingPolicy {
    /// Reads the policy of the manifest.
    pub(super) fn of_manifest() -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(root().join(MANIFEST)).context(MANIFEST)?;
        Self::parse(&text).context(MANIFEST)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        // The file also holds how KEDA logs in, in a document of its own.
        let document = serde_norway::Deserializer::from_str(text).next();
        let Manifest { spec, .. } = Manifest::deserialize(document.context("an empty file")?)?;
        let [Trigger { metadata, use_cached_metrics, .. }] = spec.triggers;
        ensure!(use_cached_metrics, "the requests of the autoscaler would be observations, too");
        let Behaviour { scale_up, scale_down } =
            spec.advanced.horizontal_pod_autoscaler_config.behavior;
        let policy = Self {
            replicas_min: spec.min_replica_count,
            replicas_max: spec.max_replica_count,
            poll: spec.polling_interval,
            metric: metadata,
            up: scale_up,
            down: scale_down,
        };
        ensure!(policy.replicas_min > 0, "no replica is left to measure");
        ensure!(policy.replicas_max > policy.replicas_min, "the number of replicas is fixed");
        ensure!(policy.metric.threshold > 0, "lagThreshold is 0");
        let limited = [&policy.up, &policy.down].iter().all(|pace| !pace.limits.is_empty());
        ensure!(limited, "Kubernetes would take its own default for an empty list of policies");
        Ok(policy)
    }

    /// Returns the policy with every period divided by `factor`. The threshold stays.
    pub(super) fn faster(mut self, factor: u32) -> anyhow::Result<Self> {
        self.poll /= factor;
        ensure!(self.poll >= POLL_MIN, "observations would be less than {POLL_MIN:?} apart");
        for pace in [&mut self.up, &mut self.down] {
            pace.window /= factor;
            pace.limits.iter_mut().for_each(|limit| limit.period /= factor);
        }
        Ok(self)
    }

    /// Returns the longest time in which the greatest number of replicas becomes the least, once
    /// there is no lag.
    pub(super) fn descent(&self) -> Duration {
        let surplus = self.replicas_max - self.replicas_min;
        let steps = |limit: &ChangeLimit| surplus.div_ceil(limit.replicas.max(1)) as u32;
        let times = self.down.limits.iter().map(|limit| limit.period * steps(limit));
        self.down.window + times.min().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> String {
        std::fs::read_to_string(root().join(MANIFEST)).unwrap()
    }

    #[test]
    fn the_policy_of_the_manifest_is_read_and_made_faster_without_its_threshold() {
        let policy = ScalingPolicy::parse(&manifest()).unwrap();
        assert!(policy.metric.limit_to_partitions_with_lag && policy.metric.exclude_persistent_lag);
        let faster = policy.clone().faster(10).unwrap();
        assert_eq!(faster.metric.threshold, policy.metric.threshold);
        assert_eq!(faster.poll * 10, policy.poll);
        assert_eq!(faster.down.limits[0].period * 10, policy.down.limits[0].period);
        assert_eq!(faster.descent() * 10, policy.descent());
        assert!(policy.faster(1000).is_err());
    }

    #[test]
    fn a_policy_that_the_drill_does_not_apply_is_refused() {
        for (from, to) in [
            ("  pollingInterval: 15", "  pollingInterval: 15\n  cooldownPeriod: 300"),
            ("useCachedMetrics: true", "useCachedMetrics: false"),
            ("offsetResetPolicy: earliest", "offsetResetPolicy: latest"),
            ("limitToPartitionsWithLag", "allowIdleConsumers"),
            ("{type: Pods, value: 2", "{type: Percent, value: 2"),
            ("        scaleUp:", "        scaleUp:\n          selectPolicy: Min"),
            ("- type: kafka", "- type: apache-kafka"),
            ("lagThreshold: \"10000\"", "lagThreshold: many"),
        ] {
            let text = manifest();
            assert!(text.contains(from), "{from}");
            assert!(ScalingPolicy::parse(&text.replace(from, to)).is_err(), "{to}");
        }
    }
}
