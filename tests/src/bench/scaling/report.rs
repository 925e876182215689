//! The file of a drill: the policy, the load, the figures and the observations.

use super::policy::{ChangeLimit, Pace, ScalingPolicy};
use super::settings::{PARTITIONS, Settings};
use super::timeline::Timeline;
use crate::bench::series;
use crate::bench::table::{Table, machine};
use crate::stack::world::World;

/// Writes the file.
pub(super) async fn save(
    world: &World,
    settings: &Settings,
    policy: &ScalingPolicy,
    timeline: &Timeline,
    table: &Table,
) -> anyhow::Result<()> {
    let version = world.database.version().await?;
    let (database, date) = (series::database(&version), series::today());
    let Settings { faster, devices, .. } = settings;
    let ScalingPolicy { replicas_min, replicas_max, poll, metric, up, down } = policy;
    let text = format!(
        "# Workers by lag, {database}, {date}\n\n{}\n\nserver: {version}\n\n\
         The policy of `deploy/k8s/components/keda/scaled-object.yaml`, applied to worker processes: \
         {replicas_min} to {replicas_max} workers, one for each {} records of lag. All its periods are \
         divided by {faster}: an observation every {poll:?}; more workers after {}; fewer after {}. \
         Readings of vitals by {devices} devices are put into {PARTITIONS} partitions without a \
         gateway. No alerter runs.\n\n{}\n{}",
        machine(),
        metric.threshold,
        pace(up),
        pace(down),
        table.markdown(),
        timeline.markdown()
    );
    series::keep(&format!("scaling-{database}-{date}.md"), &text)
}

fn pace(Pace { window, limits }: &Pace) -> String {
    let limit =
        |ChangeLimit { replicas, period, .. }: &ChangeLimit| format!("{replicas} in {period:?}");
    let limits: Vec<_> = limits.iter().map(limit).collect();
    format!("{window:?}, by at most {}", limits.join(" or "))
}
