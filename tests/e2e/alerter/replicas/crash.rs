//! Alerters that die, freeze and share their work notify like an undisturbed one: the same episodes
//! at the same times, and no message twice.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::clients::kafka;
use ljwx_tests::fakes::platform;
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::fleet::TENANT;
use ljwx_tests::stack::launch::Launch;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::support::{finish, world};

/// The longest that the last evaluation and notification may take.
const SOON: Duration = Duration::from_secs(900);

/// Longer than the members' session.
const FROZEN: Duration = Duration::from_secs(14);

/// The size of the tests. The environment can set the full size.
struct Size {
    /// The time of the first reading, the same in every world. Old readings would be late.
    start: i64,
    devices: usize,
    readings: usize,
    kills: usize,
}

impl Size {
    /// Reads the size from `ALERT_KILLS` and `ALERT_READINGS` (of one device), which can make it
    /// larger.
    fn from_environment() -> Self {
        Self {
            start: jiff::Timestamp::now().as_second(),
            devices: 40,
            readings: set_number("ALERT_READINGS").unwrap_or(40),
            kills: set_number("ALERT_KILLS").unwrap_or(6),
        }
    }
}

/// Returns the number that an environment variable holds, if the variable is set.
pub(super) fn set_number(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

/// Creates rules of several kinds, so that every kind of state is stored and loaded.
async fn seed(world: &World) -> Result<()> {
    platform::seed(world, &[]).await?;
    let expression = json!({"logical_operator": "AND", "conditions": [
        {"physical_sign": "heart_rate", "operator": ">", "threshold": 110, "duration_seconds": 20},
        {"physical_sign": "blood_oxygen", "operator": "<", "threshold": 96, "duration_seconds": 0},
    ]});
    let columns = "rule_type, rule_category, physical_sign, threshold_min, threshold_max, clear_max, \
                   clear_after, trend_duration, cooldown_seconds, condition_expression, escalation, \
                   severity_level, notification_type";
    let escalation = json!([{"after_seconds": 40, "to": "critical"}]);
    for values in [
        "'plain', 'SINGLE', 'heart_rate', NULL, 120, NULL, NULL, 1, 0, NULL, NULL, 'major', 'wechat'"
            .to_owned(),
        "'slow', 'SINGLE', 'heart_rate', NULL, 115, 105, 2, 3, 60, NULL, NULL, 'minor', 'wechat'"
            .to_owned(),
        format!(
            "'low', 'SINGLE', 'blood_oxygen', 93, NULL, NULL, NULL, 1, 30, NULL, '{escalation}', \
             'moderate', 'wechat'"
        ),
        format!(
            "'both', 'COMPOSITE', NULL, NULL, NULL, NULL, NULL, 1, 0, '{expression}', NULL, \
             'critical', 'wechat'"
        ),
    ] {
        let sql = format!("INSERT INTO t_alert_rules ({columns}) VALUES ({values})");
        world.database.execute(&sql).await?;
    }
    world.database.execute("UPDATE t_alert_rules SET time_window_seconds = 120").await?;
    // The rule `low` may flap. The other rules cannot flap, so that all their notifications are
    // sent.
    let unsilenced = "UPDATE t_alert_rules SET flap_openings = 1000 WHERE rule_type <> 'low'";
    world.database.execute(unsilenced).await
}

/// Returns the same stream of readings for every world: random heart rates and blood oxygen of one
/// seed.
fn stream(world: &World, size: &Size) -> Vec<(String, Vec<u8>)> {
    let mut random = StdRng::seed_from_u64(7);
    let mut all = Vec::with_capacity(size.devices * size.readings);
    for step in 0..size.readings {
        for device in 0..size.devices {
            let epoch = size.start + i64::try_from(step * 10).unwrap_or_default();
            let (rate, oxygen) = (random.random_range(90..135), random.random_range(90..100));
            let reading = json!({
                "device_sn": world.device(device), "customer_id": TENANT,
                "timestamp": wall_time(epoch), "epoch_ms": epoch * 1000,
                "received_at": epoch * 1000, "upload_method": "wifi",
                "heart_rate": rate, "blood_oxygen": oxygen,
            });
            all.push((world.device(device), reading.to_string().into_bytes()));
        }
    }
    all
}

/// An alerter without effective limits: these tests are not about the number of messages.
pub(super) fn alerter(world: &World, wechat: &FakeWechat) -> Launch {
    world
        .alerter(wechat)
        .env("RECIPIENT_MESSAGES_PER_MINUTE", "1000000")
        .env("ACCOUNT_MESSAGES_PER_SECOND", "100000")
}

/// The result of a run, without the names that belong to its world.
#[derive(Debug, PartialEq)]
struct Outcome {
    alerts: BTreeSet<String>,
    notifications: BTreeSet<String>,
}

/// Returns the rows of a query, of which no two may be alike.
async fn distinct(world: &World, query: &str) -> Result<BTreeSet<String>> {
    let rows = world.database.rows(query).await?;
    let (count, prefix) = (rows.len(), world.serial_prefix());
    let rows: BTreeSet<_> =
        rows.into_iter().flatten().flatten().map(|row| row.replace(&prefix, "")).collect();
    ensure!(rows.len() == count, "{count} rows, {} of them distinct: {query}", rows.len());
    Ok(rows)
}

/// Returns the outcome, once each message reports its notifications and no message came twice. How
/// notifications of one reading share messages depends on what still waited, so what each of them
/// says is compared in its row.
async fn outcome(world: &World, wechat: &FakeWechat) -> Result<Outcome> {
    eventually(SOON, "everything is evaluated and notified", || async {
        let lag = world.alerter_lag().await?;
        let waiting = "t_alert_outbox WHERE state IN ('pending', 'in_digest')";
        let waiting = world.database.count(waiting).await?;
        ensure!(lag == 0 && waiting == 0, "{lag} readings, {waiting} notifications");
        Ok(Some(()))
    })
    .await?;
    let alerts = "SELECT CONCAT_WS(' ', rule_id, device_sn, occur_at, recover_at, severity_level, \
                  alert_status, metric, value) FROM t_alert_info";
    let notifications = "SELECT CONCAT_WS(' ', rule_id, alert.device_sn, occur_at, transition_seq, \
                         transition, recipient, JSON_UNQUOTE(JSON_EXTRACT(notice, '$.user', \
                         '$.text', '$.value', '$.goes_on')) COLLATE utf8mb4_bin, state) \
                         FROM t_alert_outbox AS notification \
                         JOIN t_alert_info AS alert ON dedup_key = episode_key";
    let alerts = distinct(world, alerts).await?;
    let notifications = distinct(world, notifications).await?;
    ensure!(notifications.iter().all(|row| row.ends_with("sent")), "one was not sent");
    let messages = world.database.count("t_alert_outbox WHERE digest_id IS NULL").await?;
    let received = wechat.messages().len();
    ensure!(received == usize::try_from(messages)?, "{received} messages came, not {messages}");
    Ok(Outcome { alerts, notifications })
}

/// Returns the outcome of an undisturbed run.
async fn undisturbed(name: &str, size: &Size) -> Result<Outcome> {
    let world = world(name).await?;
    seed(&world).await?;
    let wechat = FakeWechat::start().await?;
    let alerter = alerter(&world, &wechat).start().await?;
    kafka::fill(&world.stack.kafka_brokers, &world.readings_topic, &stream(&world, size)).await?;
    let outcome = outcome(&world, &wechat).await?;
    let count = outcome.notifications.len();
    ensure!(count > size.devices * size.readings / 4, "only {count} notifications");
    finish(world, [alerter]).await?;
    Ok(outcome)
}

fn ensure_alike(found: &Outcome, expected: &Outcome) -> Result<()> {
    for (what, found, expected) in [
        ("alerts", &found.alerts, &expected.alerts),
        ("notifications", &found.notifications, &expected.notifications),
    ] {
        let missing: Vec<_> = expected.difference(found).take(5).collect();
        let surplus: Vec<_> = found.difference(expected).take(5).collect();
        ensure!(found == expected, "{what}: missing {missing:?}, too many {surplus:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alerter_killed_again_and_again_notifies_as_an_undisturbed_one() -> Result<()> {
    let size = Size::from_environment();
    let expected = undisturbed("calm", &size).await?;
    let world = world("killed").await?;
    seed(&world).await?;
    let wechat = FakeWechat::start().await?;
    let all = stream(&world, &size);
    let seed = rand::random();
    eprintln!("kills at moments of seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    // The group instance is the same each time, so that it gets its partitions at once.
    let member = || alerter(&world, &wechat).env("GROUP_INSTANCE_ID", "alerter-0");
    for chunk in all.chunks(all.len().div_ceil(size.kills)) {
        let alerter = member().spawn()?;
        pass(Duration::from_millis(random.random_range(0..800))).await;
        kafka::fill(&world.stack.kafka_brokers, &world.readings_topic, chunk).await?;
        pass(Duration::from_millis(random.random_range(0..2_500))).await;
        alerter.kill().await?;
    }
    let alerter = member().start().await?;
    let found = outcome(&world, &wechat).await?;
    ensure_alike(&found, &expected)?;
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn alerters_that_come_go_die_and_freeze_notify_nobody_twice() -> Result<()> {
    let size = Size::from_environment();
    let expected = undisturbed("steady", &size).await?;
    let world = World::shared("shared").await?.with_partitions(8);
    world.migrate().await?;
    seed(&world).await?;
    let wechat = FakeWechat::start().await?;
    let all = stream(&world, &size);
    let (first, rest) = all.split_at(all.len() / 4);
    let (second, rest) = rest.split_at(all.len() / 4);
    let (third, last) = rest.split_at(all.len() / 4);
    let publish = |part| kafka::fill(&world.stack.kafka_brokers, &world.readings_topic, part);
    let (one, two) =
        tokio::try_join!(alerter(&world, &wechat).start(), alerter(&world, &wechat).start())?;
    publish(first).await?;
    one.kill().await?;
    publish(second).await?;
    let three = alerter(&world, &wechat).start().await?;
    two.signal("STOP").await?;
    publish(third).await?;
    pass(FROZEN).await;
    // The alerter may still try to write and send what it held when it froze.
    two.signal("CONT").await?;
    publish(last).await?;
    let found = outcome(&world, &wechat).await?;
    ensure_alike(&found, &expected)?;
    two.terminate().await?;
    three.terminate().await?;
    world.finish().await
}
