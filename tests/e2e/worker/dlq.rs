//! Dead letters and rejects: listed, shown and replayed, and no replay replaces newer values.

use anyhow::{Context, Result, ensure};
use ljwx_service::kafka::{DEAD_LETTER_BYTES_MAX, MESSAGE_BYTES_MAX};
use ljwx_tests::clients::http;
use ljwx_tests::clients::kafka::{self, Record};
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::json;

use crate::support::{AT, SOON, ensure_holds, finish, letters, pipeline, send, settled, totals};

/// Runs `worker dlq`, which must succeed, and returns what it prints.
pub(super) async fn dlq(world: &World, arguments: &[&str]) -> Result<String> {
    let done = world.launch("worker", &[&["dlq"], arguments].concat()).finish().await?;
    ensure!(done.code == Some(0), "worker dlq {arguments:?}: {:?}\n{}", done.code, done.text);
    Ok(done.text)
}

/// Ensures that a text contains `what`.
pub(super) fn says(text: &str, what: &str) -> Result<()> {
    ensure!(text.contains(what), "{what:?} is not in: {text}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_goes_back_once_and_never_over_newer_values() -> Result<()> {
    let (world, gateway, worker) = pipeline("dlq").await?;
    let narrow = "ALTER TABLE t_user_health_data MODIFY heart_rate TINYINT NULL";
    world.database.execute(narrow).await?;
    let (first, second) = (world.device(1), world.device(2));
    let at = "2025-09-02 16:09:00";
    let url = gateway.url("/upload_health_data");
    let refused = json!({"data": [
        {"deviceSn": first, "timestamp": at, "heart_rate": 200, "step": 1},
        {"deviceSn": second, "timestamp": at, "heart_rate": 210},
    ]});
    let newer =
        json!({"data": {"deviceSn": first, "timestamp": at, "heart_rate": 90, "blood_oxygen": 97}});
    // Send the bodies one after the other. Merged in one batch, the 90 would replace the 200 before
    // MySQL rejects it.
    for (body, expected) in [(refused, (0, 2)), (newer, (1, 2))] {
        let answer = http::post(&url, body.to_string()).await?;
        ensure!(answer.status == 200, "{}", answer.text);
        settled(&world).await?;
        ensure!(totals(&world).await? == expected, "{:?}", totals(&world).await?);
    }

    let listed = dlq(&world, &["list"]).await?;
    says(&listed, "2 record(s)")?;
    says(&listed, "Out of range value for column 'heart_rate'")?;
    says(&dlq(&world, &["list", "--device", &first]).await?, "1 record(s)")?;
    says(&dlq(&world, &["list", "--class", "undecodable"]).await?, "0 record(s)")?;
    says(&dlq(&world, &["list", "--to", "2020-01-01 00:00:00"]).await?, "0 record(s)")?;

    world.database.execute("ALTER TABLE t_user_health_data MODIFY heart_rate INT NULL").await?;
    says(&dlq(&world, &["replay", "--dry-run"]).await?, "2 reading(s) would be sent")?;
    says(&dlq(&world, &["replay"]).await?, "2 reading(s) sent")?;
    settled(&world).await?;
    says(&dlq(&world, &["replay"]).await?, "0 reading(s) sent")?;
    ensure!(totals(&world).await? == (2, 2), "{:?}", totals(&world).await?);
    let rows = world
        .database
        .rows("SELECT heart_rate, step, blood_oxygen, deliveries FROM t_user_health_data ORDER BY device_sn")
        .await?;
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|row| row.into_iter().map(|value| value.unwrap_or("-".into())).collect())
        .collect();
    // The later delivery's 90 stays. The earlier delivery only fills the columns that were empty.
    ensure!(rows == [["90", "1", "97", "2"], ["210", "-", "-", "1"]], "{rows:?}");
    eventually(SOON, "Redis shows what was replayed", || async {
        let hash = world.cache.newest(&second).await?;
        Ok((hash.get("heart_rate").map(String::as_str) == Some("210")).then_some(()))
    })
    .await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reject_is_parsed_anew_and_old_ones_can_be_deleted() -> Result<()> {
    let (world, gateway, worker) = pipeline("rejects").await?;
    let url = gateway.url("/upload_health_data");
    let long = format!("{{\"data\":[\"{}\"", "z".repeat(70_000));
    let cut = json!({"deviceSn": world.device(1), "heart_rate": 80, "sleepData": long});
    http::post(&url, json!({"data": [cut, {"heart_rate": 70}]}).to_string()).await?;
    settled(&world).await?;
    let rejects = ["--topic", "rejects"];
    let run = async |rest: &[&str]| dlq(&world, &[&rejects, rest].concat()).await;
    says(&run(&["list"]).await?, "2 record(s)")?;
    says(&run(&["list", "--class", "missing_device_sn"]).await?, "1 record(s)")?;
    let printed = run(&["replay"]).await?;
    says(&printed, "0 reading(s) sent, 1 record(s) still unreadable")?;
    says(&run(&["--class", "field_dropped", "replay"]).await?, "1 reading(s) sent")?;
    settled(&world).await?;
    // The time that was missing is derived as it was before, so the replay is the same reading.
    let deliveries =
        world.database.number("SELECT SUM(deliveries) FROM t_user_health_data").await?;
    ensure!(totals(&world).await?.0 == 1 && deliveries == 2, "{deliveries} deliveries");
    says(&run(&["purge", "--to", "2099-01-01 00:00:00"]).await?, "would be deleted")?;
    says(&run(&["list"]).await?, "2 record(s)")?;
    says(&run(&["purge", "--to", "2099-01-01 00:00:00", "--execute"]).await?, "2 record(s)")?;
    says(&run(&["list"]).await?, "0 record(s)")?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_reject_fills_what_is_missing_and_overwrites_nothing() -> Result<()> {
    let (world, gateway, worker) = pipeline("refill").await?;
    let url = gateway.url("/upload_health_data");
    let (cut, unread) = (world.device(1), world.device(2));
    let at = "2025-09-02 16:09:00";
    let long = format!("{{\"data\":[\"{}\"", "z".repeat(70_000));
    let item = json!({"deviceSn": cut, "timestamp": at, "heart_rate": 80, "step": 1,
                      "sleepData": long});
    let newer = json!({"deviceSn": cut, "timestamp": at, "heart_rate": 90});
    let mut broken = zstd::bulk::compress(
        json!({"deviceSn": unread, "timestamp": at, "heart_rate": 70, "step": 2})
            .to_string()
            .as_bytes(),
        0,
    )?;
    broken.extend(b"trailing");
    for body in [item, newer] {
        let answer = http::post(&url, json!({"data": body}).to_string()).await?;
        ensure!(answer.json["details"]["success"] == 1, "{}", answer.text);
        settled(&world).await?;
    }
    http::post_with(&url, broken, &[("content-encoding", "zstd")]).await?;
    for class in ["field_dropped", "malformed_body"] {
        let replay = ["--topic", "rejects", "--class", class, "replay", "--name", class];
        says(&dlq(&world, &replay).await?, "1 reading(s) sent")?;
    }
    settled(&world).await?;
    let sql = "SELECT heart_rate, step, deliveries, last_source = -1 FROM t_user_health_data \
               ORDER BY device_sn";
    let rows = || async {
        let rows = world.database.rows(sql).await?.into_iter();
        anyhow::Ok(
            rows.map(|row| row.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>())
                .collect::<Vec<_>>(),
        )
    };
    let found = rows().await?;
    ensure!(found == [["90", "1", "3", "0"], ["70", "2", "1", "1"]], "{found:?}");
    ensure_holds(&world, &["--from", "2020-01-01 00:00:00"]).await?;
    let later = json!({"data": {"deviceSn": unread, "timestamp": at, "heart_rate": 75}});
    http::post(&url, later.to_string()).await?;
    settled(&world).await?;
    let found = rows().await?;
    ensure!(found == [["90", "1", "3", "0"], ["75", "2", "2", "0"]], "{found:?}");
    for (device, rate) in [(&cut, "90"), (&unread, "75")] {
        eventually(SOON, "Redis shows what MySQL has", || async {
            let hash = world.cache.newest(device).await?;
            Ok((hash.get("heart_rate").map(String::as_str) == Some(rate)).then_some(()))
        })
        .await?;
    }
    ensure_holds(&world, &[]).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filtered_replay_leaves_the_other_letters_to_the_next_replay() -> Result<()> {
    // More than a replay reads ahead.
    const OTHERS: usize = 41;
    let (world, gateway, worker) = pipeline("selections").await?;
    let narrow = "ALTER TABLE t_user_health_data MODIFY heart_rate TINYINT NULL";
    world.database.execute(narrow).await?;
    let (first, second) = (world.device(1), world.device(2));
    send(&gateway, &first, AT, &[200]).await?;
    send(&gateway, &second, AT, &[210; OTHERS]).await?;
    settled(&world).await?;
    let letters = OTHERS as i64 + 1;
    ensure!(totals(&world).await? == (0, letters), "{:?}", totals(&world).await?);
    world.database.execute("ALTER TABLE t_user_health_data MODIFY heart_rate INT NULL").await?;

    let of_first: [&str; 3] = ["--device", &first, "replay"];
    let plain = format!("position {}.replay", world.worker_group);
    let printed = dlq(&world, &of_first).await?;
    says(&printed, "1 reading(s) sent")?;
    says(&printed, &format!("{plain}."))?;
    settled(&world).await?;
    ensure!(totals(&world).await? == (1, letters), "{:?}", totals(&world).await?);
    says(&dlq(&world, &of_first).await?, "0 reading(s) sent")?;

    let printed = dlq(&world, &["replay"]).await?;
    says(&printed, &format!("{letters} reading(s) sent"))?;
    says(&printed, &format!("{plain}\n"))?;
    settled(&world).await?;
    ensure!(totals(&world).await? == (letters, letters), "{:?}", totals(&world).await?);
    says(&dlq(&world, &["replay"]).await?, "0 reading(s) sent")?;
    // The letter of the first device went back twice, which changes no value.
    let deliveries = format!(
        "SELECT heart_rate * 10 + deliveries FROM t_user_health_data WHERE device_sn = '{first}'"
    );
    ensure!(world.database.number(&deliveries).await? == 2002, "the first device's row");
    ensure_holds(&world, &[]).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_field_is_replayed_only_if_named() -> Result<()> {
    let (world, gateway, worker) = pipeline("cut").await?;
    let long = format!("{{\"data\":[\"{}\"", "z".repeat(70_000));
    let cut = json!({"deviceSn": world.device(1), "heart_rate": 80, "sleepData": long});
    let body = json!({ "data": [cut] }).to_string();
    http::post(&gateway.url("/upload_health_data"), body).await?;
    settled(&world).await?;
    ensure!(totals(&world).await? == (1, 0), "{:?}", totals(&world).await?);
    let run = async |rest: &[&str]| dlq(&world, &[&["--topic", "rejects"], rest].concat()).await;
    let printed = run(&["replay"]).await?;
    says(&printed, "0 reading(s) sent, 0 record(s) still unreadable")?;
    says(
        &printed,
        "1 record(s) kept only for a cut field, skipped: --class field_dropped sends them",
    )?;
    let printed = run(&["--class", "field_dropped", "replay"]).await?;
    says(&printed, "1 reading(s) sent")?;
    ensure!(!printed.contains("skipped"), "{printed}");
    settled(&world).await?;
    let deliveries = world.database.number("SELECT deliveries FROM t_user_health_data").await?;
    ensure!(totals(&world).await? == (1, 0) && deliveries == 2, "{deliveries} deliveries");
    finish(world, [gateway, worker]).await
}

/// Puts a value that is no reading into a partition and returns its dead letter once the workers
/// are past it.
async fn poison(world: &World, partition: i32, value: &[u8]) -> Result<Record> {
    let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
    let known = letters(world).await?.len();
    let headers = [("traceparent", "00-none".to_owned())];
    kafka::produce(brokers, topic, partition, value, &headers).await?;
    settled(world).await?;
    let kept = letters(world).await?;
    ensure!(kept.len() == known + 1, "{known} letters became {}", kept.len());
    let source = partition.to_string();
    let place = |letter: &&Record| letter.header("dlq.source.partition").unwrap_or_default();
    kept.iter()
        .filter(|letter| place(letter) == source)
        .max_by_key(|letter| {
            letter.header("dlq.source.offset").and_then(|at| at.parse::<i64>().ok())
        })
        .cloned()
        .context("no letter of the partition")
}

/// Waits until the reasons in the worker's health contain `what`. Without `what`, waits until they
/// mention no dead letter.
pub(super) async fn health_says(worker: &Service, what: Option<&str>) -> Result<()> {
    eventually(SOON, &format!("health says {what:?}"), || async {
        let answer = http::get(&worker.admin("/api/batch_processor/health")).await?;
        let reasons = answer.json["reasons"].to_string();
        ensure!(
            what.map_or(!reasons.contains("dead letter"), |what| reasons.contains(what)),
            "{reasons}"
        );
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_follow_partitions_that_are_added_and_never_wait_for_one() -> Result<()> {
    let (world, gateway, worker) = pipeline("grown").await?;
    let brokers = world.stack.kafka_brokers.clone();
    let topic = format!("{}.{}.dlq", world.readings_topic, world.worker_group);
    ensure!(worker.terminate().await?.success(), "the worker failed");
    kafka::add_partitions(&brokers, &world.readings_topic, 5).await?;
    eventually(SOON, "the added partition is accepted", || async {
        let done = world.launch("worker", &["migrate", "--accept-partitions"]).finish().await?;
        ensure!(done.code == Some(0), "{}", done.text);
        Ok((kafka::watermarks(&brokers, &topic).await?.len() == 5).then_some(()))
    })
    .await?;
    let worker = world.worker().start().await?;
    ensure!(poison(&world, 4, b"not json").await?.partition == 4, "not beside its source");
    health_says(&worker, None).await?;
    ensure!(worker.terminate().await?.success(), "the worker failed");

    // An operator accepts the new partitions without extending the dead-letter topic.
    kafka::add_partitions(&brokers, &world.readings_topic, 6).await?;
    world.database.execute("UPDATE ingest_topic SET `partitions` = 6").await?;
    let worker = eventually(SOON, "a worker sees the sixth partition", || async {
        Ok(Some(world.worker().start().await?))
    })
    .await?;
    health_says(&worker, Some("has 5 partitions")).await?;
    let letter = poison(&world, 5, b"not json either").await?;
    ensure!(letter.partition < 5, "the topic has no partition {}", letter.partition);
    ensure!(letter.header("dlq.source.offset").as_deref() == Some("0"), "{:?}", letter.headers);
    ensure!(letter.value == b"not json either", "the value is kept");
    ensure_holds(&world, &[]).await?;
    world.migrate().await?;
    ensure!(kafka::watermarks(&brokers, &topic).await?.len() == 6, "not extended");
    health_says(&worker, None).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_any_size_is_dead_lettered_whole_or_cut_and_says_which() -> Result<()> {
    let (world, gateway, worker) = pipeline("large").await?;
    let brokers = world.stack.kafka_brokers.clone();
    let topic = format!("{}.{}.dlq", world.readings_topic, world.worker_group);
    // As large as the readings topic allows, less Kafka's own overhead.
    let large = vec![b'x'; MESSAGE_BYTES_MAX - 300];
    let letter = poison(&world, 0, &large).await?;
    ensure!(letter.value == large, "{} bytes", letter.value.len());
    ensure!(letter.header("traceparent").is_some(), "the headers are kept");
    ensure!(letter.header("dlq.cut.from_bytes").is_none(), "it is whole");

    kafka::set_record_bytes_max(&brokers, &topic, 400_000).await?;
    let cut = poison(&world, 0, &large).await?;
    ensure!(large.starts_with(&cut.value) && cut.value.len() == 256 * 1024, "{}", cut.value.len());
    ensure!(cut.header("dlq.cut.from_bytes") == Some(large.len().to_string()), "{:?}", cut.headers);
    ensure!(cut.header("dlq.source.offset").as_deref() == Some("1"), "{:?}", cut.headers);
    ensure!(cut.header("dlq.source.topic").as_deref() == Some(&*world.readings_topic), "the topic");
    let metrics = http::get(&worker.admin("/metrics")).await?.text;
    ensure!(metrics.contains("dead_letters_altered_total{how=\"cut\"} 1"), "{metrics}");
    let printed = dlq(&world, &["replay", "--dry-run"]).await?;
    says(&printed, "1 reading(s) would be sent, 1 record(s) still unreadable")?;

    // A record that the dead-letter topic rejects altogether waits. Health reports it, and other
    // partitions continue.
    kafka::set_record_bytes_max(&brokers, &topic, 10_000).await?;
    kafka::produce(&brokers, &world.readings_topic, 0, &large, &[]).await?;
    health_says(&worker, Some("held: dead letter 0/2")).await?;
    let small = poison_beside(&world).await?;
    ensure!(small.value == b"small", "{} bytes", small.value.len());
    kafka::set_record_bytes_max(&brokers, &topic, DEAD_LETTER_BYTES_MAX).await?;
    settled(&world).await?;
    ensure!(totals(&world).await? == (0, 4), "{:?}", totals(&world).await?);
    health_says(&worker, None).await?;
    ensure_holds(&world, &[]).await?;
    finish(world, [gateway, worker]).await
}

/// Puts a small poison record into another partition and returns its dead letter.
async fn poison_beside(world: &World) -> Result<Record> {
    let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
    kafka::produce(brokers, topic, 1, b"small", &[]).await?;
    eventually(SOON, "the partition beside goes on", || async {
        let kept = letters(world).await?;
        Ok(kept.into_iter().find(|letter| letter.partition == 1))
    })
    .await
}
