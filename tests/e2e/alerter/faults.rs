//! Faults around the alerter lose no alert and repeat none.

use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::clients::http;
use ljwx_tests::clients::kafka;
use ljwx_tests::fakes::platform::{self, HEART_RATE_HIGH, Rule};
use ljwx_tests::fakes::tcp_proxy::{Loss, Proxy};
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::fleet::TENANT;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;
use serde_json::json;

use super::dead_letters::two_devices;
use crate::support::{alerting, delivered, evaluated, finish, measure, now, operators_get, seeded};

/// The longest that a step may take.
const SOON: Duration = Duration::from_secs(40);

/// The longest until what is owed is notified by the clock: a minute after the last try, and some
/// time to send.
const OWED_NOTIFIED_WITHIN: Duration = Duration::from_secs(100);

/// The longest until the readings of a whole window of 5 min are counted by their clocks.
const CLOCKS_COUNTED_WITHIN: Duration = Duration::from_secs(330);

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_raises_nothing_twice() -> Result<()> {
    for loss in [Loss::Answer, Loss::Request] {
        let (world, wechat) = seeded(&format!("commit{loss:?}").to_lowercase()).await?;
        let proxy = Proxy::start(world.database.url()).await?;
        let alerter = world.alerter(&wechat).env("MYSQL_URL", proxy.url(world.database.url())?);
        let (gateway, alerter) = tokio::try_join!(world.gateway().start(), alerter.start())?;
        // Evaluated readings prove that the claims are committed: the next COMMIT is that of the
        // batch that opens the episode.
        let opens_at = now() - 300;
        measure(&gateway, &world.device(1), opens_at - 15, &[130, 131]).await?;
        evaluated(&world).await?;
        proxy.lose(loss);
        measure(&gateway, &world.device(1), opens_at + 15, &[132, 80]).await?;
        delivered(&wechat, 2).await?;
        evaluated(&world).await?;
        ensure!(proxy.lost() > 0, "no commit was lost");
        measure(&gateway, &world.device(2), now() - 300, &[130, 131, 132]).await?;
        delivered(&wechat, 3).await?;
        let rows = world.database.count("t_alert_info").await?;
        ensure!(
            rows == 2 && wechat.messages().len() == 3,
            "{rows} alerts, {:?}",
            wechat.messages()
        );
        finish(world, [gateway, alerter]).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_nothing_delays_alerts_and_skips_none() -> Result<()> {
    let world = World::exclusive("alertro").await?;
    world.migrate().await?;
    platform::seed(&world, &[HEART_RATE_HIGH]).await?;
    let wechat = FakeWechat::start().await?;
    // Administrators of the server may write in spite of `read_only`, so the alerter gets a user
    // without their rights.
    let url = world.database.create_user().await?;
    let alerter = world.alerter(&wechat).env("MYSQL_URL", url);
    let (gateway, alerter) = tokio::try_join!(world.gateway().start(), alerter.start())?;
    eventually(SOON, "the alerter has its partitions", || async {
        let ledger = world.database.ledger(&world.alerter_group).await?;
        Ok((ledger.len() == world.partitions()).then_some(()))
    })
    .await?;
    let former = world.database.sessions().await?;
    world
        .database
        .while_set("read_only", "1", async || {
            measure(&gateway, &world.device(1), now() - 300, &[130, 131, 132]).await?;
            eventually(SOON, "the alerter holds", || async {
                let retries = alerter.metric("alerter_commit_retries_total", "").await?;
                Ok((retries >= 2.0).then_some(()))
            })
            .await?;
            eventually(SOON, "no connection of before is left", || async {
                let now = world.database.sessions().await?;
                Ok((!now.is_empty() && !now.iter().any(|id| former.contains(id))).then_some(()))
            })
            .await?;
            ensure!(http::get(&alerter.admin("/livez")).await?.status == 200, "it stays alive");
            ensure!(http::get(&alerter.admin("/readyz")).await?.status == 503, "it says so");
            ensure!(wechat.delivered() == 0, "{:?}", wechat.messages());
            Ok(())
        })
        .await?;
    delivered(&wechat, 1).await?;
    evaluated(&world).await?;
    ensure!(world.database.count("t_alert_info").await? == 1);
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_mysql_does_not_take_waits_alone_and_nothing_is_notified_twice()
-> Result<()> {
    let (world, wechat) = seeded("lockedrow").await?;
    // MySQL gives a lock up after half of this time.
    let alerter = world.alerter(&wechat).env("MYSQL_STATEMENT_TIMEOUT", "2s");
    let (gateway, alerter) = tokio::try_join!(world.gateway().start(), alerter.start())?;
    let (held, free, partition) = two_devices(&world, &gateway).await?;
    let (held, free) = (world.device(held), world.device(free));
    evaluated(&world).await?;
    let row = format!(
        "ingest_progress WHERE consumer_group = '{}' AND topic = '{}' AND `partition` = {partition}",
        world.alerter_group, world.readings_topic
    );
    let lock = world.database.lock(&row).await?;
    for device in [&held, &free] {
        measure(&gateway, device, now() - 300, &[130, 131, 132]).await?;
    }
    delivered(&wechat, 1).await?;
    eventually(SOON, "the probe names the partition", || async {
        let answer = http::get(&alerter.admin("/readyz")).await?;
        let named = answer.text.contains(&format!("held: partition {partition}: "));
        Ok((answer.status == 503 && named).then_some(()))
    })
    .await?;
    for device in [&held, &free] {
        measure(&gateway, device, now() - 200, &[80]).await?;
    }
    delivered(&wechat, 2).await?;
    let messages = wechat.messages();
    ensure!(messages.iter().all(|message| message.text().contains(&free)), "{messages:?}");
    ensure!(alerter.metric("batch_held", "").await? == 1.0, "no batch is held");
    ensure!(http::get(&alerter.admin("/livez")).await?.status == 200, "it stays alive");

    lock.release().await?;
    delivered(&wechat, 4).await?;
    evaluated(&world).await?;
    let messages = wechat.messages();
    let of_held = messages.iter().filter(|message| message.text().contains(&held)).count();
    ensure!(messages.len() == 4 && of_held == 2, "{messages:?}");
    ensure!(world.database.count("t_alert_info").await? == 2, "other alerts");
    let ledger = world.database.ledger(&world.alerter_group).await?;
    ensure!(ledger.iter().all(|row| row.balances()), "{ledger:?}");
    eventually(SOON, "it is ready again", || async {
        Ok((http::get(&alerter.admin("/readyz")).await?.status == 200).then_some(()))
    })
    .await?;
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_people_are_notified_and_rules_change_all_the_same() -> Result<()> {
    let (world, wechat) = seeded("noredis").await?;
    let alerter = world.alerter(&wechat).env("REDIS_URL", "redis://127.0.0.1:1");
    let (gateway, alerter) = tokio::try_join!(world.gateway().start(), alerter.start())?;
    measure(&gateway, &world.device(1), now() - 300, &[130, 131, 132]).await?;
    delivered(&wechat, 1).await?;
    let sql = "UPDATE t_alert_rules SET threshold_max = 90, trend_duration = 1, version = 2";
    world.database.execute(sql).await?;
    eventually(SOON, "the changed rule is in force", || async {
        measure(&gateway, &world.device(2), now(), &[100]).await?;
        pass(Duration::from_secs(1)).await;
        Ok((wechat.delivered() == 2).then_some(()))
    })
    .await?;
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_reports_a_hundred_times_a_second_is_notified_once() -> Result<()> {
    let (world, wechat) = seeded("hasty").await?;
    let alerter = world.alerter(&wechat).start().await?;
    let device = world.device(1);
    let start = now() - 60;
    // The records that gateways publish if each reading comes in a body of its own.
    let record = |number: i64| {
        let second = start + number / 100;
        let reading = json!({"device_sn": device, "customer_id": TENANT, "heart_rate": 140,
            "timestamp": wall_time(second), "epoch_ms": second * 1000,
            "received_at": second * 1000, "upload_method": "wifi"});
        (device.clone(), reading.to_string().into_bytes())
    };
    let records: Vec<_> = (0..2_000).map(record).collect();
    kafka::fill(&world.stack.kafka_brokers, &world.readings_topic, &records).await?;
    delivered(&wechat, 1).await?;
    evaluated(&world).await?;
    let late = alerter.metric("alerter_readings_total", "outcome=\"late\"").await?;
    ensure!(late == 20.0 * 99.0, "{late} readings of a second that was seen");
    ensure!(wechat.delivered() == 1, "{:?}", wechat.messages());
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn among_ten_thousand_rules_a_breach_is_notified_once_and_a_broken_one_costs_nobody()
-> Result<()> {
    let (world, wechat) = seeded("rules").await?;
    let digit = "(SELECT 0 AS d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 \
                 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)";
    // A hundred rules for each of a hundred tenants. Every thousandth rule has no threshold.
    let sql = format!(
        "INSERT INTO t_alert_rules (customer_id, rule_type, physical_sign, threshold_max, \
         severity_level, notification_type) \
         SELECT 1000 + a.d * 10 + b.d, CONCAT('kind', c.d, e.d), 'stress', \
         IF(a.d = 0 AND c.d = 0 AND e.d = 0, NULL, 60), 'minor', 'wechat' \
         FROM {digit} AS a, {digit} AS b, {digit} AS c, {digit} AS e"
    );
    world.database.execute(&sql).await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    measure(&gateway, &world.device(1), now() - 60, &[130, 131, 132]).await?;
    delivered(&wechat, 1).await?;
    evaluated(&world).await?;
    ensure!(wechat.delivered() == 1, "{:?}", wechat.messages());
    let rules = alerter.metric("alerter_rules", "state=\"valid\"").await?;
    let refused = alerter.metric("alerter_rules", "state=\"invalid\"").await?;
    ensure!((rules, refused) == (9_991.0, 10.0), "{rules} rules, {refused} refused");
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_two_days_fast_silences_nobody_and_one_two_days_slow_is_notified_as_late()
-> Result<()> {
    let (world, wechat) = seeded("clocks").await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    let days = 2 * 86_400;
    let (fast, slow) = (world.device(1), world.device(2));
    measure(&gateway, &fast, now() + days, &[130, 131, 132]).await?;
    // An hour ahead, readings are accepted. Operators hear of ten.
    measure(&gateway, &world.device(3), now() + 3_600, &[130; 10]).await?;
    measure(&gateway, &slow, now() - days, &[130, 131, 132]).await?;
    evaluated(&world).await?;
    eventually(SOON, "the alert of the slow clock is owed", || async {
        let owed = alerter.metric("alerter_notifications_owed", "reason=\"late\"").await?;
        Ok((owed == 1.0).then_some(()))
    })
    .await?;
    eventually(
        OWED_NOTIFIED_WITHIN,
        "the alert of the slow clock is notified by the clock",
        || async { Ok((wechat.delivered() == 1).then_some(())) },
    )
    .await?;
    let text = wechat.messages()[0].text();
    ensure!(text.contains(&slow) && text.contains("延迟"), "{text}");
    // The fast clock is set right.
    measure(&gateway, &fast, now(), &[130, 131, 132]).await?;
    delivered(&wechat, 2).await?;
    ensure!(wechat.messages()[1].text().contains(&fast), "{:?}", wechat.messages());
    operators_get(&alerter, "clock_ahead", CLOCKS_COUNTED_WITHIN).await?;
    ensure!(wechat.delivered() == 2, "{:?}", wechat.messages());
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_row_costs_itself_alone_and_its_message_goes_out() -> Result<()> {
    let world = World::shared("refused").await?.with_partitions(1);
    world.migrate().await?;
    // A character of four bytes, which the platform's table cannot store.
    let message = "𠮷 {device_sn} {sign} {value}";
    platform::seed(&world, &[Rule { message, ..HEART_RATE_HIGH }]).await?;
    let refused = world.device(1);
    for sql in [
        "ALTER TABLE t_alert_info MODIFY alert_desc VARCHAR(2000) CHARACTER SET utf8mb3".to_owned(),
        format!("ALTER TABLE t_alert_info ADD CONSTRAINT known CHECK (device_sn <> '{refused}')"),
    ] {
        world.database.execute(&sql).await?;
    }
    let wechat = FakeWechat::start().await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    for place in 1..=3 {
        measure(&gateway, &world.device(place), now() - 300, &[130, 131, 132]).await?;
    }
    delivered(&wechat, 3).await?;
    evaluated(&world).await?;
    let rows = "SELECT device_sn, alert_desc FROM t_alert_info ORDER BY device_sn";
    let rows = world.database.rows(rows).await?;
    let expected = [2, 3].map(|place| {
        let device = world.device(place);
        [Some(device.clone()), Some(format!("□ {device} 心率 132"))].to_vec()
    });
    ensure!(rows == expected, "{rows:?}");
    let counted = |table: &str| format!("table=\"{table}\"");
    let found = alerter.metric("alerter_refused_rows_total", &counted("t_alert_info")).await?;
    ensure!(found == 1.0, "{found} rows were refused");
    ensure!(alerter.output().contains("row_refused"), "operators hear of it");

    // The table changes under a running alerter, which cuts its rows to the new length.
    world.database.execute("UPDATE t_alert_info SET alert_type = 'x'").await?;
    world
        .database
        .execute("ALTER TABLE t_alert_info MODIFY alert_type VARCHAR(9) NOT NULL")
        .await?;
    measure(&gateway, &world.device(4), now() - 300, &[130, 131, 132]).await?;
    delivered(&wechat, 4).await?;
    evaluated(&world).await?;
    let cut =
        format!("SELECT alert_type FROM t_alert_info WHERE device_sn = '{}'", world.device(4));
    let cut = world.database.row(&cut).await?;
    ensure!(cut == [Some("HEARTRAT…".to_owned())], "{cut:?}");
    finish(world, [gateway, alerter]).await
}
