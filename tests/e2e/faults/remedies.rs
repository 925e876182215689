//! Provokes each kind of database error on the real server and tests its remedy.

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::clients::kafka::{self, Record};
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::{Value, json};

use crate::support::{
    AT, RECOVERED_WITHIN, ends_well, finish, held, letters, nothing_moves, partition_of, pipeline,
    send, settled, totals, world,
};
use crate::worker::bindings;

/// Returns the record that a dead letter is about.
fn source<'a>(sent: &'a [Record], letter: &Record) -> Result<&'a Record> {
    let offset = letter.header("dlq.source.offset");
    let found = sent.iter().find(|record| {
        record.partition == letter.partition && Some(record.offset.to_string()) == offset
    });
    found.with_context(|| format!("no record of {letter:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_reading_is_dead_lettered_and_the_rest_is_stored() -> Result<()> {
    let (world, gateway, worker) = pipeline("poison").await?;
    // The real column takes every value of a valid reading. A narrower column rejects some.
    world.database.execute("ALTER TABLE t_user_health_data MODIFY heart_rate TINYINT NULL").await?;
    let device = world.device(1);
    send(&gateway, &device, AT, &[80, 81, 200, 82, 83, 201, 84]).await?;
    settled(&world).await?;
    ensure!(totals(&world).await? == (5, 2), "{:?}", totals(&world).await?);
    let kept = letters(&world).await?;
    ensure!(kept.len() == 2, "{} letters", kept.len());
    let sent = kafka::records(&world.stack.kafka_brokers, &world.readings_topic).await?;
    for (letter, rate) in kept.iter().zip([200, 201]) {
        let reading: Value = serde_json::from_slice(&letter.value)?;
        ensure!(reading["heart_rate"] == rate, "{reading}");
        ensure!(letter.key.as_deref() == Some(device.as_bytes()), "the key is kept");
        ensure!(letter.header("traceparent").is_some(), "the original headers are kept");
        let record = source(&sent, letter)?;
        ensure!(letter.value == record.value, "the value is kept byte for byte");
        ensure!(letter.headers.starts_with(&record.headers), "{:?}", letter.headers);
        ensure!(letter.timestamp_ms == record.timestamp_ms, "the time is kept");
        ensure!(letter.header("dlq.error.class").as_deref() == Some("data"));
        let code = letter.header("dlq.error.code").context("code")?;
        ensure!(code == "1264/22003", "{code}");
        ensure!(letter.header("dlq.source.topic").as_ref() == Some(&world.readings_topic));
    }
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poison_reading_that_retention_deleted_is_dead_lettered_anew_and_replayable() -> Result<()>
{
    let (world, gateway, worker) = pipeline("deleted").await?;
    world.database.execute("ALTER TABLE t_user_health_data MODIFY heart_rate TINYINT NULL").await?;
    world.database.execute("RENAME TABLE t_user_health_data TO away").await?;
    let device = world.device(1);
    send(&gateway, &device, AT, &[80, 200]).await?;
    held(&worker, "schema", 1.0, "cannot write batch").await?;
    eventually(RECOVERED_WITHIN, "the worker has both readings", || async {
        Ok((worker.metric("buffered_deliveries", "").await? == 2.0).then_some(()))
    })
    .await?;
    let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
    let sent = kafka::records(brokers, topic).await?;
    for ends in kafka::watermarks(brokers, topic).await? {
        if ends.low < ends.high {
            kafka::delete_before(brokers, topic, ends.partition, ends.high).await?;
        }
    }
    world.database.execute("RENAME TABLE away TO t_user_health_data").await?;
    settled(&world).await?;
    ensure!(totals(&world).await? == (1, 1), "{:?}", totals(&world).await?);
    let kept = letters(&world).await?;
    let letter = kept.first().context("no letter")?;
    let reading: Value = serde_json::from_slice(&letter.value)?;
    let deleted: Value = serde_json::from_slice(&source(&sent, letter)?.value)?;
    ensure!(reading == deleted && reading["heart_rate"] == 200, "{reading} of {deleted}");
    ensure!(letter.key.as_deref() == Some(device.as_bytes()), "the key is the device");
    ensure!(letter.header("dlq.encoded_again").as_deref() == Some("true"), "{:?}", letter.headers);

    world.database.execute("ALTER TABLE t_user_health_data MODIFY heart_rate INT NULL").await?;
    let replay = world.launch("worker", &["dlq", "replay"]).finish().await?;
    ensure!(replay.text.contains("1 reading(s) sent"), "{}", replay.text);
    settled(&world).await?;
    ensure!(totals(&world).await? == (2, 1), "{:?}", totals(&world).await?);
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_delivery_does_not_cost_the_others_of_its_identity() -> Result<()> {
    let (world, gateway, worker) = pipeline("identity").await?;
    world.database.execute("ALTER TABLE t_user_health_data MODIFY heart_rate TINYINT NULL").await?;
    let device = world.device(1);
    let at = "2025-09-02 16:09:00";
    let body = json!({"data": [
        {"deviceSn": device, "timestamp": at, "heart_rate": 80, "step": 1},
        {"deviceSn": device, "timestamp": at, "heart_rate": 200, "step": 2},
        {"deviceSn": device, "timestamp": at, "blood_oxygen": 97},
    ]});
    let answer = http::post(&gateway.url("/upload_health_data"), body.to_string()).await?;
    ensure!(answer.json["details"]["success"] == 3, "{}", answer.text);
    settled(&world).await?;
    let row = world
        .database
        .row("SELECT heart_rate, step, blood_oxygen, deliveries FROM t_user_health_data")
        .await?;
    let row: Vec<_> = row.into_iter().map(|value| value.unwrap_or("NULL".into())).collect();
    ensure!(row == ["80", "1", "97", "2"], "{row:?}");
    ensure!(totals(&world).await? == (1, 1), "{:?}", totals(&world).await?);
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_table_holds_everything_says_so_and_resumes_by_itself() -> Result<()> {
    let (world, gateway, worker) = pipeline("schema").await?;
    world.database.execute("RENAME TABLE t_user_health_data TO away").await?;
    send(&gateway, &world.device(1), AT, &[80, 81, 82]).await?;
    eventually(RECOVERED_WITHIN, "the health endpoint names what is missing", || async {
        let answer = http::get(&worker.admin("/api/batch_processor/health")).await?;
        let named = answer.text.contains("t_user_health_data");
        Ok((named && answer.json["status"] == "degraded").then_some(()))
    })
    .await?;
    ensure!(http::get(&worker.admin("/livez")).await?.status == 200, "the worker stays alive");
    ensure!(totals(&world).await? == (0, 0) && letters(&world).await?.is_empty(), "nothing moves");
    world.database.execute("RENAME TABLE away TO t_user_health_data").await?;
    settled(&world).await?;
    ensure!(totals(&world).await? == (3, 0), "{:?}", totals(&world).await?);
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_dropped_under_our_feet_is_named_and_waited_for() -> Result<()> {
    let (world, gateway, worker) = pipeline("column").await?;
    send(&gateway, &world.device(1), AT, &[80]).await?;
    settled(&world).await?;
    world.database.execute("ALTER TABLE t_user_health_data DROP COLUMN altitude").await?;
    send(&gateway, &world.device(2), AT, &[81, 82]).await?;
    held(&worker, "schema", 2.0, "altitude").await?;
    eventually(RECOVERED_WITHIN, "the health endpoint names the column", || async {
        let answer = http::get(&worker.admin("/api/batch_processor/health")).await?;
        let named = answer.json["reasons"].to_string().contains("altitude");
        Ok((named && answer.json["status"] == "degraded").then_some(()))
    })
    .await?;
    nothing_moves(&world, 1).await?;
    let add = "ALTER TABLE t_user_health_data ADD COLUMN altitude DOUBLE NULL AFTER longitude";
    world.database.execute(add).await?;
    settled(&world).await?;
    eventually(RECOVERED_WITHIN, "the health endpoint has forgotten it", || async {
        let answer = http::get(&worker.admin("/api/batch_processor/health")).await?;
        Ok((answer.json["status"] == "healthy").then_some(()))
    })
    .await?;
    ends_well(world, [gateway, worker], 3).await
}

/// Rejects heart rates above 127 as a narrow column does, and keeps each rejected one in a table that
/// has no transactions: a rollback does not remove it.
const REFUSE: [&str; 2] = [
    "CREATE TABLE refused (number INT AUTO_INCREMENT PRIMARY KEY, rate INT) ENGINE = MyISAM",
    "CREATE TRIGGER refuse BEFORE INSERT ON t_user_health_data FOR EACH ROW \
     IF NEW.heart_rate > 127 THEN INSERT INTO refused (rate) VALUES (NEW.heart_rate); \
     SIGNAL SQLSTATE '22003' SET MYSQL_ERRNO = 1264, MESSAGE_TEXT = 'Out of range'; END IF",
];

/// Waits for five more rejections and returns their heart rates.
async fn next_refused(world: &World) -> Result<Vec<i64>> {
    const RETRIES: i64 = 5;
    let before = world.database.count("refused").await?;
    eventually(RECOVERED_WITHIN, "the rejected readings are tried again", || async {
        Ok((world.database.count("refused").await? >= before + RETRIES).then_some(()))
    })
    .await?;
    let rates = format!("SELECT rate FROM refused ORDER BY number LIMIT {RETRIES} OFFSET {before}");
    let rates = world.database.rows(&rates).await?;
    rates.iter().flatten().flatten().map(|rate| rate.parse::<i64>().context("a rate")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refusals_opens_the_breaker_and_waits_instead() -> Result<()> {
    let (world, gateway, worker) = pipeline("flood").await?;
    let worker = {
        worker.terminate().await?;
        world.worker().env("DEAD_LETTERS_CONSECUTIVE_MAX", "5").start().await?
    };
    for statement in REFUSE {
        world.database.execute(statement).await?;
    }
    let rates: Vec<i32> = (200..220).collect();
    send(&gateway, &world.device(1), AT, &rates).await?;
    eventually(RECOVERED_WITHIN, "the breaker opens", || async {
        let answer = http::get(&worker.admin("/api/batch_processor/health")).await?;
        Ok((answer.status == 503 && answer.text.contains("breaker")).then_some(()))
    })
    .await?;
    ensure!(letters(&world).await?.is_empty(), "a backlog beats a topic emptied into letters");
    let held = worker.metric("batch_held", "").await?;
    ensure!(held == 1.0, "a batch behind the breaker is held");
    // After the last of the batch comes the first again.
    let tried = next_refused(&world).await?;
    let jumps = tried.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    ensure!(jumps <= 1, "a retry tries more than the next rejected reading: {tried:?}");
    world.database.execute("DROP TRIGGER refuse").await?;
    settled(&world).await?;
    ensure!(totals(&world).await? == (20, 0), "{:?}", totals(&world).await?);
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_id_of_a_binding_costs_only_the_readings_of_its_device() -> Result<()> {
    let (world, gateway, worker) = pipeline("boundid").await?;
    bindings::platform(&world).await?;
    let (device, other) = (world.device(1), world.device(2));
    // No reading carries this id: only the platform's tables name it.
    bindings::bind(&world, 300, &device, 11, "2025-01-01 00:00:00").await?;
    bindings::bind(&world, 5, &other, 11, "2025-01-01 00:00:00").await?;
    world.database.execute("ALTER TABLE t_user_health_data MODIFY user_id TINYINT NULL").await?;
    send(&gateway, &device, AT, &[80, 81]).await?;
    send(&gateway, &other, AT, &[82, 83]).await?;
    settled(&world).await?;
    ensure!(totals(&world).await? == (2, 2), "{:?}", totals(&world).await?);
    for letter in letters(&world).await? {
        ensure!(letter.key.as_deref() == Some(device.as_bytes()), "a letter of the other device");
    }
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_deliveries_that_are_refused_together_the_last_is_dead_lettered() -> Result<()> {
    let (world, gateway, worker) = pipeline("together").await?;
    world
        .database
        .execute(
            "ALTER TABLE t_user_health_data ADD CONSTRAINT one_of_two \
             CHECK (heart_rate IS NULL OR blood_oxygen IS NULL)",
        )
        .await?;
    let (device, at) = (world.device(1), "2025-09-02 16:09:00");
    let body = json!({"data": [
        {"deviceSn": device, "timestamp": at, "heart_rate": 80},
        {"deviceSn": device, "timestamp": "2025-09-02 16:09:01", "heart_rate": 81},
        {"deviceSn": device, "timestamp": at, "blood_oxygen": 97},
        {"deviceSn": device, "timestamp": "2025-09-02 16:09:02", "blood_oxygen": 98},
    ]});
    let answer = http::post(&gateway.url("/upload_health_data"), body.to_string()).await?;
    ensure!(answer.json["details"]["success"] == 4, "{}", answer.text);
    settled(&world).await?;
    ensure!(totals(&world).await? == (3, 1), "{:?}", totals(&world).await?);
    let kept = letters(&world).await?;
    let reading: Value = serde_json::from_slice(&kept.first().context("no letter")?.value)?;
    ensure!(reading["blood_oxygen"] == 97, "{reading}");
    finish(world, [gateway, worker]).await
}

/// Returns the numbers of two devices whose readings lie in different partitions, each with its
/// partition.
async fn apart(world: &World) -> Result<[(usize, i32); 2]> {
    let first = partition_of(world, 1).await?;
    for number in 2..=DEVICES {
        let partition = partition_of(world, number).await?;
        if partition != first {
            return Ok([(1, first), (number, partition)]);
        }
    }
    anyhow::bail!("all of {DEVICES} devices are in partition {first}")
}

/// Devices of which at least two are in different partitions.
const DEVICES: usize = 12;

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_cannot_be_written_stops_no_other() -> Result<()> {
    let world = world("onelane").await?;
    // Room for 400 readings: fewer than wait in the locked partition. Its lock is noticed after a
    // second.
    let worker = world
        .worker()
        .env("BATCH_ROWS", "100")
        .env("BATCHES_IN_FLIGHT", "1")
        .env("MYSQL_STATEMENT_TIMEOUT", "2s");
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), worker.start())?;
    for number in 1..=DEVICES {
        send(&gateway, &world.device(number), AT, &[80]).await?;
    }
    settled(&world).await?;
    let [(locked, partition), (free, _)] = apart(&world).await?;
    let row = format!(
        "ingest_progress WHERE consumer_group = '{}' AND topic = '{}' AND `partition` = {partition}",
        world.worker_group, world.readings_topic
    );
    let lock = world.database.lock(&row).await?;

    // The first batch has readings of both partitions.
    let (locked, free) = (world.device(locked), world.device(free));
    let both: Vec<Value> = [&locked, &free]
        .map(|device| json!({"deviceSn": device, "timestamp": "2025-09-02 17:00:00", "heart_rate": 80}))
        .into();
    let url = gateway.url("/upload_health_data");
    let answer = http::post(&url, json!({ "data": both }).to_string()).await?;
    ensure!(answer.json["details"]["success"] == 2, "not taken");
    for minute in 1..=10 {
        send(&gateway, &locked, &format!("2025-09-02 17:{minute:02}"), &[80; 60]).await?;
    }
    for minute in 1..=5 {
        send(&gateway, &free, &format!("2025-09-02 17:{minute:02}"), &[80; 60]).await?;
    }
    let rows = format!("t_user_health_data WHERE device_sn = '{free}'");
    eventually(RECOVERED_WITHIN, "the other partition's readings are stored", || async {
        Ok((world.database.count(&rows).await? == 302).then_some(()))
    })
    .await?;
    let reason = format!("(partitions {partition})");
    eventually(RECOVERED_WITHIN, "the locked partition is named", || async {
        let answer = http::get(&worker.admin("/api/batch_processor/health")).await?;
        ensure!(answer.text.contains("held: ") && answer.text.contains(&reason), "{}", answer.text);
        ensure!(answer.status == 200, "unhealthy: {}", answer.text);
        ensure!(http::get(&worker.admin("/readyz")).await?.status == 200, "not ready");
        Ok((worker.metric("batch_held", "").await? == 1.0).then_some(()))
    })
    .await?;
    let rows = format!("t_user_health_data WHERE device_sn = '{locked}'");
    ensure!(world.database.count(&rows).await? == 1, "the locked partition was written");
    lock.release().await?;
    ends_well(world, [gateway, worker], DEVICES as i64 + 2 + 900).await
}
