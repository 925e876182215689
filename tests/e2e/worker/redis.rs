//! Redis beside MySQL: after any fault, every hash ends up as the newest row, without a new
//! reading.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::stack::Server;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::{Value, json};

use crate::support::{finish, pipeline, send_items, settled};

/// The longest that a step may take.
const SOON: Duration = Duration::from_secs(40);

/// Devices of a test.
const DEVICES: usize = 30;

/// Returns a device's item with all kinds of fields, at this minute.
fn reading(device: &str, minute: u32, rate: i32) -> Value {
    let document = json!({"code": 0, "data": [{"totalTime": 5}], "name": rate}).to_string();
    json!({
        "deviceSn": device, "heart_rate": rate, "body_temperature": "36.5", "step": 0,
        "customerId": "1900000000000000001", "latitude": "22.54", "longitude": "114.0",
        "distance": "820.0", "sleepData": {"code": 0, "data": [
            {"startTimeStamp": 1756742400000_i64, "endTimeStamp": 1756767600000_i64, "type": 2}]},
        "exerciseDailyData": document, "exerciseWeekData": document,
        "timestamp": format!("2025-09-02 16:{minute:02}:00"),
    })
}

/// Sends one reading of every device.
async fn send(world: &World, gateway: &Service, minute: u32, rate: i32) -> Result<()> {
    let items: Vec<Value> =
        (0..DEVICES).map(|number| reading(&world.device(number), minute, rate)).collect();
    send_items(gateway, &items).await
}

/// Waits until every device's hash has the time and the heart rate of its newest row.
async fn current(world: &World) -> Result<()> {
    let sql = "SELECT device_sn, timestamp, heart_rate FROM t_user_health_data AS newest \
               WHERE timestamp = (SELECT MAX(timestamp) FROM t_user_health_data \
               WHERE device_sn = newest.device_sn)";
    let rows = world.database.rows(sql).await?;
    ensure!(rows.len() >= DEVICES, "{} devices", rows.len());
    eventually(SOON, "every hash is the newest row", || async {
        for row in &rows {
            let [Some(device), time, rate] = &row[..] else { continue };
            let hash = world.cache.newest(device).await?;
            let shown = (hash.get("timestamp"), hash.get("heart_rate"));
            ensure!(shown == (time.as_ref(), rate.as_ref()), "{shown:?} instead of {row:?}");
        }
        Ok(Some(()))
    })
    .await
}

/// Waits until the ledger has Redis as current.
async fn noted(world: &World) -> Result<()> {
    eventually(SOON, "redis_offset catches up", || async {
        let ledger = world.database.ledger(&world.worker_group).await?;
        for row in &ledger {
            ensure!(row.redis_offset == row.next_offset, "{row:?}");
        }
        Ok((!ledger.is_empty()).then_some(()))
    })
    .await
}

/// Returns the values of a hash that do not depend on the device. Documents are parsed, because
/// MySQL returns them in a text of its own.
async fn values(world: &World, device: &str) -> Result<HashMap<String, Value>> {
    let mut hash = world.cache.newest(device).await?;
    for field in ["deviceSn", "device_sn", "last_source"] {
        hash.remove(field).with_context(|| format!("{field} of {device}"))?;
    }
    let parsed = |text: String| serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok(hash.into_iter().map(|(field, text)| (field, parsed(text))).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_leaves_no_device_stale() -> Result<()> {
    let world = World::exclusive("outage").await?;
    world.migrate().await?;
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    send(&world, &gateway, 1, 70).await?;
    settled(&world).await?;
    current(&world).await?;
    let outage = Server::Redis.stop().await?;
    send(&world, &gateway, 2, 80).await?;
    settled(&world).await?;
    eventually(SOON, "redis_behind says so", || async {
        Ok((worker.metric("redis_behind", "").await? >= DEVICES as f64).then_some(()))
    })
    .await?;
    outage.end().await?;
    current(&world).await?;
    noted(&world).await?;
    eventually(SOON, "nothing is behind", || async {
        Ok((worker.metric("redis_behind", "").await? == 0.0).then_some(()))
    })
    .await?;
    // A repaired hash equals a hash written from a reading. The first reading of a device does not
    // write its hash: the hash is missing, so MySQL's row fills it.
    let device = world.device(0);
    let repaired = values(&world, &device).await?;
    let other = world.device(DEVICES);
    for (minute, rate) in [(1, 70), (2, 80)] {
        send_items(&gateway, &[reading(&other, minute, rate)]).await?;
        settled(&world).await?;
        current(&world).await?;
    }
    let live = values(&world, &other).await?;
    ensure!(repaired == live, "{repaired:?}\nis not\n{live:?}");
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_is_made_good_without_a_new_reading() -> Result<()> {
    let world = World::exclusive("flush").await?;
    world.migrate().await?;
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    send(&world, &gateway, 1, 70).await?;
    settled(&world).await?;
    current(&world).await?;
    noted(&world).await?;
    world.cache.flush().await?;
    current(&world).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_a_small_packet_is_asked_for_the_newest_rows_in_parts() -> Result<()> {
    // Far less than a query about all devices takes.
    const PACKET_BYTES: &str = "16384";
    let world = World::exclusive("parts").await?;
    world.migrate().await?;
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    send(&world, &gateway, 1, 70).await?;
    settled(&world).await?;
    current(&world).await?;
    noted(&world).await?;
    worker.kill().await?;
    let small_packets = async || {
        world.cache.flush().await?;
        let second = world.worker().start().await?;
        current(&world).await?;
        anyhow::Ok(second)
    };
    let second =
        world.database.while_set("max_allowed_packet", PACKET_BYTES, small_packets).await?;
    ensure!(!second.output().contains("cannot repair Redis"), "{}", second.output());
    finish(world, [gateway, second]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_went_back_in_time_is_filled_anew() -> Result<()> {
    let (world, gateway, worker) = pipeline("back").await?;
    send(&world, &gateway, 1, 70).await?;
    settled(&world).await?;
    current(&world).await?;
    let beat = "SELECT sequence FROM redis_generation";
    eventually(SOON, "the sentinel beats", || async {
        Ok((world.database.number(beat).await? > 0).then_some(()))
    })
    .await?;
    for number in 0..DEVICES {
        world.cache.evict(&world.device(number)).await?;
    }
    world.cache.turn_sentinel_back(&world.worker_group).await?;
    current(&world).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_evicted_hash_is_filled_with_the_newest_not_with_what_comes_next() -> Result<()> {
    let (world, gateway, worker) = pipeline("evicted").await?;
    send(&world, &gateway, 9, 90).await?;
    settled(&world).await?;
    current(&world).await?;
    let device = world.device(3);
    world.cache.evict(&device).await?;
    send_items(&gateway, &[reading(&device, 5, 50)]).await?;
    settled(&world).await?;
    current(&world).await?;
    let hash = world.cache.newest(&device).await?;
    ensure!(hash.get("heart_rate").map(String::as_str) == Some("90"), "{hash:?}");
    ensure!(world.cache.expires_in(&device).await?.is_none(), "hashes stay unless set otherwise");
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_before_redis_had_its_batches_leaves_no_device_stale() -> Result<()> {
    let world = World::exclusive("between").await?;
    world.migrate().await?;
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    send(&world, &gateway, 1, 70).await?;
    settled(&world).await?;
    current(&world).await?;
    let outage = Server::Redis.kill().await?;
    send(&world, &gateway, 2, 80).await?;
    settled(&world).await?;
    worker.kill().await?;
    outage.end().await?;
    let second = world.worker().env("REDIS_TTL", "1h").start().await?;
    current(&world).await?;
    noted(&world).await?;
    let left = world.cache.expires_in(&world.device(1)).await?;
    ensure!(left.is_some_and(|left| (3500..=3600).contains(&left)), "expires in {left:?}");
    finish(world, [gateway, second]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_topic_no_longer_has_is_repaired_from_mysql() -> Result<()> {
    let (world, gateway, worker) = pipeline("retention").await?;
    send(&world, &gateway, 1, 70).await?;
    settled(&world).await?;
    current(&world).await?;
    worker.kill().await?;
    for number in 0..DEVICES {
        world.cache.evict(&world.device(number)).await?;
    }
    // No topic has an offset before its first.
    world.database.execute("UPDATE ingest_progress SET redis_offset = -1").await?;
    let second = world.worker().start().await?;
    current(&world).await?;
    noted(&world).await?;
    let named = second.metric("redis_repaired_total", "mysql").await?;
    ensure!(named >= DEVICES as f64, "{named} devices from MySQL");
    finish(world, [gateway, second]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_times_merge_by_source_and_only_older_ones_are_stale() -> Result<()> {
    let (world, gateway, worker) = pipeline("equal").await?;
    let device = world.device(1);
    let item = |minute: u32, field: &str, value: i32| {
        json!({"deviceSn": device, "timestamp": format!("2025-09-02 16:{minute:02}:00"),
               "heart_rate": 80 + value, field: value})
    };
    send_items(&gateway, &[item(9, "stress", 1)]).await?;
    let shows = |field: &'static str, value: &'static str| {
        let (cache, device) = (world.cache.clone(), device.clone());
        async move {
            eventually(SOON, field, || async {
                let hash = cache.newest(&device).await?;
                Ok((hash.get(field).map(String::as_str) == Some(value)).then_some(hash))
            })
            .await
        }
    };
    shows("stress", "1").await?;
    // A later delivery of the same time replaces the values that it carries and leaves the others.
    send_items(&gateway, &[item(9, "blood_oxygen", 2)]).await?;
    let hash = shows("blood_oxygen", "2").await?;
    ensure!(hash["heart_rate"] == "82" && hash["stress"] == "1", "{hash:?}");
    // An earlier delivery only fills missing fields. The hash is set to a later source for this.
    world.cache.set_field(&device, "last_source", "4000000000000000").await?;
    send_items(&gateway, &[item(9, "step", 3)]).await?;
    let hash = shows("step", "3").await?;
    ensure!(hash["heart_rate"] == "82", "{hash:?}");
    ensure!(hash["last_source"] == "4000000000000000", "{hash:?}");
    ensure!(worker.metric("redis_stale_total", "").await? == 0.0, "an equal time is not stale");
    send_items(&gateway, &[item(8, "step", 4)]).await?;
    eventually(SOON, "an older one is stale", || async {
        Ok((worker.metric("redis_stale_total", "").await? == 1.0).then_some(()))
    })
    .await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_another_type_cost_no_device_its_view_and_are_replaced() -> Result<()> {
    let (world, gateway, worker) = pipeline("stray").await?;
    send(&world, &gateway, 1, 70).await?;
    settled(&world).await?;
    current(&world).await?;
    let metric = |name: &'static str| worker.metric(name, "");
    // The first batch may come before the connection to Redis.
    let missed = metric("redis_errors_total").await?;
    world.cache.spoil(&world.device(7)).await?;
    send(&world, &gateway, 2, 80).await?;
    settled(&world).await?;
    current(&world).await?;
    let (spoilt, whole) =
        (values(&world, &world.device(7)).await?, values(&world, &world.device(8)).await?);
    ensure!(spoilt == whole, "{spoilt:?}\nis not\n{whole:?}");
    ensure!(metric("redis_replaced_total").await? == 1.0, "one key was replaced");
    ensure!(metric("redis_errors_total").await? == missed, "a batch missed Redis");
    // The generation key may be of another type, too.
    world.cache.spoil_sentinel(&world.worker_group).await?;
    world.cache.evict(&world.device(9)).await?;
    eventually(SOON, "the sentinel is placed again", || async {
        Ok(world.cache.has_sentinel(&world.worker_group).await.then_some(()))
    })
    .await?;
    current(&world).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_refuses_writes_is_said_so_and_is_current_afterwards() -> Result<()> {
    let world = World::exclusive("refuses").await?;
    world.migrate().await?;
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    send(&world, &gateway, 1, 70).await?;
    settled(&world).await?;
    current(&world).await?;
    let says = async |expected: Option<&'static str>| {
        eventually(SOON, "the health endpoint says what Redis takes", || async {
            let answer = http::get(&worker.admin("/api/batch_processor/health")).await?;
            let (status, reasons) = (&answer.json["status"], answer.json["reasons"].to_string());
            let refuses = reasons.contains("redis refuses writes");
            let up = worker.metric("dependency_up", "redis").await? == 1.0;
            Ok(match expected {
                Some(why) => refuses && reasons.contains(why) && status != "healthy" && !up,
                None => !refuses && up,
            }
            .then_some(()))
        })
        .await
    };
    for (setting, why) in [("maxmemory", "OOM"), ("min-replicas-to-write", "NOREPLICAS")] {
        says(None).await?;
        world.cache.configure(setting, "1").await?;
        let refused = async {
            // No device sends: the heartbeat of the generation key finds the fault.
            says(Some(why)).await?;
            send(&world, &gateway, 2, 80).await?;
            settled(&world).await
        }
        .await;
        world.cache.configure(setting, "0").await?;
        refused?;
    }
    says(None).await?;
    current(&world).await?;
    finish(world, [gateway, worker]).await
}
