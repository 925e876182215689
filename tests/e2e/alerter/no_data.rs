//! A device that falls silent opens an alert. A silent gateway opens none, and neither does a
//! device that moves to another partition.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ljwx_service::kafka::partitioner::partition_of;
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::clients::transactions::TransactionalProducer;
use ljwx_tests::clients::{http, kafka};
use ljwx_tests::fakes::platform;
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::fleet::TENANT;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;
use serde_json::json;

use crate::support::{alerting, evaluated, finish};

/// The longest that a message may take.
const SOON: Duration = Duration::from_secs(90);

/// Longer than the window of any NO_DATA rule here.
const LONG: Duration = Duration::from_secs(20);

async fn seed(world: &World) -> Result<()> {
    platform::seed(world, &[]).await?;
    platform::add_absence_rule(world, Duration::from_secs(12)).await?;
    world
        .database
        .execute(
            "INSERT INTO t_alert_rules (rule_type, physical_sign, threshold_max, severity_level, \
             stale_after_seconds, notification_type) \
             VALUES ('fever', 'temperature', 38, 'major', 8, 'wechat')",
        )
        .await
}

/// Sends one reading of a device, measured now.
async fn report(gateway: &Service, device: &str, temperature: f64) -> Result<()> {
    let data = json!({
        "deviceSn": device, "customerId": TENANT.to_string(), "temperature": temperature,
        "timestamp": wall_time(jiff::Timestamp::now().as_second()),
    });
    let body = json!({ "data": data }).to_string();
    let answer = http::post(&gateway.url("/upload_health_data"), body).await?;
    ensure!(answer.status == 200, "{}", answer.text);
    Ok(())
}

/// Waits for a message about `device` that contains `word`. Meanwhile `others` send readings.
async fn notified(
    (world, gateway, wechat): (&World, &Service, &FakeWechat),
    others: &[usize],
    device: &str,
    word: &str,
) -> Result<()> {
    eventually(SOON, &format!("{word} of {device}"), || async {
        for other in others {
            report(gateway, &world.device(*other), 36.5).await?;
        }
        pass(Duration::from_millis(500)).await;
        let messages = wechat.messages();
        let mut texts = messages.iter().map(|message| message.text());
        let found = texts.any(|text| text.contains(device) && text.contains(word));
        ensure!(found, "{messages:?}");
        Ok(Some(()))
    })
    .await
}

/// Lets devices send readings for a while.
pub async fn keep_sending(
    world: &World,
    gateway: &Service,
    devices: &[usize],
    time: Duration,
) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        for device in devices {
            report(gateway, &world.device(*device), 36.5).await?;
        }
        pass(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// Returns the `nth` device, from 0, whose readings come in this one of so many partitions.
pub fn device_in(world: &World, nth: usize, partition: i32, partitions: i32) -> Result<usize> {
    let is_there =
        |number: &usize| partition_of(world.device(*number).as_bytes(), partitions) == partition;
    (1..).filter(is_there).nth(nth).context("there is no such device")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_device_is_missed_once_and_a_silent_gateway_is_no_reason_to() -> Result<()> {
    // In one partition every device is followed by others, whatever the names of this world are.
    let world = World::shared("silent").await?.with_partitions(1);
    world.migrate().await?;
    seed(&world).await?;
    let wechat = FakeWechat::start().await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    let (silent, ill) = (world.device(1), world.device(2));
    let all = (&world, &gateway, &wechat);
    report(&gateway, &silent, 36.5).await?;
    report(&gateway, &ill, 39.5).await?;
    let others = [3, 4, 5, 6, 7, 8, 9, 10];
    notified(all, &others, &ill, "体温过高").await?;
    notified(all, &others, &ill, "失联 体温").await?;
    notified(all, &others, &silent, "设备失联").await?;
    notified(all, &others, &ill, "设备失联").await?;
    let status =
        format!("SELECT alert_status FROM t_alert_info WHERE device_sn = '{ill}' ORDER BY id");
    let rows = world.database.rows(&status).await?;
    ensure!(rows[0] == [Some("STALE".to_owned())], "{rows:?}");
    // The device keeps sending, so that a slow machine does not make it silent again.
    let everybody = [1, 3, 4, 5, 6, 7, 8, 9, 10];
    notified(all, &everybody, &silent, "已恢复").await?;

    // No readings arrive: the gateway has stopped, or no device can reach it.
    let before = wechat.delivered();
    pass(LONG).await;
    for other in others {
        report(&gateway, &world.device(other), 36.5).await?;
    }
    pass(Duration::from_secs(3)).await;
    ensure!(wechat.delivered() == before, "{:#?}", wechat.messages());
    finish(world, [gateway, alerter]).await
}

/// Every transaction ends in a marker, which is no record.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_missed_also_if_its_partition_ends_in_the_marker_of_a_transaction() -> Result<()>
{
    let world = World::shared("marker").await?.with_partitions(2);
    world.migrate().await?;
    seed(&world).await?;
    let wechat = FakeWechat::start().await?;
    let alerter = world.alerter(&wechat).start().await?;
    let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
    let producer = TransactionalProducer::start(brokers, topic, topic).await?;
    let write = async |partition: i32, device: &str| {
        let epoch = jiff::Timestamp::now().as_second();
        let reading = json!({
            "device_sn": device, "timestamp": wall_time(epoch), "epoch_ms": epoch * 1000,
            "received_at": epoch * 1000, "customer_id": TENANT, "upload_method": "wifi",
            "heart_rate": 80,
        });
        producer.begin(partition, &[reading.to_string()]).await?;
        producer.commit().await
    };
    let silent = world.device(1);
    write(0, &silent).await?;
    eventually(SOON, "the silent device is missed", || async {
        // A device is missed only while others are heard.
        write(1, &world.device(2)).await?;
        pass(Duration::from_millis(500)).await;
        let messages = wechat.messages();
        let mut texts = messages.iter().map(|message| message.text());
        let found = texts.any(|text| text.contains(&silent) && text.contains("设备失联"));
        Ok(found.then_some(()))
    })
    .await?;
    finish(world, [alerter]).await
}

/// Adds 5,000 rules on missing data, half of them of fifty other tenants, with fifty windows of their
/// own of which none ends within a test. Adds seven rules whose window is that of [`seed`].
async fn seed_thousands(world: &World) -> Result<()> {
    let many = (0..5_000).map(|rule| {
        let tenant = if rule % 2 == 0 { 0 } else { 1_000 + rule % 100 };
        format!("({tenant}, 'silent{rule}', 'NO_DATA', {}, 'major', 'wechat')", 600 + rule % 50)
    });
    let few = (0..7).map(|rule| format!("(0, 'gone{rule}', 'NO_DATA', 12, 'minor', 'wechat')"));
    let rules = many.chain(few).collect::<Vec<_>>().join(", ");
    let columns = "customer_id, rule_type, rule_category, time_window_seconds, severity_level, \
                   notification_type";
    world.database.execute(&format!("INSERT INTO t_alert_rules ({columns}) VALUES {rules}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn five_thousand_rules_on_absence_cost_a_batch_one_number_and_a_missing_device_one_message()
-> Result<()> {
    let world = World::shared("absences").await?.with_partitions(1);
    world.migrate().await?;
    seed(&world).await?;
    seed_thousands(&world).await?;
    let wechat = FakeWechat::start().await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    let (first, second) = (world.device(1), world.device(2));
    let all = (&world, &gateway, &wechat);
    report(&gateway, &first, 39.5).await?;
    notified(all, &[3], &first, "体温过高").await?;
    let windows = "SELECT COUNT(*) FROM t_alert_no_data_clock";
    // The windows include those of the two rules that `seed` adds.
    ensure!(world.database.number(windows).await? == 52);
    let clock = "SELECT COUNT(*) FROM t_alert_partition WHERE clock_ms > 0";
    ensure!(world.database.number(clock).await? == 1);
    // Eight rules miss the device at the same time.
    notified(all, &[3], &first, "失联 体温").await?;
    notified(all, &[3], &first, "等8条").await?;
    ensure!(wechat.delivered() == 3, "{:#?}", wechat.messages());
    let missed = "t_alert_info WHERE alert_type LIKE 'silent%' OR alert_type LIKE 'gone%'";
    ensure!(world.database.count(missed).await? == 8, "of eight alerts");
    notified(all, &[1, 3], &first, "已恢复 设备数据 等8条").await?;
    let rules = alerter.metric("alerter_rules", "state=\"valid\"").await?;
    ensure!(rules == 5_009.0, "{rules} rules");
    let refused = alerter.metric("alerter_refused_rows_total", "").await.unwrap_or_default();
    ensure!(refused == 0.0, "{refused} rows were refused");
    alerter.terminate().await?;

    let alerter = world.alerter(&wechat).start().await?;
    report(&gateway, &second, 39.5).await?;
    notified(all, &[3], &second, "体温过高").await?;
    finish(world, [gateway, alerter]).await
}

/// No record of its partition shows that the device is silent, so the wall clock must.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_alone_in_its_partition_is_missed_also_after_a_restart() -> Result<()> {
    let world = World::shared("alone").await?.with_partitions(2);
    world.migrate().await?;
    seed(&world).await?;
    let wechat = FakeWechat::start().await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    let (silent, other) = (device_in(&world, 0, 0, 2)?, device_in(&world, 0, 1, 2)?);
    report(&gateway, &world.device(silent), 36.5).await?;
    evaluated(&world).await?;
    alerter.terminate().await?;
    let alerter = world.alerter(&wechat).start().await?;
    notified((&world, &gateway, &wechat), &[other], &world.device(silent), "设备失联").await?;
    finish(world, [gateway, alerter]).await
}

/// Ensures that all stored state of devices is in their partitions.
async fn is_in_place(world: &World, partitions: i32) -> Result<()> {
    let states = "SELECT kafka_partition, device_sn FROM t_alert_state";
    let journal = "SELECT kafka_partition, entry FROM t_alert_journal";
    for row in [world.database.rows(states).await?, world.database.rows(journal).await?].concat() {
        let [Some(partition), Some(lines)] = &row[..] else { continue };
        for device in lines.lines().filter_map(|line| line.split(' ').next()) {
            let expected = partition_of(device.as_bytes(), partitions).to_string();
            ensure!(*partition == expected, "{device} is in {partition}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_move_to_added_partitions_are_not_missed_and_take_their_alerts_along()
-> Result<()> {
    let world = World::shared("moved").await?.with_partitions(2);
    world.migrate().await?;
    seed(&world).await?;
    world.database.execute("UPDATE t_alert_rules SET stale_after_seconds = NULL").await?;
    let wechat = FakeWechat::start().await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    let (ill, mover) = (device_in(&world, 0, 2, 4)?, device_in(&world, 1, 2, 4)?);
    let others = [device_in(&world, 0, 0, 4)?, device_in(&world, 0, 1, 4)?, mover];
    let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
    report(&gateway, &world.device(ill), 39.5).await?;
    for word in ["体温过高", "设备失联"] {
        notified((&world, &gateway, &wechat), &others, &world.device(ill), word).await?;
    }

    kafka::add_partitions(brokers, topic, 4).await?;
    // A new gateway knows the new partitions.
    gateway.terminate().await?;
    let gateway = eventually(SOON, "a gateway uses the new partitions", || async {
        ensure!(kafka::watermarks(brokers, topic).await?.len() == 4, "not there yet");
        Ok(Some(world.gateway().start().await?))
    })
    .await?;
    eventually(SOON, "the alerter evaluates no missing data", || async {
        Ok((alerter.metric("alerter_no_data_suspended", "").await? == 1.0).then_some(()))
    })
    .await?;
    keep_sending(&world, &gateway, &others, Duration::from_secs(15)).await?;
    let moved = kafka::records(brokers, topic).await?.into_iter();
    let moved: Vec<_> = moved.filter(|record| record.partition >= 2).collect();
    ensure!(!moved.is_empty(), "no device has moved");
    for record in moved {
        let key = record.key.context("a reading without a key")?;
        ensure!(partition_of(&key, 4) == record.partition, "{key:?} is in {}", record.partition);
    }
    let accept =
        async || world.launch("worker", &["migrate", "--accept-partitions"]).finish().await;
    let refused = accept().await?;
    ensure!(refused.code == Some(1) && refused.text.contains("Stop the alerters"), "{refused:?}");
    ensure!(alerter.terminate().await?.success(), "the alerter failed");
    let accepted = accept().await?;
    ensure!(accepted.code == Some(0), "{}", accepted.text);
    is_in_place(&world, 4).await?;
    let open = "SELECT COUNT(*) FROM t_alert_info WHERE alert_status = 'NOTIFIED'";
    ensure!(world.database.number(open).await? == 2, "of two alerts");

    let alerter = world.alerter(&wechat).start().await?;
    let all = [&others[..], &[ill]].concat();
    eventually(SOON, "both alerts have ended", || async {
        keep_sending(&world, &gateway, &all, Duration::from_secs(1)).await?;
        let ended = "SELECT COUNT(*) FROM t_alert_info WHERE alert_status = 'RESOLVED'";
        Ok((world.database.number(ended).await? == 2).then_some(()))
    })
    .await?;
    keep_sending(&world, &gateway, &all, Duration::from_secs(5)).await?;
    ensure!(world.database.count("t_alert_info").await? == 2, "{:#?}", wechat.messages());
    is_in_place(&world, 4).await?;
    finish(world, [gateway, alerter]).await
}
