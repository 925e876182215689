//! Causes of operator alerts. Each scenario returns the names of the rules that it saw fire and
//! clear.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::clients::http;
use ljwx_tests::clients::kafka;
use ljwx_tests::clients::mysql::{Database, Lock};
use ljwx_tests::fakes::tcp_proxy::Proxy;
use ljwx_tests::stack::launch::free_address;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::{eventually, pass};
use serde_json::json;

use super::watched::{SOON, Watched, send};
use crate::support::world;

/// Rules that a scenario has seen fire and clear.
pub type Proved = Vec<&'static str>;

/// The longest that a rule may take to fire whose cause is an age of two minutes.
const LATE: Duration = Duration::from_secs(200);

/// The duration of each batch of a slow database.
const LOCKED: Duration = Duration::from_secs(7);

/// The topic's retention, in milliseconds: readings that wait are then about to be lost.
const RETENTION_MS: i64 = 3_600_000;

/// A retention that is long enough, in milliseconds.
const RETENTION_SAFE_MS: i64 = 7 * 24 * 3_600_000;

/// The time by which a device's clock is ahead, in seconds.
const AHEAD_SECONDS: i64 = 3_600;

/// Readings in one body: more than the load sends until the next body.
const BODY_READINGS: i64 = 20;

async fn health(worker: &Service) -> Result<http::Answer> {
    http::get(&worker.admin("/api/batch_processor/health")).await
}

/// The database is unreachable until readings are older than two minutes.
pub async fn database_away() -> Result<Proved> {
    const RULES: [&str; 7] = [
        "CanaryNotVisible",
        "DatabaseUnreachable",
        "ReadingsQueueLong",
        "OldestReadingTooOld",
        "AlerterBehind",
        "PartitionStalled",
        "BatchProcessingSlow",
    ];
    let world = world("opaway").await?;
    let proxy = Proxy::start(world.database.url()).await?;
    let url = proxy.url(world.database.url())?;
    // The worker sends its canary to the gateway, whose address must be known before.
    let gateway = free_address()?;
    let canary = format!("http://{gateway}/upload_health_data");
    let watched = Watched::start_in(world, |launch| {
        launch.at(gateway).env("MYSQL_URL", &url).env("CANARY_URL", &canary)
    })
    .await?;
    let load = watched.load();
    proxy.away();
    watched.prometheus.fire(&RULES, LATE).await?;
    let answer = health(&watched.worker).await?;
    ensure!(answer.status == 503 && answer.json["status"] == "unhealthy", "{}", answer.text);
    for service in [&watched.worker, &watched.alerter] {
        let alive = http::get(&service.admin("/livez")).await?;
        ensure!(alive.status == 200, "{} is not alive: {}", service.name(), alive.text);
    }
    let sent = load.acknowledged();
    drop(load);
    proxy.back();
    watched.prometheus.clear(&RULES, SOON).await?;
    eventually(SOON, "what was acknowledged is stored", || async {
        let stored = watched.world.database.number(STORED).await?;
        ensure!(stored >= sent, "{stored} of {sent} readings are stored");
        Ok(Some(()))
    })
    .await?;
    watched.end().await?;
    Ok(RULES.into())
}

const STORED: &str = "SELECT COALESCE(SUM(`stored` + merged), 0) FROM ingest_progress";

/// The database accepts every batch, each after a delay.
pub async fn database_slow() -> Result<Proved> {
    const RULES: [&str; 2] = ["BatchProcessingSlow", "EndToEndSlow"];
    let watched = Watched::start("opslow", |launch| launch).await?;
    let database = &watched.world.database;
    let lock = database.lock("ingest_progress").await?;
    let load = watched.load();
    tokio::select! {
        ended = hold_up(database, lock) => match ended? {},
        fired = watched.prometheus.fire(&RULES, LATE) => fired?,
    }
    // The lock was dropped with the future that held it.
    watched.prometheus.clear(&RULES, SOON).await?;
    drop(load);
    watched.end().await?;
    Ok(RULES.into())
}

/// Delays every batch, without end.
async fn hold_up(database: &Database, mut lock: Lock) -> Result<Infallible> {
    loop {
        // The next lock waits behind the batches that the first lock delays, and before the batches
        // that come after them.
        let (next, released) = tokio::join!(locked(database), async {
            pass(LOCKED).await;
            lock.release().await
        });
        released?;
        lock = next;
    }
}

/// Locks the ledger. Retries if a batch and the lock block each other.
async fn locked(database: &Database) -> Lock {
    loop {
        if let Ok(lock) = database.lock("ingest_progress").await {
            return lock;
        }
        pass(Duration::from_millis(10)).await;
    }
}

/// WeChat is unreachable, a rule is invalid, a process has too little memory.
pub async fn never_notified() -> Result<Proved> {
    const RULES: [&str; 4] =
        ["WechatFailing", "NotificationsLate", "AlertRulesRefused", "MemoryHigh"];
    let mut watched = Watched::start("opunsent", |launch| launch).await?;
    watched.wechat.down();
    for device in 0..3 {
        watched.measure(device, &[130, 131, 132]).await?;
    }
    let wrong = "INSERT INTO t_alert_rules (rule_type, physical_sign, threshold_min, threshold_max, \
                 severity_level) VALUES ('WRONG', 'heart_rate', 200, 100, 'major')";
    watched.world.database.execute(wrong).await?;
    watched.world.cache.announce_rules().await?;
    // A worker starts in spite of this limit. A gateway would not start: its bounds would exceed
    // its memory.
    let small = watched.world.worker().env("MEMORY_LIMIT", "1000000").start().await?;
    watched.prometheus.add("worker", &small)?;
    watched.prometheus.fire(&RULES, LATE).await?;
    watched.wechat.up();
    watched.world.database.execute("DELETE FROM t_alert_rules WHERE rule_type = 'WRONG'").await?;
    watched.world.cache.announce_rules().await?;
    watched.prometheus.remove("worker", &small)?;
    ensure!(small.terminate().await?.success(), "the small worker failed");
    watched.prometheus.clear(&RULES, LATE).await?;
    // What waited for the account may come as a digest.
    let messages = watched.wechat.messages();
    let alerts = messages.iter().map(|message| {
        let event = message.fields.get(1).map_or("", |(_, event)| event.as_str());
        let digest = event.split_once("汇总 ").and_then(|(_, rest)| rest.split_once('条'));
        digest.and_then(|(count, _)| count.parse().ok()).unwrap_or(1)
    });
    ensure!(alerts.sum::<usize>() == 3, "{messages:?}");
    watched.end().await?;
    Ok(RULES.into())
}

/// Processes are killed: first a replica, then all.
pub async fn processes_gone() -> Result<Proved> {
    const LOST: [&str; 2] = ["WorkerReplicaLost", "PartitionWithoutOwner"];
    const STOPPED: [&str; 3] = ["WorkerStopped", "AlerterStopped", "GatewayStopped"];
    // The session is long enough for the alerts to fire before other replicas take the partitions
    // over.
    let long = |launch: ljwx_tests::stack::launch::Launch| launch.env("SESSION_TIMEOUT", "15s");
    let mut watched = Watched::start("opgone", long).await?;
    let second = long(watched.world.worker()).start().await?;
    watched.prometheus.add("worker", &second)?;
    eventually(SOON, "both have partitions", || async {
        Ok((second.metric("consumer_partitions_owned", "").await? == 2.0).then_some(()))
    })
    .await?;
    second.signal("KILL").await?;
    watched.prometheus.fire(&LOST, SOON).await?;
    watched.prometheus.clear(&LOST[1..], SOON).await?;
    watched.prometheus.remove("worker", &second)?;
    watched.prometheus.clear(&LOST, SOON).await?;
    for service in [&watched.gateway, &watched.worker, &watched.alerter] {
        service.signal("KILL").await?;
    }
    watched.prometheus.fire(&STOPPED, SOON).await?;
    let (gateway, worker, alerter) = tokio::try_join!(
        watched.world.gateway().start(),
        watched.world.worker().start(),
        watched.world.alerter(&watched.wechat).start(),
    )?;
    watched.prometheus.add("gateway", &gateway)?;
    watched.prometheus.add("worker", &worker)?;
    watched.prometheus.add("alerter", &alerter)?;
    watched.prometheus.clear(&STOPPED, SOON).await?;
    Watched { gateway, worker, alerter, ..watched }.end().await?;
    Ok([&LOST[..], &STOPPED[..]].concat())
}

/// Values that the tables reject, a ledger that does not balance, a forgotten pause, a short
/// retention, a device whose clock is ahead, and an unreachable collector.
pub async fn wrong_data() -> Result<Proved> {
    let world = world("opdata").await?;
    kafka::set_retention(&world.stack.kafka_brokers, &world.readings_topic, RETENTION_MS).await?;
    let collector = world.stack.otlp_endpoint.clone().context("Jaeger is needed here")?;
    let proxy = Proxy::start(&format!("{collector}/")).await?;
    let endpoint = proxy.url(&format!("{collector}/"))?;
    let watched = Watched::start_in(world, |launch| {
        launch
            .env("DEAD_LETTERS_CONSECUTIVE_MAX", "5")
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
    })
    .await?;
    let load = watched.load();
    let url = watched.gateway.url("/upload_health_data");
    let (prometheus, database) = (&watched.prometheus, &watched.world.database);

    proxy.away();
    watched.narrow().await?;
    let device = watched.world.device(5);
    tokio::select! {
        ended = refused(&url, &device) => match ended? {},
        fired = prometheus.fire(&["ReadingErrorsHigh"], SOON) => fired?,
    }
    // More rejected readings in a row than the dead-letter breaker allows.
    let times = (0..BODY_READINGS).map(|second| format!("2025-09-02 16:00:{second:02}"));
    post(&url, &watched.world.device(7), 200, times).await?;
    prometheus.fire(&["DeadLetterBreakerOpen"], SOON).await?;
    let answer = health(&watched.worker).await?;
    ensure!(answer.status == 503 && answer.text.contains("breaker"), "{}", answer.text);
    database.execute("ALTER TABLE t_user_health_data MODIFY heart_rate INT NULL").await?;
    prometheus.fire(&["SpansLost"], SOON).await?;
    proxy.back();
    prometheus.clear(&["DeadLetterBreakerOpen", "ReadingErrorsHigh", "SpansLost"], SOON).await?;

    let lie = |by: i64| format!("UPDATE ingest_progress SET merged = merged + {by} LIMIT 1");
    database.execute(&lie(1)).await?;
    prometheus.fire(&["LedgerDoesNotBalance"], SOON).await?;
    database.execute(&lie(-1)).await?;
    prometheus.clear(&["LedgerDoesNotBalance"], SOON).await?;

    let pause = watched.world.launch("worker", &["pause", "--reason", "a test"]).finish().await?;
    ensure!(pause.code == Some(0), "{}", pause.text);
    // Alerters are not paused, and evaluate no reading that is ahead of the clock.
    let late = ["RetentionNear", "ConsumerPaused", "TopicUnsafe", "DevicesClockAhead"];
    let device = watched.world.device(9);
    tokio::select! {
        ended = ahead_of_clock(&url, &device) => match ended? {},
        fired = prometheus.fire(&late, LATE) => fired?,
    }
    let answer = health(&watched.worker).await?;
    ensure!(answer.json["status"] == "degraded", "{}", answer.text);
    let resume = watched.world.launch("worker", &["resume"]).finish().await?;
    ensure!(resume.code == Some(0), "{}", resume.text);
    drop(load);
    prometheus.clear(&["RetentionNear", "ConsumerPaused", "DevicesClockAhead"], SOON).await?;
    let (brokers, topic) = (&watched.world.stack.kafka_brokers, &watched.world.readings_topic);
    kafka::set_retention(brokers, topic, RETENTION_SAFE_MS).await?;
    prometheus.clear(&["TopicUnsafe"], LATE).await?;
    watched.end().await?;
    let others =
        ["DeadLetterBreakerOpen", "ReadingErrorsHigh", "SpansLost", "LedgerDoesNotBalance"];
    Ok([&late[..], &others].concat())
}

/// Sends single readings that the database rejects beside those of the load, without end.
async fn refused(url: &str, device: &str) -> Result<Infallible> {
    loop {
        send(url, device, 200).await?;
        pass(Duration::from_millis(500)).await;
    }
}

/// Sends readings of a device whose clock is ahead, without end.
async fn ahead_of_clock(url: &str, device: &str) -> Result<Infallible> {
    loop {
        let from = jiff::Timestamp::now().as_second() + AHEAD_SECONDS;
        let times = (0..BODY_READINGS).map(|second| wall_time(from + second));
        post(url, device, 70, times).await?;
        pass(Duration::from_millis(500)).await;
    }
}

/// Sends readings of these times in one body.
async fn post(
    url: &str,
    device: &str,
    heart_rate: i32,
    times: impl Iterator<Item = String>,
) -> Result<()> {
    let item =
        |time: String| json!({"deviceSn": device, "timestamp": time, "heart_rate": heart_rate});
    let items: Vec<_> = times.map(item).collect();
    let answer = http::post(url, json!({ "data": items }).to_string()).await?;
    ensure!(answer.status == 200, "{}", answer.text);
    Ok(())
}
