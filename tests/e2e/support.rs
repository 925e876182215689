//! Steps that several tests share: starting and ending a pipeline, sending readings, waiting until
//! the services have processed them, and checking the result. A step of a single test stays with
//! that test.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::accounting::verdict::{self, wall_time};
use ljwx_tests::clients::http;
use ljwx_tests::clients::kafka::{self, Record};
use ljwx_tests::clients::redis::Cache;
use ljwx_tests::fakes::platform::{self, HEART_RATE_HIGH};
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::fleet::{Fleet, Report, Settings, TENANT};
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::{Value, json};

/// The longest that a step without a time limit of its own may take.
pub const SOON: Duration = Duration::from_secs(30);

/// The longest that the pipeline may take to process every record, also after a fault of the
/// database.
pub const RECOVERED_WITHIN: Duration = Duration::from_secs(40);

/// The longest that the pipeline may take to catch up after a fault. Kafka removes a dead member of
/// a consumer group only after its session.
pub const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(90);

/// The duration of the load.
const LOAD: Duration = Duration::from_secs(10);

/// The minute of the readings' times.
pub const AT: &str = "2025-09-02 16:09";

/// Returns the present time in seconds, for readings.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Creates a world beside others, with its tables and topics.
pub async fn world(name: &str) -> Result<World> {
    let world = World::shared(name).await?;
    world.migrate().await?;
    Ok(world)
}

/// Creates a world with a rule on high heart rates, and starts a WeChat for its messages.
pub async fn seeded(name: &str) -> Result<(World, FakeWechat)> {
    let world = world(name).await?;
    platform::seed(&world, &[HEART_RATE_HIGH]).await?;
    Ok((world, FakeWechat::start().await?))
}

/// Starts a gateway in a new world.
pub async fn gateway(name: &str) -> Result<(World, Service)> {
    let world = world(name).await?;
    let gateway = world.gateway().start().await?;
    Ok((world, gateway))
}

/// Starts a gateway and a worker in a new world.
pub async fn pipeline(name: &str) -> Result<(World, Service, Service)> {
    let world = world(name).await?;
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    Ok((world, gateway, worker))
}

/// Starts a gateway, and an alerter that sends to `wechat`.
pub async fn alerting(world: &World, wechat: &FakeWechat) -> Result<(Service, Service)> {
    tokio::try_join!(world.gateway().start(), world.alerter(wechat).start())
}

/// Ends the services, which must exit with 0, and removes the world.
pub async fn finish<const COUNT: usize>(world: World, services: [Service; COUNT]) -> Result<()> {
    for service in services {
        let name = service.name().to_owned();
        let status = service.terminate().await?;
        ensure!(status.success(), "{name} ended with {status}");
    }
    world.finish().await
}

/// Sends readings of one device, one a second from `at` on.
pub async fn send(gateway: &Service, device: &str, at: &str, rates: &[i32]) -> Result<()> {
    let item = |(second, rate): (usize, &i32)| json!({"deviceSn": device, "heart_rate": rate, "timestamp": format!("{at}:{second:02}")});
    let items: Vec<Value> = rates.iter().enumerate().map(item).collect();
    send_items(gateway, &items).await
}

/// Sends items in one body, of which each must be accepted.
pub async fn send_items(gateway: &Service, items: &[Value]) -> Result<()> {
    let body = json!({ "data": items }).to_string();
    let answer = http::post(&gateway.url("/upload_health_data"), body).await?;
    ensure!(answer.json["details"]["success"] == items.len(), "{}", answer.text);
    Ok(())
}

/// Waits until the workers have processed every record sent so far.
pub async fn settled(world: &World) -> Result<()> {
    settled_within(world, RECOVERED_WITHIN).await
}

/// Like [`settled`], for records that may take `limit`.
pub async fn settled_within(world: &World, limit: Duration) -> Result<()> {
    eventually(limit, "the workers pass every record", || async {
        Ok((world.lag().await? == 0).then_some(()))
    })
    .await
}

/// Waits until a table has this many rows.
pub async fn rows(world: &World, table: &str, count: i64) -> Result<()> {
    eventually(SOON, &format!("{count} rows in {table}"), || async {
        let found = world.database.count(table).await?;
        ensure!(found == count, "there are {found}");
        Ok(Some(()))
    })
    .await
}

/// Waits until Redis shows a device's reading of this time.
pub async fn shown(cache: &Cache, device: &str, time: &str) -> Result<()> {
    eventually(RECOVERED_WITHIN, &format!("{device} is shown at {time}"), || async {
        Ok((cache.newest_time(device).await?.as_deref() == Some(time)).then_some(()))
    })
    .await
}

/// Waits until a service's `/readyz` has this status and names this reason.
pub async fn readyz(service: &Service, status: u16, reason: &str, limit: Duration) -> Result<()> {
    eventually(limit, &format!("/readyz is {status}: {reason}"), || async {
        let answer = http::get(&service.admin("/readyz")).await?;
        ensure!(answer.status == status && answer.text.contains(reason), "{}", answer.text);
        Ok(Some(()))
    })
    .await
}

/// The records of the dead-letter topic.
pub async fn letters(world: &World) -> Result<Vec<Record>> {
    let topic = format!("{}.{}.dlq", world.readings_topic, world.worker_group);
    kafka::records(&world.stack.kafka_brokers, &topic).await
}

/// Returns the numbers of stored and of dead-lettered readings, from a ledger that balances.
pub async fn totals(world: &World) -> Result<(i64, i64)> {
    let ledger = world.database.ledger(&world.worker_group).await?;
    ensure!(ledger.iter().all(|row| row.balances()), "{ledger:?}");
    Ok((
        ledger.iter().map(|row| row.stored).sum(),
        ledger.iter().map(|row| row.dead_lettered).sum(),
    ))
}

/// Starts a pipeline and sends it new readings, repeated readings, and a reading that cannot be
/// stored.
pub async fn used(name: &str) -> Result<(World, Service, Service)> {
    let (world, gateway, worker) = pipeline(name).await?;
    world.database.execute("ALTER TABLE t_user_health_data MODIFY heart_rate TINYINT NULL").await?;
    for number in 1..=6 {
        send(&gateway, &world.device(number), "2025-09-02 16:09", &[80, 81, 82]).await?;
    }
    send(&gateway, &world.device(1), "2025-09-02 16:09", &[80, 81, 82]).await?;
    send(&gateway, &world.device(1), "2025-09-02 17:00", &[83, 200, 84]).await?;
    settled(&world).await?;
    Ok((world, gateway, worker))
}

/// Returns the path of a program of the last release.
pub fn last_release_of(program: &str) -> Result<PathBuf> {
    let path = Path::new(&std::env::var("PREVIOUS_PROGRAMS").unwrap_or_default()).join(program);
    ensure!(
        path.is_absolute() && path.is_file(),
        "PREVIOUS_PROGRAMS names no folder with {program}: run \
         `export PREVIOUS_PROGRAMS=$(deploy/stack previous)` first"
    );
    Ok(path)
}

/// Runs `worker audit` and returns its exit code and its report.
pub async fn audit(world: &World, arguments: &[&str]) -> Result<(Option<i32>, Value)> {
    json_of(world, "audit", arguments).await
}

/// Runs a command of the worker that reports as JSON, and returns its exit code and its report.
pub async fn json_of(
    world: &World,
    command: &str,
    arguments: &[&str],
) -> Result<(Option<i32>, Value)> {
    let done = world.launch("worker", &[&[command, "--json"], arguments].concat()).finish().await?;
    // Log lines follow the report.
    let report = serde_json::Deserializer::from_str(&done.text).into_iter().next();
    let report = report.transpose().unwrap_or_default();
    Ok((done.code, report.with_context(|| done.text)?))
}

/// Returns the codes of the findings at this level.
pub fn codes(report: &Value, level: &str) -> Vec<String> {
    let findings = report["findings"].as_array().into_iter().flatten();
    let of_level = findings.filter(|finding| finding["level"] == level);
    of_level.map(|finding| finding["code"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Ensures that the audit finds nothing wrong; returns its report.
pub async fn ensure_holds(world: &World, arguments: &[&str]) -> Result<Value> {
    let (code, report) = audit(world, arguments).await?;
    ensure!(code == Some(0) && report["holds"] == true, "{code:?}: {report:#}");
    Ok(report)
}

/// Returns the partition of a device's readings.
pub async fn partition_of(world: &World, number: usize) -> Result<i32> {
    let device = world.device(number);
    let sql = format!(
        "SELECT MIN(id) DIV 1099511627776 FROM t_user_health_data WHERE device_sn = '{device}'"
    );
    Ok(i32::try_from(world.database.number(&sql).await?)?)
}

/// Waits until at least `times` attempts to write have failed for this reason. Ensures that the
/// worker stays alive.
pub async fn held(worker: &Service, kind: &str, times: f64, why: &str) -> Result<()> {
    let labels = format!("kind=\"{kind}\"");
    eventually(RECOVERED_WITHIN, &format!("{times} attempts fail: {kind}, {why}"), || async {
        let failed = worker.metric("write_errors_total", &labels).await?;
        ensure!(worker.output().contains(why), "{failed} attempts failed otherwise");
        Ok((failed >= times).then_some(()))
    })
    .await?;
    ensure!(http::get(&worker.admin("/livez")).await?.status == 200, "the worker stays alive");
    Ok(())
}

/// Ensures that `stored` readings are stored and none is dead-lettered.
pub async fn nothing_moves(world: &World, stored: i64) -> Result<()> {
    ensure!(totals(world).await? == (stored, 0), "{:?}", totals(world).await?);
    ensure!(letters(world).await?.is_empty(), "a dead letter");
    Ok(())
}

/// Ensures that every reading ends up stored once and accounted for, then ends the pipeline.
pub async fn ends_well(world: World, services: [Service; 2], stored: i64) -> Result<()> {
    settled(&world).await?;
    nothing_moves(&world, stored).await?;
    ensure!(world.database.count("t_user_health_data").await? == stored, "rows");
    ensure_holds(&world, &[]).await?;
    finish(world, services).await
}

/// Starts a fleet that sends a few hundred readings a second for a few seconds.
pub async fn load(world: &World, gateway: &Service) -> Result<Fleet> {
    Fleet::start(&Settings {
        url: gateway.url("/upload_health_data"),
        serial_prefix: world.serial_prefix(),
        devices: 400,
        rate: 300.0,
        duration: LOAD,
        ..Settings::default()
    })
    .await
}

/// Ensures that every acknowledged reading of the load is stored exactly once.
pub async fn judge(world: &World, report: &Report) -> Result<()> {
    ensure!(report.acknowledged > 1000, "hardly anything was acknowledged:\n{report}");
    verdict::of(world, &report.history, CAUGHT_UP_WITHIN).await?.into_result()
}

/// Sends readings with these heart rates, 15 s of event time apart, the last one at `end`.
pub async fn measure(gateway: &Service, device: &str, end: i64, rates: &[i32]) -> Result<()> {
    let count = i64::try_from(rates.len())?;
    for (rate, step) in rates.iter().zip(1 - count..) {
        report(gateway, device, end + step * 15, json!({ "heart_rate": rate })).await?;
    }
    Ok(())
}

/// Sends one reading of the tenant's device with these vitals.
pub async fn report(gateway: &Service, device: &str, epoch: i64, vitals: Value) -> Result<()> {
    let mut data = json!({
        "deviceSn": device, "customerId": TENANT.to_string(), "timestamp": wall_time(epoch),
    });
    for (name, value) in vitals.as_object().into_iter().flatten() {
        data[name] = value.clone();
    }
    let body = json!({ "data": data }).to_string();
    let answer = http::post(&gateway.url("/upload_health_data"), body).await?;
    ensure!(answer.status == 200, "{}", answer.text);
    Ok(())
}

/// Waits until WeChat has received this many messages.
pub async fn delivered(wechat: &FakeWechat, count: u64) -> Result<()> {
    eventually(SOON, &format!("{count} messages at WeChat"), || async {
        ensure!(wechat.delivered() >= count, "there are {}", wechat.delivered());
        Ok(Some(()))
    })
    .await
}

/// Waits until the alerter has evaluated every record sent so far.
pub async fn evaluated(world: &World) -> Result<()> {
    eventually(SOON, "the alerter passes every record", || async {
        Ok((world.alerter_lag().await? == 0).then_some(()))
    })
    .await
}

/// Waits until an alerter has sent operators this event.
pub async fn operators_get(alerter: &Service, event: &str, within: Duration) -> Result<()> {
    eventually(within, &format!("operators hear {event}"), || async {
        Ok(alerter.output().contains(event).then_some(()))
    })
    .await
}
