//! Unusual records of the readings topic, and unusual batches of them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::clients::kafka;
use ljwx_tests::fleet::TENANT;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::{Value, json};

use super::dlq::{dlq, says};
use crate::support::{
    delivered, ensure_holds, evaluated, finish, letters, pipeline, seeded, send_items, settled,
    totals, world,
};

/// The longest that a step may take.
const SOON: Duration = Duration::from_secs(40);

/// The partition that records are put into.
const PARTITION: i32 = 0;

/// Every codec that Kafka has.
const CODECS: [&str; 4] = ["gzip", "snappy", "lz4", "zstd"];

/// Returns a `reading.v1` with one vital.
fn reading(device: &str, second: i64, rate: i32) -> Value {
    json!({"device_sn": device, "timestamp": format!("2025-09-02 16:09:{second:02}"),
           "epoch_ms": 1_756_800_540_000 + second * 1000, "received_at": 1_756_800_600_000_i64,
           "upload_method": "wifi", "heart_rate": rate})
}

/// Publishes a record that no gateway would publish.
async fn put(world: &World, key: Option<&str>, value: Option<&[u8]>, schema: &str) -> Result<()> {
    let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
    let headers = [("schema", schema.to_owned())];
    let key = key.map(str::as_bytes);
    kafka::produce_record(brokers, topic, PARTITION, key, value, &headers).await
}

async fn shown(world: &World, device: &str, field: &str, value: &str) -> Result<()> {
    eventually(SOON, &format!("Redis shows {field} = {value} of {device}"), || async {
        let hash = world.cache.newest(device).await?;
        ensure!(hash.get(field).map(String::as_str) == Some(value), "{hash:?}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_reading_is_dead_lettered_as_it_came_and_stops_nobody() -> Result<()> {
    let (world, gateway, worker) = pipeline("strange").await?;
    let device = world.device(1);
    let valid = |second: i64| reading(&device, second, 80).to_string().into_bytes();
    let mut later = reading(&device, 3, 80);
    later["heart_rate"] = json!({"value": 80, "unit": "1/min"});
    let mut impossible = reading(&device, 4, 80);
    impossible["blood_oxygen"] = json!(0);
    let strange: [(Option<Vec<u8>>, &str); 6] = [
        (Some(b"{\"device_sn\": \"cut".to_vec()), "reading.v1"),
        (Some(vec![0, 0xff, 0xfe]), "reading.v1"),
        (Some(b"[]".to_vec()), "reading.v1"),
        (Some(later.to_string().into_bytes()), "reading.v2"),
        (Some(impossible.to_string().into_bytes()), "reading.v1"),
        (None, "reading.v1"),
    ];
    for (second, (value, schema)) in strange.iter().enumerate() {
        put(&world, Some(&device), Some(&valid(second as i64 + 10)), "reading.v1").await?;
        put(&world, Some(&device), value.as_deref(), schema).await?;
    }
    settled(&world).await?;
    ensure!(totals(&world).await? == (6, 6), "{:?}", totals(&world).await?);
    let kept = letters(&world).await?;
    ensure!(kept.len() == strange.len(), "{} letters", kept.len());
    for ((place, letter), (value, schema)) in kept.iter().enumerate().zip(&strange) {
        ensure!(letter.partition == PARTITION, "a letter stays beside what it came from");
        ensure!(letter.value == value.clone().unwrap_or_default(), "{place}: the value is kept");
        ensure!(letter.is_tombstone == value.is_none(), "{place}: null stays null");
        ensure!(letter.key.as_deref() == Some(device.as_bytes()), "{place}: the key is kept");
        ensure!(letter.header("schema").as_deref() == Some(schema), "{place}: headers are kept");
        let offset = letter.header("dlq.source.offset");
        ensure!(offset == Some((2 * place + 1).to_string()), "{place}: {offset:?}");
        let class = letter.header("dlq.error.class");
        let expected = if value.is_some() { "undecodable" } else { "tombstone" };
        ensure!(class.as_deref() == Some(expected), "{place}: {class:?}");
        let message = letter.header("dlq.error.message").context("message")?;
        ensure!(message.starts_with("not a reading.v1"), "{place}: {message}");
    }
    ensure_holds(&world, &[]).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_is_listed_and_replayed_as_null() -> Result<()> {
    let (world, gateway, worker) = pipeline("tombstone").await?;
    let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
    let device = world.device(1);
    kafka::produce_record(brokers, topic, 0, Some(device.as_bytes()), None, &[]).await?;
    settled(&world).await?;
    let listed = dlq(&world, &["list", "--class", "tombstone"]).await?;
    says(&listed, &format!("{device}  tombstone  replays 0  null  not a reading.v1"))?;
    says(&listed, "1 record(s)")?;
    says(&dlq(&world, &["show", "0", "0"]).await?, "\n\nnull")?;
    let none = world.launch("worker", &["dlq", "show", "0", "9"]).finish().await?;
    ensure!(none.code == Some(1) && !none.text.contains(&device), "{}", none.text);
    says(&dlq(&world, &["replay"]).await?, "1 reading(s) sent")?;
    settled(&world).await?;
    // It is no reading now either, so it comes back.
    let (sent, kept) = (kafka::records(brokers, topic).await?, letters(&world).await?);
    ensure!(sent.len() == 2 && kept.len() == 2, "{} sent, {} kept", sent.len(), kept.len());
    for record in sent.iter().chain(&kept) {
        ensure!(record.is_tombstone, "{record:?}");
        ensure!(record.key.as_deref() == Some(device.as_bytes()), "{record:?}");
    }
    ensure!(totals(&world).await? == (0, 2), "{:?}", totals(&world).await?);
    ensure_holds(&world, &[]).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_with_more_than_we_know_or_without_a_key_is_a_reading() -> Result<()> {
    let (world, gateway, worker) = pipeline("newer").await?;
    let (known, keyless) = (world.device(1), world.device(2));
    let mut more = reading(&known, 1, 80);
    more["skin_colour"] = json!("unknown");
    more["nested"] = json!({"device_sn": "OTHER", "heart_rate": [1, 2, 3]});
    put(&world, Some(&known), Some(more.to_string().as_bytes()), "reading.v2").await?;
    let plain = reading(&keyless, 1, 81).to_string();
    put(&world, None, Some(plain.as_bytes()), "reading.v1").await?;
    settled(&world).await?;
    ensure!(totals(&world).await? == (2, 0), "{:?}", totals(&world).await?);
    shown(&world, &known, "heart_rate", "80").await?;
    shown(&world, &keyless, "heart_rate", "81").await?;
    ensure_holds(&world, &[]).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_a_day_ahead_is_stored_and_silences_nobody() -> Result<()> {
    let (world, gateway, worker) = pipeline("ahead").await?;
    let device = world.device(1);
    let now = jiff::Timestamp::now().as_second();
    let item = |at: i64, rate: i32| {
        let document = json!({"code": 0, "data": [{"totalTime": 5}], "name": rate});
        json!({"deviceSn": device, "heart_rate": rate, "timestamp": wall_time(at),
               "exerciseDailyData": document, "exerciseWeekData": document})
    };
    send_items(&gateway, &[item(now + 23 * 3600, 99)]).await?;
    settled(&world).await?;
    let count = async |table: &str| world.database.count(table).await;
    ensure!(count("t_user_health_data").await? == 1, "it is a row of the main table");
    ensure!(count("t_user_health_data_daily").await? == 0, "it is the newest of no day");
    ensure!(count("t_user_health_data_weekly").await? == 0, "it is the newest of no week");
    send_items(&gateway, &[item(now, 80)]).await?;
    settled(&world).await?;
    shown(&world, &device, "timestamp", &wall_time(now)).await?;
    // Repeat it now that Redis has a hash to compare with.
    send_items(&gateway, &[item(now + 23 * 3600 + 1, 98)]).await?;
    send_items(&gateway, &[item(now + 1, 81)]).await?;
    settled(&world).await?;
    shown(&world, &device, "timestamp", &wall_time(now + 1)).await?;
    shown(&world, &device, "heart_rate", "81").await?;
    for (table, column) in [
        ("t_user_health_data_daily", "exercise_daily_data"),
        ("t_user_health_data_weekly", "exercise_week_data"),
    ] {
        let newest = format!(
            "SELECT JSON_VALUE({column}, '$.name') FROM {table} \
             WHERE {column}_at = '{}'",
            wall_time(now + 1)
        );
        ensure!(world.database.number(&newest).await? == 81, "{table}");
        let later =
            format!("SELECT COUNT(*) FROM {table} WHERE {column}_at > '{}'", wall_time(now + 1));
        ensure!(world.database.number(&later).await? == 0, "{table}");
    }
    ensure!(totals(&world).await? == (4, 0), "{:?}", totals(&world).await?);
    ensure_holds(&world, &[]).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn serial_numbers_that_differ_in_case_are_two_devices() -> Result<()> {
    let (world, gateway, worker) = pipeline("case").await?;
    let (upper, lower) = (world.device(1), world.device(1).to_lowercase());
    let document = json!({"code": 0, "data": [{"totalTime": 5}]});
    let item = |device: &str, rate: i32| {
        json!({"deviceSn": device, "heart_rate": rate, "timestamp": "2025-09-02 16:09:00",
               "exerciseDailyData": document, "exerciseWeekData": document})
    };
    send_items(&gateway, &[item(&upper, 80), item(&lower, 81)]).await?;
    settled(&world).await?;
    for table in ["t_user_health_data", "t_user_health_data_daily", "t_user_health_data_weekly"] {
        ensure!(world.database.count(table).await? == 2, "{table}");
    }
    shown(&world, &upper, "heart_rate", "80").await?;
    shown(&world, &lower, "heart_rate", "81").await?;
    ensure!(totals(&world).await? == (2, 0), "{:?}", totals(&world).await?);
    world.cache.evict(&lower).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_refused_reading_of_500_costs_the_others_nothing() -> Result<()> {
    const REFUSED: usize = 321;
    let world = world("one").await?;
    world.database.execute("ALTER TABLE t_user_health_data MODIFY heart_rate TINYINT NULL").await?;
    let gateway = world.gateway().start().await?;
    let items: Vec<Value> = (0..500)
        .map(|number| {
            json!({"deviceSn": world.device(number), "timestamp": "2025-09-02 16:09:00",
                   "heart_rate": if number == REFUSED { 200 } else { 80 }})
        })
        .collect();
    send_items(&gateway, &items).await?;
    // All readings are in the topic when the worker starts, so that they go into as few batches as
    // possible.
    let worker = world.worker().start().await?;
    settled(&world).await?;
    ensure!(totals(&world).await? == (499, 1), "{:?}", totals(&world).await?);
    ensure!(world.database.count("t_user_health_data").await? == 499, "rows");
    let kept = letters(&world).await?;
    let [letter] = &kept[..] else { anyhow::bail!("{} letters", kept.len()) };
    let device = world.device(REFUSED);
    ensure!(letter.key.as_deref() == Some(device.as_bytes()), "another one is blamed");
    ensure_holds(&world, &[]).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_the_largest_size_are_stored_whole() -> Result<()> {
    const BODIES: i64 = 4;
    let world = world("largest").await?;
    let gateway = world.gateway().start().await?;
    for body in 0..BODIES {
        let item = |number: usize| {
            json!({"deviceSn": world.device(number), "timestamp": format!("2025-09-02 16:{body:02}:00"),
                   "customerId": "1900000000000000001", "orgId": "1900000000000000002",
                   "userId": "1900000000000000003", "heart_rate": 76, "blood_oxygen": 97,
                   "body_temperature": "36.5", "blood_pressure_systolic": 121,
                   "blood_pressure_diastolic": 80, "stress": 1, "step": 2, "distance": "820.0",
                   "calorie": "41230.0", "latitude": "22.5", "longitude": "114.0", "altitude": "12"})
        };
        send_items(&gateway, &(0..1000).map(item).collect::<Vec<_>>()).await?;
    }
    let worker = world.worker().env("BATCH_ROWS", "1000").env("BATCH_AGE", "5s").start().await?;
    settled(&world).await?;
    let full = worker.metric("batches_total", "reason=\"rows\"").await?;
    ensure!(full >= 1.0, "no batch was full");
    let whole = "SELECT COUNT(*) FROM t_user_health_data WHERE heart_rate = 76 AND altitude = 12 \
                 AND user_id = 1900000000000000003";
    ensure!(world.database.number(whole).await? == BODIES * 1000, "a row is not whole");
    ensure!(totals(&world).await? == (BODIES * 1000, 0), "{:?}", totals(&world).await?);
    ensure_holds(&world, &[]).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_every_codec_are_stored_and_evaluated() -> Result<()> {
    let (world, wechat) = seeded("codecs").await?;
    let (alerter, worker) =
        tokio::try_join!(world.alerter(&wechat).start(), world.worker().start())?;
    let start = jiff::Timestamp::now().as_second() - 300;
    for (number, codec) in CODECS.into_iter().enumerate() {
        let device = world.device(number);
        let record = |step: i64| {
            let second = start + step * 15;
            let reading = json!({"device_sn": device, "customer_id": TENANT, "heart_rate": 140,
                "timestamp": wall_time(second), "epoch_ms": second * 1000,
                "received_at": second * 1000, "upload_method": "wifi"});
            (device.clone(), reading.to_string().into_bytes())
        };
        let records: Vec<_> = (0..10).map(record).collect();
        let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
        kafka::fill_compressed(brokers, topic, codec, &records).await?;
    }
    settled(&world).await?;
    delivered(&wechat, CODECS.len() as u64).await?;
    evaluated(&world).await?;
    let stored = world.database.count("t_user_health_data").await?;
    ensure!(stored == 10 * CODECS.len() as i64, "{stored} rows");
    let alerts = world.database.count("t_alert_info").await?;
    ensure!(alerts == CODECS.len() as i64, "{alerts} alerts");
    finish(world, [alerter, worker]).await
}
