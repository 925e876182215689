//! `worker erase` and `worker export`: a device or a user is gone everywhere, and the account holds.

use anyhow::{Result, ensure};
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::clients::http;
use ljwx_tests::fakes::platform::{self, HEART_RATE_HIGH};
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::fleet::TENANT;
use ljwx_tests::stack::launch::Finished;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::{Value, json};

use crate::support::{
    AT, SOON, codes, delivered, ensure_holds, evaluated, finish, measure, pipeline, send, settled,
};

/// Erases although the device was on a moment ago, if every group has processed what it sent.
const AT_ONCE: [&str; 3] = ["--execute", "--silent-for", "1ms"];

/// Heart rates that open an episode.
const BREACH: [i32; 4] = [130, 131, 132, 133];

async fn worker(world: &World, arguments: &[&str]) -> Result<Finished> {
    world.launch("worker", arguments).finish().await
}

/// Runs `worker erase`, and ensures its exit code and that it prints this.
async fn erase(world: &World, arguments: &[&str], code: i32, says: &str) -> Result<()> {
    let done = worker(world, &[&["erase"], arguments].concat()).await?;
    ensure!(done.code == Some(code), "{arguments:?}: {:?}: {}", done.code, done.text);
    ensure!(done.text.contains(says), "{says:?} is not in: {}", done.text);
    Ok(())
}

/// Returns the arguments about a device.
fn of<'a>(device: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
    [&["--device", device], arguments].concat()
}

/// Runs `worker export`, and returns the lines.
async fn export(world: &World, arguments: &[&str]) -> Result<Vec<Value>> {
    let done = worker(world, &[&["export"], arguments].concat()).await?;
    ensure!(done.code == Some(0), "{arguments:?}: {:?}: {}", done.code, done.text);
    // Log lines follow.
    let lines = done.text.lines().filter(|line| line.starts_with('{'));
    Ok(lines.map(serde_json::from_str).collect::<Result<_, _>>()?)
}

/// Returns the tables that hold this text anywhere.
async fn naming(world: &World, text: &str) -> Result<Vec<String>> {
    let tables = "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() \
                  AND TABLE_TYPE = 'BASE TABLE' AND TABLE_NAME <> '_sqlx_migrations'";
    let mut naming = Vec::new();
    for table in world.database.rows(tables).await?.into_iter().flatten().flatten() {
        let rows = world.database.rows(&format!("SELECT * FROM `{table}`")).await?;
        let mut cells = rows.iter().flatten().flatten();
        if cells.any(|cell| cell.contains(text)) {
            naming.push(table);
        }
    }
    Ok(naming)
}

/// Ensures that every kind of audit holds, with this number of rows.
async fn audits_hold(world: &World, rows: &Value) -> Result<()> {
    for arguments in [&[][..], &["--full"], &[]] {
        let report = ensure_holds(world, arguments).await?;
        ensure!(report["totals"]["rows"] == *rows, "{arguments:?}: {:#}", report["totals"]);
    }
    Ok(())
}

/// Sends a reading with a document of every period.
async fn send_documents(gateway: &Service, device: &str, epoch: i64) -> Result<()> {
    let document = json!({"code": 0, "data": [{"totalTime": 5}]}).to_string();
    let body = json!({"data": {
        "deviceSn": device, "customerId": TENANT.to_string(), "timestamp": wall_time(epoch),
        "heart_rate": 70, "exerciseDailyData": document, "exerciseWeekData": document,
    }});
    let answer = http::post(&gateway.url("/upload_health_data"), body.to_string()).await?;
    ensure!(answer.json["details"]["success"] == 1, "{}", answer.text);
    Ok(())
}

/// Adds a digest that reports all notifications, and names `text`. It is not due.
async fn add_digest(world: &World, state: &str, text: &str) -> Result<()> {
    let key = format!("{state:d<32}");
    world
        .database
        .execute(&format!(
            "INSERT INTO t_alert_outbox (episode_key, transition_seq, transition, recipient, \
             customer_id, payload, state, next_attempt_at, created_at, notice) VALUES ('{key}', 0, \
             'digest', 'openid:x', 0, '{text}', '{state}', 4102444800000, 0, '{{\"text\":\"{text}\"}}')"
        ))
        .await?;
    let digest = world
        .database
        .number("SELECT MAX(id) FROM t_alert_outbox WHERE transition = 'digest'")
        .await?;
    let join = format!("UPDATE t_alert_outbox SET digest_id = {digest} WHERE id <> {digest}");
    world.database.execute(&join).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erased_device_is_nowhere_and_every_audit_holds() -> Result<()> {
    let (world, gateway, store) = pipeline("erase").await?;
    platform::seed(&world, &[HEART_RATE_HIGH]).await?;
    let wechat = FakeWechat::start().await?;
    let alerter = world.alerter(&wechat).start().await?;
    let (mine, other) = (world.device(1), world.device(2));
    let now = jiff::Timestamp::now().as_second();
    for device in [&mine, &other] {
        send_documents(&gateway, device, now - 600).await?;
        measure(&gateway, device, now - 60, &BREACH).await?;
    }
    delivered(&wechat, 2).await?;
    settled(&world).await?;
    evaluated(&world).await?;
    eventually(SOON, "both attempts are logged", || async {
        Ok((world.database.count("t_alert_action_log").await? >= 2).then_some(()))
    })
    .await?;
    let silence =
        ["silence", "add", "--reason", "x", "--for", "1h", "--rule-id", "999", "--device", &mine];
    let silenced = world.launch("alerter", &silence).env("USER", "ann").finish().await?;
    ensure!(silenced.code == Some(0), "{}", silenced.text);
    for state in ["moved", "sent"] {
        add_digest(&world, state, &mine).await?;
    }
    let before = ensure_holds(&world, &[]).await?;

    let places = naming(&world, &mine).await?;
    let exported = export(&world, &["--device", &mine]).await?;
    for place in places.iter().map(String::as_str).chain(["t_alert_action_log", "redis"]) {
        ensure!(exported.iter().any(|line| line["from"] == place), "no {place}: {exported:#?}");
    }
    ensure!(!exported.iter().any(|line| line.to_string().contains(&other)), "{exported:#?}");
    erase(&world, &of(&mine, &["--silent-for", "1ms"]), 0, "add --execute").await?;
    ensure!(naming(&world, &mine).await? == places, "something was erased");

    erase(&world, &of(&mine, &AT_ONCE), 0, "\nerased").await?;
    ensure!(naming(&world, &mine).await?.is_empty(), "{:?}", naming(&world, &mine).await?);
    ensure!(naming(&world, &other).await?.len() > 5, "{:?}", naming(&world, &other).await?);
    ensure!(world.cache.newest(&mine).await?.is_empty(), "the hash is there");
    ensure!(!world.cache.newest(&other).await?.is_empty(), "the hash of another device is gone");
    audits_hold(&world, &before["totals"]["rows"]).await?;
    let report = ensure_holds(&world, &of(&mine, &[])).await?;
    ensure!(codes(&report, "note").contains(&"erased_readings".to_owned()), "{report:#}");
    erase(&world, &of(&mine, &[]), 1, "nothing is stored").await?;

    // The running alerter has forgotten the device, and evaluates it anew.
    measure(&gateway, &mine, now, &BREACH).await?;
    delivered(&wechat, 3).await?;
    settled(&world).await?;
    for arguments in [&[][..], &["--full"]] {
        ensure_holds(&world, arguments).await?;
    }
    ensure!(alerter.terminate().await?.success(), "the alerter failed");
    finish(world, [gateway, store]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_erased_while_records_are_on_the_way_or_a_digest_waits() -> Result<()> {
    let (world, gateway, store) = pipeline("refuse").await?;
    let device = world.device(1);
    send(&gateway, &device, AT, &[80]).await?;
    settled(&world).await?;
    erase(&world, &of(&device, &["--execute"]), 1, "nothing was erased: the last records came")
        .await?;
    ensure!(store.terminate().await?.success(), "the worker failed");
    send(&gateway, &device, "2025-09-02 17:00", &[81]).await?;
    erase(&world, &of(&device, &AT_ONCE), 1, "or wait for a group").await?;
    ensure!(world.database.count("t_user_health_data").await? == 1, "the row is gone");

    let notification = format!(
        "INSERT INTO t_alert_outbox (episode_key, transition_seq, transition, recipient, customer_id, \
         payload, state, next_attempt_at, created_at, notice, device_sn) VALUES ('{}', 0, 'opened', \
         'openid:x', 0, '', 'in_digest', 0, 0, '{{}}', '{device}')",
        "a".repeat(32)
    );
    world.database.execute(&notification).await?;
    add_digest(&world, "pending", "x").await?;
    let forced = [&AT_ONCE[..], &["--force"]].concat();
    erase(&world, &of(&device, &forced), 1, "wait in a digest").await?;
    ensure!(world.database.count("t_alert_outbox").await? == 2, "a notification is gone");
    let sent = "UPDATE t_alert_outbox SET state = 'sent'";
    world.database.execute(sent).await?;
    erase(&world, &of(&device, &forced), 0, "\nerased").await?;
    ensure!(world.database.count("t_user_health_data").await? == 0, "the row is there");

    // What was on the way is stored, and accounted for.
    let store = world.worker().start().await?;
    settled(&world).await?;
    ensure!(world.database.count("t_user_health_data").await? == 1, "the second reading");
    audits_hold(&world, &json!(2)).await?;
    finish(world, [gateway, store]).await
}

/// Sends a reading of a user, or of nobody.
async fn send_worn(gateway: &Service, device: &str, second: u32, user: Option<i64>) -> Result<()> {
    let mut data = json!({"deviceSn": device, "heart_rate": 80,
                          "timestamp": format!("2025-09-02 16:09:{second:02}")});
    if let Some(user) = user {
        data["userId"] = user.to_string().into();
    }
    let answer =
        http::post(&gateway.url("/upload_health_data"), json!({"data": data}).to_string()).await?;
    ensure!(answer.json["details"]["success"] == 1, "{}", answer.text);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_devices_a_user_leaves_nothing_and_the_other_wearer_everything() -> Result<()> {
    const LEAVES: i64 = 5_005_050_050;
    const STAYS: i64 = 6_006_060_060;
    let (world, gateway, store) = pipeline("leaves").await?;
    let (own, shared) = (world.device(1), world.device(2));
    for (device, second, user) in [
        (&own, 0, None),
        (&own, 1, Some(LEAVES)),
        (&shared, 0, Some(LEAVES)),
        (&shared, 1, None),
        (&shared, 2, Some(STAYS)),
    ] {
        send_worn(&gateway, device, second, user).await?;
    }
    settled(&world).await?;
    for (id, device, user) in [(1, &own, LEAVES), (2, &shared, LEAVES), (3, &shared, STAYS)] {
        for statement in [
            format!(
                "INSERT INTO t_alert_info (id, rule_id, alert_type, device_sn, user_id, occur_at) \
                 VALUES ({id}, 1, 'x', '{device}', {user}, NOW())"
            ),
            format!("INSERT INTO t_alert_action_log (alert_id, action) VALUES ({id}, 'notify')"),
            format!(
                "INSERT INTO t_device_message (device_sn, message, user_id) \
                 VALUES ('{device}', 'x', {user})"
            ),
            format!(
                "INSERT INTO t_alert_recipient_address (customer_id, user_id, kind, address) \
                 VALUES ({id}, {user}, 'openid', 'x')"
            ),
        ] {
            world.database.execute(&statement).await?;
        }
    }
    let (leaves, stays) = (LEAVES.to_string(), STAYS.to_string());
    let exported = export(&world, &["--user", &leaves]).await?;
    let text = Value::from(exported).to_string();
    ensure!(text.contains(&own) && text.contains(&shared) && !text.contains(&stays), "{text}");

    let of_user = ["--user", &leaves];
    erase(&world, &of_user, 1, &format!("{shared}: only what names the user")).await?;
    erase(&world, &[&of_user[..], &AT_ONCE].concat(), 0, "\nerased").await?;
    for text in [&own, &leaves] {
        let naming = naming(&world, text).await?;
        ensure!(naming.is_empty(), "{text}: {naming:?}");
    }
    for (table, rows) in [
        ("t_user_health_data", 2),
        ("t_alert_info", 1),
        ("t_alert_action_log", 1),
        ("t_device_message", 1),
        ("t_alert_recipient_address", 1),
    ] {
        ensure!(world.database.count(table).await? == rows, "{table}");
    }
    ensure!(world.cache.newest(&own).await?.is_empty(), "the hash is there");
    ensure!(world.cache.newest_time(&shared).await?.is_some(), "the other wearer's hash is gone");
    audits_hold(&world, &json!(5)).await?;
    erase(&world, &of_user, 1, "nothing is stored").await?;
    finish(world, [gateway, store]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_stopped_half_way_is_continued_by_the_same_command() -> Result<()> {
    let (world, gateway, store) = pipeline("halfway").await?;
    let device = world.device(1);
    send_documents(&gateway, &device, jiff::Timestamp::now().as_second() - 60).await?;
    send(&gateway, &device, AT, &[80, 81, 82]).await?;
    settled(&world).await?;
    let arguments = [&["erase", "--device", &device], &AT_ONCE[..]].concat();
    // A removal may read a whole table, which takes longer than the services wait for a statement.
    let slow = "CREATE TRIGGER slow BEFORE DELETE ON t_user_health_data_daily \
                FOR EACH ROW DO SLEEP(5)";
    world.database.execute(slow).await?;
    // The rows of the main table cannot be counted as erased while this is locked.
    let lock = world.database.lock("ingest_dropped_month").await?;
    let stopped = world.launch("worker", &arguments).env("MYSQL_STATEMENT_TIMEOUT", "2s");
    let stopped = stopped.finish().await?;
    ensure!(stopped.code == Some(3), "{:?}: {}", stopped.code, stopped.text);
    ensure!(world.database.count("t_user_health_data_daily").await? == 0, "documents are there");
    ensure!(world.database.count("t_user_health_data").await? == 4, "readings are gone");
    lock.release().await?;
    audits_hold(&world, &json!(4)).await?;
    erase(&world, &arguments[1..], 0, "\nerased").await?;
    ensure!(naming(&world, &device).await?.is_empty(), "{:?}", naming(&world, &device).await?);
    audits_hold(&world, &json!(4)).await?;
    finish(world, [gateway, store]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewind_stores_again_what_the_topic_still_has_of_an_erased_device() -> Result<()> {
    let world = World::shared("again").await?.with_partitions(1);
    world.migrate().await?;
    let (gateway, store) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    let device = world.device(1);
    // The first record of partition 0 has the id 0, like the rows of other writers.
    send(&gateway, &device, AT, &[80, 81]).await?;
    send(&gateway, &world.device(2), AT, &[70]).await?;
    settled(&world).await?;
    let erased = of(&device, &AT_ONCE);
    erase(&world, &erased, 0, "\nerased").await?;
    ensure!(store.terminate().await?.success(), "the worker failed");
    let rewound = worker(&world, &["offsets", "--to-start", "--execute"]).await?;
    ensure!(rewound.code == Some(0), "{}", rewound.text);
    let store = world.worker().start().await?;
    settled(&world).await?;
    ensure!(world.database.count("t_user_health_data").await? == 3, "not all is stored again");
    audits_hold(&world, &json!(5)).await?;
    erase(&world, &erased, 0, "\nerased").await?;
    audits_hold(&world, &json!(5)).await?;
    finish(world, [gateway, store]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_unknown_device_nothing_is_found_and_wrong_settings_are_refused() -> Result<()> {
    let (world, gateway, store) = pipeline("unknown").await?;
    let device = world.device(1);
    for subject in [["--device", &device], ["--user", "50050"]] {
        erase(&world, &[&subject[..], &["--execute"]].concat(), 1, "nothing is stored of").await?;
        let exported = worker(&world, &[&["export"], &subject[..]].concat()).await?;
        ensure!(exported.code == Some(1), "{:?}: {}", exported.code, exported.text);
        ensure!(!exported.text.contains("\"from\""), "{}", exported.text);
    }
    let both = ["--device", "x", "--user", "5"];
    for wrong in [&[][..], &both, &["--user", "0"], &["--device", "é"]] {
        erase(&world, wrong, 2, "--").await?;
    }
    finish(world, [gateway, store]).await
}
