//! Measures the time from a breaching reading's record in Kafka to the message at WeChat, while
//! other readings come at a steady rate.

use std::collections::HashMap;
use std::time::Duration;

use super::messages::{self, NOTIFYING_HEART_RATE};
use super::run::{alerter, owned};
use super::steady_load::{DEVICES, RATE, send};
use super::workload::{HEART_RATE, PARTITIONS, add_rules};
use crate::bench::table::{Table, quantile};
use crate::bench::workload::{Record, record};
use crate::fakes::wechat::FakeWechat;
use crate::fleet::TENANT;
use crate::stack::world::World;

/// Duration of the load.
const LENGTH: Duration = Duration::from_secs(60);

/// One reading in this many breaches, once on each device: ten messages a second.
const BREACHING_EVERY: usize = 200;

/// Longest time for 95 of 100 messages, in seconds.
const P95_MAX: f64 = 1.0;

/// Measures from the record's time in Kafka to the arrival at the fake WeChat.
pub(super) async fn measure(table: &mut Table) -> anyhow::Result<()> {
    println!("alerter: {RATE} readings/s for {LENGTH:?}, messages by WeChat");
    let world = World::shared("bench").await?.with_partitions(PARTITIONS);
    world.migrate().await?;
    add_rules(&world).await?;
    messages::seed(&world).await?;
    let wechat = FakeWechat::start().await?;
    let alerter = alerter(&world, &wechat)?;
    owned(&world).await?;
    let seconds = delays(&world, &wechat, 0).await?;
    table.fact("breach to WeChat, messages", seconds.len() as f64, "");
    table.fact("breach to WeChat, median", quantile(&seconds, 0.5), " s");
    table.at_most("breach to WeChat, P95", quantile(&seconds, 0.95), P95_MAX, " s");
    alerter.terminate().await?;
    world.finish().await
}

/// Sends the readings of a run to an alerter that has its partitions. Each run has its own devices.
///
/// Returns the seconds from each breach to its message, in ascending order.
pub(super) async fn delays(
    world: &World,
    wechat: &FakeWechat,
    run: usize,
) -> anyhow::Result<Vec<f64>> {
    let all = (RATE * LENGTH.as_secs_f64()) as usize;
    let mut sent = HashMap::new();
    send(world, |number| {
        let reading = (number < all).then(|| reading(world, run, number))?;
        // The producer stamps the record when it is queued.
        if breaches(number) {
            sent.insert(reading.device.clone(), wechat.now());
        }
        Some(reading)
    })
    .await?;
    messages::delays(world, wechat, &sent).await
}

/// Every device breaches once at most: in each turn a different two-hundredth of them.
fn breaches(number: usize) -> bool {
    let (device, turn) = (number % DEVICES, number / DEVICES);
    device % BREACHING_EVERY == turn
}

fn reading(world: &World, run: usize, number: usize) -> Record {
    let device = number % DEVICES;
    let heart_rate = if breaches(number) { NOTIFYING_HEART_RATE } else { HEART_RATE };
    let now = jiff::Timestamp::now().as_second();
    let mut record = record(world, run * DEVICES + device, now, heart_rate);
    let tenant = messages::tenant(device / BREACHING_EVERY);
    let (whole, own) = (format!("\"customer_id\":{TENANT}"), format!("\"customer_id\":{tenant}"));
    record.value = record.value.replace(&whole, &own);
    record
}
