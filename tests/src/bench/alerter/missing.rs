//! Measures devices that fall silent at once: the time until their alerts are recorded, and how soon
//! the readings of other devices are evaluated meanwhile.

use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use super::run::{alerter, owned};
use super::steady_load::{Progress, RATE, beside};
use super::workload::{HEART_RATE, PARTITIONS, send_each};
use crate::bench::table::Table;
use crate::fakes::platform;
use crate::fakes::wechat::FakeWechat;
use crate::stack::process::Service;
use crate::stack::wait::{eventually, pass};
use crate::stack::world::World;

/// Devices that fall silent.
const DEVICES: usize = 5_000;

/// Number of the first of them. The load has other devices.
const FIRST: usize = 100_000;

/// Time without a reading after which a device is missing. A device of the load never is.
const WINDOW: Duration = Duration::from_secs(30);

/// Time before the devices are due from which on the load is followed.
const LEAD: Duration = Duration::from_secs(5);

/// Time for which the load is followed after the alerts are recorded: people are notified.
const AFTER: Duration = Duration::from_secs(10);

/// The longest that a step may take: far longer than the measured times.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

/// Longest time until all alerts are recorded, in seconds.
const RECORDED_MAX: f64 = 5.0;

/// Longest time without an evaluation, in seconds.
const GAP_MAX: f64 = 1.0;

/// Measures from the time at which the first device is due.
pub(super) async fn measure(table: &mut Table) -> anyhow::Result<()> {
    println!("alerter: {DEVICES} devices missing at once, beside {RATE} readings/s");
    let world = World::shared("bench").await?.with_partitions(PARTITIONS);
    world.migrate().await?;
    platform::seed(&world, &[]).await?;
    platform::add_absence_rule(&world, WINDOW).await?;
    let wechat = FakeWechat::start().await?;
    let alerter = alerter(&world, &wechat)?;
    owned(&world).await?;
    let (recorded, progress) = beside(&world, followed(&world, &alerter)).await?;
    let name = |what: &str| format!("{DEVICES} missing at once: {what}");
    table.at_most(&name("until recorded"), recorded, RECORDED_MAX, " s");
    let gap = progress.gap.as_secs_f64();
    table.at_most(&name("longest without evaluation"), gap, GAP_MAX, " s");
    table.fact(&name("longest wait of others"), progress.wait, " s");
    alerter.terminate().await?;
    world.finish().await
}

/// Lets the devices send one reading each, beside a load that begins now.
///
/// Returns the seconds until all their alerts are recorded, and how soon the readings of the load
/// were evaluated around that time.
async fn followed(world: &World, alerter: &Service) -> anyhow::Result<(f64, Progress)> {
    let begun = Instant::now();
    eventually(SETTLED_WITHIN, "the load is evaluated", || async {
        Ok((alerter.metric("alerter_readings_total", "").await? > 0.0).then_some(()))
    })
    .await?;
    let due = Instant::now() + WINDOW;
    send_each(world, FIRST..FIRST + DEVICES, jiff::Timestamp::now().as_second(), HEART_RATE)?;
    pass(WINDOW - LEAD).await;
    let alerts = format!("t_alert_info WHERE device_sn >= '{}'", world.device(FIRST));
    let mut progress = Progress::new(begun, DEVICES);
    let (mut recorded, mut end) = (None, due + SETTLED_WITHIN);
    while Instant::now() < end {
        progress.look(alerter).await;
        if recorded.is_none() && world.database.count(&alerts).await? == DEVICES as i64 {
            recorded = Some(due.elapsed().as_secs_f64());
            end = Instant::now() + AFTER;
        }
    }
    Ok((recorded.context("the alerts are not recorded")?, progress))
}
