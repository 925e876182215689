//! Measures the alerter's memory of devices and of rules on them: the resident memory of a process
//! that has just loaded this state, less that of a process that has loaded nothing.

use std::time::Duration;

use super::run::{alerter, passed, watched};
use super::workload::{HEART_RATE, PARTITIONS, send_each};
use crate::bench::table::Table;
use crate::bench::usage;
use crate::fakes::wechat::FakeWechat;
use crate::stack::wait::eventually;
use crate::stack::world::World;

/// Rules that evaluate every reading.
const RULES: usize = 20;

/// Devices without a tracked rule, and with every rule pending.
const DEVICES: usize = 100_000;

/// Devices with every rule firing: each of their episodes is a row of the platform's table.
const FIRING_DEVICES: usize = 10_000;

/// The longest that loading may take.
const LOADED_WITHIN: Duration = Duration::from_secs(300);

/// Bytes of a MiB.
const MIB: f64 = 1_048_576.0;

/// The state of every rule on every device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Quiet,
    Pending,
    Firing,
}

/// Measures bytes per device and per rule on a device.
pub(super) async fn measure(table: &mut Table) -> anyhow::Result<()> {
    println!("alerter: memory of {DEVICES} devices and {RULES} rules");
    let nothing = loaded(0, Standing::Quiet).await?;
    let quiet = loaded(DEVICES, Standing::Quiet).await?;
    let pending = loaded(DEVICES, Standing::Pending).await?;
    let few = loaded(FIRING_DEVICES, Standing::Quiet).await?;
    let firing = loaded(FIRING_DEVICES, Standing::Firing).await?;
    let tracked = |devices: usize| (devices * RULES) as f64;
    table.fact("memory, nothing loaded", nothing, " MiB");
    table.fact(&format!("memory, {DEVICES} devices, nothing tracked"), quiet, " MiB");
    table.fact(&format!("memory, {DEVICES} devices × {RULES} rules pending"), pending, " MiB");
    table.fact(&format!("memory, {FIRING_DEVICES} devices × {RULES} rules firing"), firing, " MiB");
    table.fact("memory, per device", (quiet - nothing) * MIB / DEVICES as f64, " B");
    let pending = (pending - quiet) * MIB / tracked(DEVICES);
    table.fact("memory, per device and pending rule", pending, " B");
    let firing = (firing - few) * MIB / tracked(FIRING_DEVICES);
    table.fact("memory, per device and firing rule", firing, " B");
    Ok(())
}

/// Returns the resident memory of an alerter that has loaded this state, in MiB.
async fn loaded(devices: usize, standing: Standing) -> anyhow::Result<f64> {
    let world = World::shared("bench").await?.with_partitions(PARTITIONS);
    world.migrate().await?;
    add_rules(&world, standing).await?;
    let wechat = FakeWechat::start().await?;
    let now = jiff::Timestamp::now().as_second();
    send_each(&world, 0..devices, now - 60, HEART_RATE)?;
    if devices > 0 {
        let first = alerter(&world, &wechat)?;
        watched(&world, &first, devices as i64).await?;
        first.terminate().await?;
    }
    let alerter = alerter(&world, &wechat)?;
    // A partition's state is loaded before its first reading is evaluated.
    send_each(&world, devices..devices + world.partitions(), now, HEART_RATE)?;
    let all = (devices + world.partitions()) as i64;
    eventually(LOADED_WITHIN, "the alerter has loaded its state", || async {
        Ok((passed(&world).await? >= all).then_some(()))
    })
    .await?;
    let resident = usage::resident(&alerter);
    println!("  {devices} devices, {standing:?}: {resident:.1} MiB");
    alerter.terminate().await?;
    world.finish().await?;
    Ok(resident)
}

async fn add_rules(world: &World, standing: Standing) -> anyhow::Result<()> {
    let (threshold, trend) = match standing {
        Standing::Quiet => (HEART_RATE, 1),
        Standing::Pending => (HEART_RATE - 1, 3),
        Standing::Firing => (HEART_RATE - 1, 1),
    };
    for rule in 0..RULES {
        world
            .database
            .execute(&format!(
                "INSERT INTO t_alert_rules (rule_type, physical_sign, threshold_max, \
                 trend_duration, severity_level, notification_type) VALUES ('rule-{rule}', \
                 'heart_rate', {threshold}, {trend}, 'major', 'log')"
            ))
            .await?;
    }
    Ok(())
}
