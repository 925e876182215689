//! Measures the processor that owed notifications cost: the alerter tries each again every minute, also
//! without any reading.

use std::time::Duration;

use anyhow::Context;

use super::messages::{NOTIFYING_HEART_RATE, add_account, add_notifying_rule};
use super::run::{alerter, watched};
use super::workload::{HEART_RATE, PARTITIONS, send_each};
use crate::bench::table::Table;
use crate::bench::usage;
use crate::fakes::wechat::{APP_SECRET, FakeWechat};
use crate::fleet::TENANT;
use crate::stack::process::Service;
use crate::stack::wait::{eventually, pass};
use crate::stack::world::World;

/// Devices, each with an alert that reaches no one.
const DEVICES: usize = 10_000;

/// Time of each measurement: two tries of each notification.
const LENGTH: Duration = Duration::from_secs(120);

/// The longest until all alerts are open.
const OPENED_WITHIN: Duration = Duration::from_secs(120);

/// Largest share of a core, in percent.
const SHARE_MAX: f64 = 5.0;

/// Measures the same devices first without an alert.
pub(super) async fn measure(table: &mut Table) -> anyhow::Result<()> {
    println!("alerter: {DEVICES} owed notifications, twice {LENGTH:?}");
    let world = World::shared("bench").await?.with_partitions(PARTITIONS);
    world.migrate().await?;
    add_notifying_rule(&world).await?;
    // The tenant has an account and no recipient, so each try looks people up.
    add_account(&world, TENANT, APP_SECRET).await?;
    let wechat = FakeWechat::start().await?;
    let alerter = alerter(&world, &wechat)?;
    let now = jiff::Timestamp::now().as_second();
    send_each(&world, 0..DEVICES, now - 60, HEART_RATE)?;
    watched(&world, &alerter, DEVICES as i64).await?;
    let before = share(&alerter).await?;
    let now = jiff::Timestamp::now().as_second();
    send_each(&world, 0..DEVICES, now, NOTIFYING_HEART_RATE)?;
    eventually(OPENED_WITHIN, "each alert owes a notification", || async {
        let owed = alerter.metric("alerter_notifications_owed", "no_recipient").await?;
        Ok((owed >= DEVICES as f64).then_some(()))
    })
    .await?;
    let owing = share(&alerter).await?;
    table.fact(&format!("{DEVICES} not owed: processor"), before, " %");
    table.fact(&format!("{DEVICES} owed: processor"), owing, " %");
    table.at_most(&format!("{DEVICES} owed: processor more"), owing - before, SHARE_MAX, " %");
    alerter.terminate().await?;
    world.finish().await
}

/// Returns the share of a core that the alerter uses for a while, in percent.
async fn share(alerter: &Service) -> anyhow::Result<f64> {
    let used = || alerter.pid().and_then(usage::cpu).context("the alerter has exited");
    let first = used()?;
    pass(LENGTH).await;
    Ok((used()? - first) / LENGTH.as_secs_f64() * 100.0)
}
