//! The account holds in spite of operators' mistakes. A group belongs to workers or to alerters,
//! and a recreated topic counts as another topic.

use anyhow::{Context, Result, ensure};
use ljwx_service::kafka::partitioner::partition_of;
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::clients::{http, kafka};
use ljwx_tests::fakes::platform::{self, HEART_RATE_HIGH};
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::stack::launch::Launch;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::json;

use super::dlq::health_says;
use crate::support::{
    AT, CAUGHT_UP_WITHIN, SOON, audit, codes, ensure_holds, evaluated, finish, letters, pipeline,
    send, settled, totals,
};

/// The command that every error about a recreated topic names.
const WAY_OUT: &str = "worker migrate --accept-topic";

/// The time of the first reading.
const START: i64 = 1_756_785_600;

/// Ensures that the program ends by itself with exit code 1 and with this text in its log.
async fn ensure_refused(launch: Launch, says: &str) -> Result<()> {
    let refused = launch.finish().await?;
    ensure!(refused.code == Some(1), "ended with {:?}: {}", refused.code, refused.text);
    ensure!(refused.text.contains(says), "{says:?} is not in: {}", refused.text);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_and_an_alerter_never_share_a_group() -> Result<()> {
    let (world, gateway, worker) = pipeline("kinds").await?;
    platform::seed(&world, &[HEART_RATE_HIGH]).await?;
    let wechat = FakeWechat::start().await?;
    let alerter = world.alerter(&wechat).start().await?;
    for number in 1..=10 {
        send(&gateway, &world.device(number), "2025-09-02 16:09", &[80, 81, 82]).await?;
    }
    settled(&world).await?;
    evaluated(&world).await?;
    let intruder = world.alerter(&wechat).env("ALERTER_GROUP", &world.worker_group);
    ensure_refused(intruder, "Set ALERTER_GROUP to a name that no other").await?;
    let intruder = world.worker().env("WORKER_GROUP", &world.alerter_group);
    ensure_refused(intruder, "Set WORKER_GROUP to a name that no other").await?;
    // A row written before the column `kind` existed shows the kind by its counts.
    world.database.execute("UPDATE ingest_progress SET kind = NULL").await?;
    let intruder = world.alerter(&wechat).env("ALERTER_GROUP", &world.worker_group);
    ensure_refused(intruder, "is a worker's").await?;
    for number in 1..=10 {
        send(&gateway, &world.device(number), "2025-09-02 16:10", &[80, 81, 82]).await?;
    }
    settled(&world).await?;
    evaluated(&world).await?;
    let report = ensure_holds(&world, &[]).await?;
    ensure!(report["totals"]["stored"] == 60 && report["totals"]["processed"] == 0, "{report:#}");
    ensure!(alerter.terminate().await?.success(), "the alerter ends well");
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_without_a_dead_letter_topic_says_so_at_its_start_and_waits_only_for_dead_letters()
-> Result<()> {
    let world = World::shared("homeless").await?.with_partitions(2);
    // Creates the dead-letter topic of another group.
    let other = world.launch("worker", &["migrate"]).env("WORKER_GROUP", "other");
    let migrated = other.finish().await?;
    ensure!(migrated.code == Some(0), "{}", migrated.text);
    world.grant().await?;
    // By default, a producer waits half a minute for an unknown topic to appear.
    let worker = world.worker().env("KAFKA_SET", "topic.metadata.propagation.max.ms=1000");
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), worker.start())?;
    let topic = format!("{}.{}.dlq", world.readings_topic, world.worker_group);
    health_says(&worker, Some(&format!("topic {topic} does not exist"))).await?;
    let named = format!("NOT WELL group {} has no dead-letter topic", world.worker_group);
    ensure_refused(world.launch("worker", &["status"]), &named).await?;
    let beside = (1..).find(|number| partition_of(world.device(*number).as_bytes(), 2) == 1);
    let beside = world.device(beside.context("no device is in the other partition")?);
    send(&gateway, &beside, AT, &[80, 81]).await?;
    settled(&world).await?;

    let (brokers, readings) = (&world.stack.kafka_brokers, &world.readings_topic);
    kafka::produce(brokers, readings, 0, b"not json", &[]).await?;
    health_says(&worker, Some("held: dead letter 0/0")).await?;
    send(&gateway, &beside, "2025-09-02 17:09", &[82]).await?;
    eventually(SOON, "the other partition goes on", || async {
        Ok((totals(&world).await? == (3, 0)).then_some(()))
    })
    .await?;

    world.migrate().await?;
    eventually(CAUGHT_UP_WITHIN, "the dead letter is confirmed", || async {
        Ok((totals(&world).await? == (3, 1)).then_some(()))
    })
    .await?;
    let kept = letters(&world).await?;
    ensure!(kept.len() == 1 && kept[0].value == b"not json", "{kept:?}");
    eventually(SOON, "health names no missing topic", || async {
        let answer = http::get(&worker.admin("/api/batch_processor/health")).await?;
        ensure!(!answer.json["reasons"].to_string().contains(&topic), "{}", answer.text);
        Ok(Some(()))
    })
    .await?;
    ensure_holds(&world, &[]).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_former_name_of_the_group_is_refused_with_the_new_one() -> Result<()> {
    for (program, variable) in [("worker", "WORKER_GROUP"), ("alerter", "ALERTER_GROUP")] {
        let refused = Launch::bare(program, &["run"])?
            .env("KAFKA_BROKERS", "127.0.0.1:9")
            .env("MYSQL_URL", "mysql://root@127.0.0.1:9/none")
            .env("REDIS_URL", "redis://127.0.0.1:9")
            .env("CONSUMER_GROUP", "ingest")
            .finish()
            .await?;
        ensure!(refused.code == Some(2), "{program}: {:?}: {}", refused.code, refused.text);
        for name in ["CONSUMER_GROUP", variable] {
            ensure!(refused.text.contains(name), "{program} says nothing of {name}");
        }
    }
    Ok(())
}

/// Publishes readings of one device, as a gateway publishes an acknowledged body: one reading a
/// second, from number `first` on.
async fn publish(world: &World, device: usize, first: i64, count: i64) -> Result<()> {
    let device = world.device(device);
    let record = |number: i64| {
        let second = START + number;
        let reading = json!({"device_sn": device, "heart_rate": 70, "timestamp": wall_time(second),
            "epoch_ms": second * 1000, "received_at": second * 1000, "upload_method": "wifi"});
        (device.clone(), reading.to_string().into_bytes())
    };
    let records: Vec<_> = (first..first + count).map(record).collect();
    kafka::fill(&world.stack.kafka_brokers, &world.readings_topic, &records).await
}

/// Waits until a running service has ended because of the topic.
async fn ensure_ends(mut service: Service) -> Result<()> {
    let status = service.ended().await?;
    let output = service.output();
    ensure!(status.code() == Some(1) && output.contains(WAY_OUT), "{status}: {output}");
    Ok(())
}

/// Accepts the topic and ensures that the command's output names both groups.
async fn accept(world: &World) -> Result<()> {
    let refused = world.launch("worker", &["migrate"]).finish().await?;
    ensure!(refused.code == Some(1) && refused.text.contains(WAY_OUT), "{}", refused.text);
    let accepted = world.launch("worker", &["migrate", "--accept-topic"]).finish().await?;
    ensure!(accepted.code == Some(0), "{}", accepted.text);
    for said in [&world.worker_group, &world.alerter_group, "may be lost"] {
        ensure!(accepted.text.contains(said), "{said} is not in: {}", accepted.text);
    }
    Ok(())
}

async fn positions(world: &World) -> Result<Vec<i64>> {
    let groups = [&world.worker_group, &world.alerter_group];
    let mut positions = Vec::new();
    for group in groups {
        positions.extend(world.database.ledger(group).await?.iter().map(|row| row.next_offset));
    }
    Ok(positions)
}

/// Ensures that the dead letter keeps its first place: a replay fills the gaps of later values and
/// replaces none.
async fn the_dead_letter_is_replayed(world: &World, gateway: &Service) -> Result<()> {
    send(gateway, &world.device(9), "2025-09-02 17:00", &[90]).await?;
    settled(world).await?;
    let replayed = world.launch("worker", &["dlq", "replay"]).finish().await?;
    ensure!(replayed.text.contains("1 reading(s) sent"), "{}", replayed.text);
    settled(world).await?;
    let device = world.device(9);
    let sql =
        format!("SELECT heart_rate, step FROM t_user_health_data WHERE device_sn = '{device}'");
    let row: Vec<_> = world.database.row(&sql).await?.into_iter().flatten().collect();
    ensure!(row == ["90", "1"], "{row:?}");
    eventually(SOON, "Redis shows it", || async {
        let hash = world.cache.newest(&device).await?;
        Ok((hash.get("step").map(String::as_str) == Some("1")).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_is_refused_until_it_is_accepted_and_then_stored_whole() -> Result<()> {
    let world = World::shared("anew").await?.with_partitions(1);
    world.migrate().await?;
    platform::seed(&world, &[HEART_RATE_HIGH]).await?;
    let wechat = FakeWechat::start().await?;
    let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
    let (worker, alerter) = (world.worker(), world.alerter(&wechat));
    let (gateway, worker, alerter) =
        tokio::try_join!(world.gateway().start(), worker.start(), alerter.start())?;
    // Create a dead letter of the first topic, to be replayed later.
    let table = "ALTER TABLE t_user_health_data MODIFY heart_rate";
    world.database.execute(&format!("{table} TINYINT NULL")).await?;
    let refused = json!({"data": {"deviceSn": world.device(9), "heart_rate": 200, "step": 1,
                                  "timestamp": "2025-09-02 17:00:00"}});
    ljwx_tests::clients::http::post(&gateway.url("/upload_health_data"), refused.to_string())
        .await?;
    publish(&world, 1, 0, 99).await?;
    settled(&world).await?;
    evaluated(&world).await?;
    world.database.execute(&format!("{table} INT NULL")).await?;
    ensure!(gateway.terminate().await?.success(), "the gateway ends well");

    // Recreate the topic under the running services and fill it beyond their positions.
    kafka::remake_topic(brokers, topic, 1).await?;
    publish(&world, 2, 0, 390).await?;
    ensure_ends(worker).await?;
    ensure_ends(alerter).await?;
    ensure!(positions(&world).await? == [100, 100], "{:?}", positions(&world).await?);
    ensure!(world.database.count("t_user_health_data").await? == 99, "something was stored");
    ensure_refused(world.worker(), WAY_OUT).await?;
    ensure_refused(world.alerter(&wechat), WAY_OUT).await?;
    ensure_refused(world.launch("worker", &["offsets"]), WAY_OUT).await?;
    let wrong = format!("NOT WELL group {}: topic {topic} was deleted", world.worker_group);
    ensure_refused(world.launch("worker", &["status"]), &wrong).await?;
    let (code, report) = audit(&world, &[]).await?;
    ensure!(code == Some(1) && codes(&report, "failure") == ["other_topic"], "{report:#}");

    accept(&world).await?;
    let (worker, alerter) = (world.worker(), world.alerter(&wechat));
    let (gateway, worker, alerter) =
        tokio::try_join!(world.gateway().start(), worker.start(), alerter.start())?;
    settled(&world).await?;
    evaluated(&world).await?;
    ensure!(positions(&world).await? == [490, 490], "{:?}", positions(&world).await?);
    let stored = "SELECT COUNT(*) FROM t_user_health_data WHERE id >= 100";
    ensure!(world.database.number(stored).await? == 390, "not all of the new topic is stored");
    let report = ensure_holds(&world, &["--device", &world.device(2)]).await?;
    ensure!(codes(&report, "note") == ["topic_made_anew"], "{report:#}");
    ensure!(report["readings"]["stored"] == 390 && report["totals"]["lag"] == 0, "{report:#}");

    the_dead_letter_is_replayed(&world, &gateway).await?;

    // Recreate it a second time, with fewer records than their positions: the services must see
    // another topic and skip no gap.
    ensure!(gateway.terminate().await?.success(), "the gateway ends well");
    evaluated(&world).await?;
    kafka::remake_topic(brokers, topic, 1).await?;
    publish(&world, 3, 0, 10).await?;
    ensure_ends(worker).await?;
    ensure_ends(alerter).await?;
    accept(&world).await?;
    let (worker, alerter) = (world.worker(), world.alerter(&wechat));
    let (gateway, worker, alerter) =
        tokio::try_join!(world.gateway().start(), worker.start(), alerter.start())?;
    settled(&world).await?;
    evaluated(&world).await?;
    ensure!(positions(&world).await? == [502, 502], "{:?}", positions(&world).await?);
    let report = ensure_holds(&world, &["--device", &world.device(3)]).await?;
    ensure!(report["readings"]["stored"] == 10, "{report:#}");
    let made_anew = codes(&report, "note").iter().filter(|code| *code == "topic_made_anew").count();
    ensure!(made_anew == 2, "{report:#}");
    ensure!(alerter.terminate().await?.success(), "the alerter ends well");
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_group_goes_on_behind_the_greatest_position_of_any() -> Result<()> {
    let world = World::shared("behind").await?.with_partitions(2);
    world.migrate().await?;
    let worker = world.worker().start().await?;
    for device in 1..=8 {
        publish(&world, device, 0, 5).await?;
    }
    settled(&world).await?;
    eventually(SOON, "Redis lacks nothing", || async {
        let ledger = world.database.ledger(&world.worker_group).await?;
        Ok(ledger.iter().all(|row| row.redis_offset == row.next_offset).then_some(()))
    })
    .await?;
    ensure!(worker.terminate().await?.success(), "the worker ends well");
    let before = world.database.ledger(&world.worker_group).await?;
    let base = before.iter().map(|row| row.next_offset).max().context("a position")?;
    let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
    kafka::remove_topics(brokers, topic).await?;
    eventually(SOON, "the topic is gone", || async {
        Ok(kafka::topic_names(brokers, topic).await?.is_empty().then_some(()))
    })
    .await?;
    // Not the number with which the topic was accepted.
    let accepted = world.launch("worker", &["migrate", "--accept-topic"]).env("PARTITIONS", "1");
    let accepted = accepted.finish().await?;
    ensure!(accepted.code == Some(0), "{}", accepted.text);
    let partitions = kafka::watermarks(brokers, topic).await?.len();
    ensure!(partitions == 2, "{partitions} partitions: {}", accepted.text);
    for (before, after) in before.iter().zip(world.database.ledger(&world.worker_group).await?) {
        let distance = base - before.next_offset;
        ensure!(after.next_offset == base && after.balances(), "{after:?}");
        ensure!(after.skipped_gap == before.skipped_gap + distance, "{before:?}, {after:?}");
        ensure!(after.redis_offset == base, "Redis lacked nothing: {after:?}");
    }
    world.finish().await
}
