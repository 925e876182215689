//! Measures the time from a breaching reading's record in Kafka to the request at WeChat, while
//! other readings come at a steady rate. There are many tenants, so that no limit of a tenant
//! delays messages.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::ensure;
use tokio::time::Instant;

use super::run::alerter;
use super::workload::{PARTITIONS, add_rules};
use crate::bench::fill_topic::Filler;
use crate::bench::table::Table;
use crate::bench::workload::{Record, record};
use crate::fakes::wechat::{APP_SECRET, FakeWechat, TEMPLATE_ID};
use crate::fleet::TENANT;
use crate::stack::wait::{eventually, pass};
use crate::stack::world::World;

/// Readings a second.
const RATE: f64 = 2000.0;

/// Duration of the load.
const LENGTH: Duration = Duration::from_secs(60);

/// Devices of the readings. Each measures every ten seconds.
const DEVICES: usize = 20_000;

/// One reading in this many breaches, once on each device: ten messages a second.
const BREACHING_EVERY: usize = 200;

/// Tenants. Each gets six openings and six resolutions a minute. With fewer tenants the run would
/// measure the limit of 20 messages a minute and recipient, and not the latency.
const TENANTS: usize = 100;

/// A heart rate that breaches the notifying rule.
const HEART_RATE: usize = 200;

/// Time between two steps in which the producer catches up with its rate.
const STEP: Duration = Duration::from_millis(10);

/// Time between two checks of the fake WeChat: the error of a latency.
const LOOK_INTERVAL: Duration = Duration::from_millis(2);

/// The longest until the alerter evaluates, and until the last message is sent.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);

/// Fewest messages that make a P95.
const MESSAGES_MIN: usize = 400;

/// Length of a part of the run that is printed by itself, in milliseconds.
const PART_MS: i64 = 5_000;

/// Longest time for 95 of 100 messages, in seconds.
const P95_MAX: f64 = 1.0;

/// Measures from the record's time in Kafka to the arrival at the fake WeChat.
pub(super) async fn measure(table: &mut Table) -> anyhow::Result<()> {
    println!("alerter: {RATE} readings/s for {LENGTH:?}, messages by WeChat");
    let world = World::shared("bench").await?.with_partitions(PARTITIONS);
    world.migrate().await?;
    add_rules(&world).await?;
    add_telling_rule(&world).await?;
    add_accounts(&world).await?;
    let wechat = FakeWechat::start().await?;
    let alerter = alerter(&world, &wechat)?;
    eventually(SETTLED_WITHIN, "the alerter has its partitions", || async {
        let ledger = world.database.ledger(&world.alerter_group).await?;
        Ok((ledger.len() == world.partitions()).then_some(()))
    })
    .await?;
    let arrivals = tokio::spawn(arrivals(wechat, world.serial_prefix()));
    let sent = send(&world).await?;
    let arrived = arrivals.await?;
    by_time(&sent, &arrived);
    let mut seconds: Vec<f64> = sent
        .iter()
        .filter_map(|(device, sent)| Some((arrived.get(device)? - sent) as f64 / 1000.0))
        .collect();
    seconds.sort_by(f64::total_cmp);
    println!("  {} of {} breaches were told", seconds.len(), sent.len());
    ensure!(seconds.len() == sent.len() && seconds.len() >= MESSAGES_MIN, "too few");
    let at = |share: f64| seconds[(seconds.len() as f64 * share) as usize];
    table.fact("breach to WeChat, messages", seconds.len() as f64, "");
    table.fact("breach to WeChat, median", at(0.5), " s");
    table.at_most("breach to WeChat, P95", at(0.95), P95_MAX, " s");
    alerter.terminate().await?;
    world.finish().await
}

/// Prints the latencies by the time of the breach: the start differs from the rest of the run.
fn by_time(sent: &HashMap<String, i64>, arrived: &HashMap<String, i64>) {
    let Some(start) = sent.values().min() else { return };
    let mut parts: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (device, at) in sent {
        let Some(arrived) = arrived.get(device) else { continue };
        parts.entry((at - start) / PART_MS).or_default().push(arrived - at);
    }
    for (part, mut latencies) in parts {
        latencies.sort_unstable();
        let (middle, last) = (latencies[latencies.len() / 2], latencies[latencies.len() - 1]);
        println!("  from second {}: median {middle} ms, longest {last} ms", part * PART_MS / 1000);
    }
}

async fn add_telling_rule(world: &World) -> anyhow::Result<()> {
    world
        .database
        .execute(
            "INSERT INTO t_alert_rules (rule_type, physical_sign, threshold_max, trend_duration, \
             severity_level, alert_message, notification_type) VALUES ('told', 'heart_rate', 180, 1, \
             'critical', '{device_sn} {value}', 'wechat')",
        )
        .await
}

async fn add_accounts(world: &World) -> anyhow::Result<()> {
    for tenant in tenants() {
        let account = format!("{}{tenant}", world.app_id());
        world
            .database
            .execute(&format!(
                "INSERT INTO t_wechat_alarm_config (customer_id, type, appid, appsecret, template_id, \
                 enabled) VALUES ({tenant}, 'official', '{account}', '{APP_SECRET}', \
                 '{TEMPLATE_ID}', 1)"
            ))
            .await?;
        world
            .database
            .execute(&format!(
                "INSERT INTO t_alert_recipient_address (customer_id, user_id, kind, address) \
                 VALUES ({tenant}, 0, 'openid', 'openid-of-{tenant}')"
            ))
            .await?;
    }
    Ok(())
}

fn tenants() -> impl Iterator<Item = i64> {
    (0..TENANTS).map(|number| TENANT + number as i64)
}

/// Sends at the rate. Returns when the breaching reading of each device was sent, in milliseconds.
async fn send(world: &World) -> anyhow::Result<HashMap<String, i64>> {
    let filler = Filler::new(world)?;
    let all = (RATE * LENGTH.as_secs_f64()) as usize;
    let (started, mut number) = (Instant::now(), 0);
    let mut sent = HashMap::new();
    while number < all {
        let due = ((started.elapsed().as_secs_f64() * RATE) as usize).min(all);
        while number < due {
            let Record { device, partition, value } = reading(world, number);
            let breach = breaches(number);
            // The producer stamps the record when it is queued.
            let now = jiff::Timestamp::now().as_millisecond();
            filler.put(&device, partition, &value)?;
            if breach {
                sent.insert(device, now);
            }
            number += 1;
        }
        pass(STEP).await;
    }
    filler.flush()?;
    Ok(sent)
}

/// Every device breaches once at most: in each turn a different two-hundredth of them.
fn breaches(number: usize) -> bool {
    let (device, turn) = (number % DEVICES, number / DEVICES);
    device % BREACHING_EVERY == turn
}

fn reading(world: &World, number: usize) -> Record {
    let device = number % DEVICES;
    let heart_rate = if breaches(number) { HEART_RATE } else { 70 };
    let now = jiff::Timestamp::now().as_second();
    let mut record = record(world, device, now, heart_rate);
    let tenant = TENANT + (device / BREACHING_EVERY % TENANTS) as i64;
    let (whole, own) = (format!("\"customer_id\":{TENANT}"), format!("\"customer_id\":{tenant}"));
    record.value = record.value.replace(&whole, &own);
    record
}

/// Returns when the fake WeChat first got a message about each device, in milliseconds.
async fn arrivals(wechat: FakeWechat, prefix: String) -> HashMap<String, i64> {
    let expected = (RATE * LENGTH.as_secs_f64()) as usize / BREACHING_EVERY;
    let deadline = Instant::now() + LENGTH + SETTLED_WITHIN;
    let mut arrived = HashMap::new();
    let mut seen = 0;
    while arrived.len() < expected && Instant::now() < deadline {
        let (messages, now_seen) = wechat.messages_since(seen);
        seen = now_seen;
        let now = jiff::Timestamp::now().as_millisecond();
        for message in messages {
            let text = message.text();
            let device = text.split_whitespace().find(|word| word.starts_with(&prefix));
            if let Some(device) = device {
                arrived.entry(device.to_owned()).or_insert(now);
            }
        }
        pass(LOOK_INTERVAL).await;
    }
    arrived
}
