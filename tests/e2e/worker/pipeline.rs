//! The path of a reading through gateway, Kafka and worker into MySQL and Redis.

use anyhow::{Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::{Value, json};

use crate::support::{SOON, finish, pipeline, settled};

async fn send(gateway: &Service, reading: &Value) -> Result<()> {
    let body = json!({ "data": reading }).to_string();
    let answer = http::post(&gateway.url("/upload_health_data"), body).await?;
    ensure!(answer.status == 200 && answer.json["details"]["success"] == 1, "{}", answer.text);
    Ok(())
}

async fn columns(world: &World, columns: &str, device: &str) -> Result<Vec<String>> {
    let sql = format!("SELECT {columns} FROM t_user_health_data WHERE device_sn = '{device}'");
    Ok(world
        .database
        .row(&sql)
        .await?
        .into_iter()
        .map(|value| value.unwrap_or("NULL".into()))
        .collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_reaches_every_table_and_redis() -> Result<()> {
    let (world, gateway, worker) = pipeline("tables").await?;
    let device = world.device(1);
    let mut published = world.cache.subscribe(&device).await?;
    let document =
        |name: &str| json!({"code": 0, "data": [{"totalTime": 5}], "name": name}).to_string();
    send(
        &gateway,
        &json!({
            "deviceSn": device, "customerId": "1900000000000000001", "orgId": "1900000000000000002",
            "userId": "1900000000000000003", "heart_rate": 76, "blood_oxygen": 97,
            "body_temperature": "36.5", "blood_pressure_systolic": 121, "stress": 0, "step": 0,
            "latitude": "22.540368", "longitude": "114.015090", "upload_method": "4g",
            "sleepData": {"code": 0, "data": [{"startTimeStamp": 1756742400000_i64, "endTimeStamp": 1756767600000_i64, "type": 2}]},
            "exerciseDailyData": document("daily"), "exerciseWeekData": document("week"),
            "workoutData": document("workout"), "timestamp": "2025-09-02 16:09:00",
        }),
    )
    .await?;
    settled(&world).await?;
    let row = columns(
        &world,
        "timestamp, customer_id, org_id, user_id, heart_rate, blood_oxygen, temperature, pressure_high, \
         pressure_low, stress, step, latitude, longitude, sleep, upload_method, deliveries, user_name",
        &device,
    )
    .await?;
    let expected = [
        "2025-09-02 16:09:00",
        "1900000000000000001",
        "1900000000000000002",
        "1900000000000000003",
        "76",
        "97",
        "36.5",
        "121",
        "NULL",
        "NULL",
        "0",
        "22.540368",
        "114.015090",
        "7",
        "esim",
        "1",
        "",
    ];
    ensure!(row == expected, "{row:?}");
    documents_are_stored(&world, &device).await?;
    redis_shows_it(&world, &device).await?;
    eventually(SOON, "the device is published", || {
        let heard = published.take();
        let device = device.clone();
        async move { Ok((heard == [device]).then_some(())) }
    })
    .await?;
    published.end().await?;
    finish(world, [gateway, worker]).await
}

async fn documents_are_stored(world: &World, device: &str) -> Result<()> {
    let daily = world
        .database
        .row(&format!(
            "SELECT date, JSON_VALUE(exercise_daily_data, '$.name'), JSON_VALUE(workout_data, '$.name'), \
             JSON_VALUE(sleep_data, '$.data[0].type'), scientific_sleep_data \
             FROM t_user_health_data_daily WHERE device_sn = '{device}'"
        ))
        .await?;
    let daily: Vec<_> = daily.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect();
    ensure!(daily == ["2025-09-02", "daily", "workout", "2", "NULL"], "{daily:?}");
    let weekly = world
        .database
        .row(&format!(
            "SELECT week_start, JSON_VALUE(exercise_week_data, '$.name') \
             FROM t_user_health_data_weekly WHERE device_sn = '{device}'"
        ))
        .await?;
    // 2025-09-02 was a Tuesday.
    let weekly: Vec<_> = weekly.iter().map(|value| value.as_deref().unwrap_or("NULL")).collect();
    ensure!(weekly == ["2025-09-01", "week"], "{weekly:?}");
    Ok(())
}

async fn redis_shows_it(world: &World, device: &str) -> Result<()> {
    let hash = eventually(SOON, "the hash of the device", || async {
        let hash = world.cache.newest(device).await?;
        Ok((!hash.is_empty()).then_some(hash))
    })
    .await?;
    for (field, value) in [
        ("heartRate", "76"),
        ("heart_rate", "76"),
        ("bloodOxygen", "97"),
        ("blood_oxygen", "97"),
        ("pressureHigh", "121"),
        ("blood_pressure_systolic", "121"),
        ("pressureLow", ""),
        ("stress", ""),
        ("step", "0"),
        ("uploadMethod", "esim"),
        ("upload_method", "esim"),
        ("deviceSn", device),
        ("device_sn", device),
        ("customerId", "1900000000000000001"),
        ("user_id", "1900000000000000003"),
        ("timestamp", "2025-09-02 16:09:00"),
    ] {
        let found = hash.get(field).map(String::as_str);
        ensure!(found == Some(value), "{field} is {found:?} instead of {value} in {hash:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_sent_again_merges_and_changes_nothing() -> Result<()> {
    let (world, gateway, worker) = pipeline("again").await?;
    let device = world.device(1);
    let reading = json!({"deviceSn": device, "heart_rate": 84, "timestamp": "2025-09-02 16:09:00"});
    send(&gateway, &reading).await?;
    settled(&world).await?;
    let all =
        "timestamp, id, customer_id, heart_rate, blood_oxygen, step, upload_method, create_time";
    let before = columns(&world, all, &device).await?;
    send(&gateway, &reading).await?;
    settled(&world).await?;
    let after = columns(&world, all, &device).await?;
    ensure!(before == after, "{before:?} became {after:?}");
    let deliveries = columns(&world, "deliveries", &device).await?;
    ensure!(deliveries == ["2"], "{deliveries:?}");
    let ledger = world.database.ledger(&world.worker_group).await?;
    let counts: Vec<_> =
        ledger.iter().map(|row| (row.stored, row.merged)).filter(|row| *row != (0, 0)).collect();
    ensure!(counts == [(1, 1)], "{ledger:?}");
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fuller_reading_completes_the_stored_one_field_by_field() -> Result<()> {
    let (world, gateway, worker) = pipeline("fuller").await?;
    let device = world.device(1);
    let time = "2025-09-02 16:09:00";
    send(&gateway, &json!({"deviceSn": device, "heart_rate": 84, "body_temperature": "36.5", "timestamp": time})).await?;
    settled(&world).await?;
    send(
        &gateway,
        &json!({"deviceSn": device, "heart_rate": 86, "blood_oxygen": 97, "timestamp": time}),
    )
    .await?;
    settled(&world).await?;
    let row = columns(&world, "heart_rate, blood_oxygen, temperature", &device).await?;
    ensure!(row == ["86", "97", "36.5"], "{row:?}");
    eventually(SOON, "Redis has the merged fields too", || async {
        let hash = world.cache.newest(&device).await?;
        let field = |name: &str| hash.get(name).cloned().unwrap_or_default();
        let fields = [field("heart_rate"), field("blood_oxygen"), field("temperature")];
        Ok((fields == ["86", "97", "36.5"]).then_some(()))
    })
    .await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_reading_is_stored_but_never_replaces_the_newest() -> Result<()> {
    // Readings of one partition come into Redis in their order.
    let world = World::shared("older").await?.with_partitions(1);
    world.migrate().await?;
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    let device = world.device(1);
    let reading =
        |rate: i32, time: &str| json!({"deviceSn": device, "heart_rate": rate, "timestamp": time});
    let newest = "2025-09-02 16:09:00";
    send(&gateway, &reading(84, newest)).await?;
    eventually(SOON, "the newer one in Redis", || async {
        Ok((world.cache.newest_time(&device).await?.as_deref() == Some(newest)).then_some(()))
    })
    .await?;
    let mut published = world.cache.subscribe(&device).await?;
    send(&gateway, &reading(60, "2025-09-02 15:00:00")).await?;
    settled(&world).await?;
    // A later reading of another device in Redis proves that the worker has written the older
    // reading to Redis.
    let other = world.device(2);
    send(&gateway, &json!({"deviceSn": other, "heart_rate": 70, "timestamp": newest})).await?;
    eventually(SOON, "the other device in Redis", || async {
        Ok(world.cache.newest_time(&other).await?.map(drop))
    })
    .await?;
    let hash = world.cache.newest(&device).await?;
    ensure!(hash.get("heart_rate").map(String::as_str) == Some("84"), "{hash:?}");
    let heard = published.take();
    ensure!(heard.is_empty(), "published {heard:?}");
    ensure!(world.database.count("t_user_health_data").await? == 3, "rows");
    published.end().await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_document_moves_its_guard_and_comes_back_where_its_row_is_gone() -> Result<()>
{
    let (world, gateway, worker) = pipeline("unchanged").await?;
    let device = world.device(1);
    let row = async |second: u32| -> Result<Vec<String>> {
        let sleep = json!({"code": 0, "data": [{"type": 2}]}).to_string();
        let timestamp = format!("2025-09-02 16:09:{second:02}");
        let reading = json!({"deviceSn": device, "timestamp": timestamp, "sleepData": sleep});
        send(&gateway, &reading).await?;
        settled(&world).await?;
        let sql = "SELECT sleep_data_at, sleep_data FROM t_user_health_data_daily";
        Ok(world.database.row(sql).await?.into_iter().map(Option::unwrap_or_default).collect())
    };
    let first = row(1).await?;
    ensure!(first[0].ends_with("16:09:01") && first[1].contains("type"), "{first:?}");
    let second = row(2).await?;
    ensure!(second[0].ends_with("16:09:02") && second[1] == first[1], "{second:?}");
    world.database.execute("DELETE FROM t_user_health_data_daily").await?;
    let third = row(3).await?;
    ensure!(third[0].ends_with("16:09:03") && third[1] == first[1], "{third:?}");
    // Another program's document is not taken for the worker's last document.
    let other = "UPDATE t_user_health_data_daily SET sleep_data = '[9]', sleep_data_source = 777";
    world.database.execute(other).await?;
    let fourth = row(4).await?;
    ensure!(fourth[0].ends_with("16:09:04") && fourth[1] == first[1], "{fourth:?}");
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn guards_of_a_row_move_together_or_not_at_all() -> Result<()> {
    let (world, gateway, worker) = pipeline("together").await?;
    let device = world.device(1);
    let row = async |second: u32| -> Result<Vec<String>> {
        let document = |kind: u32| json!({"code": 0, "data": [{"type": kind}]}).to_string();
        let timestamp = format!("2025-09-02 16:09:{second:02}");
        let reading = json!({"deviceSn": device, "timestamp": timestamp,
                             "sleepData": document(1), "workoutData": document(2)});
        send(&gateway, &reading).await?;
        settled(&world).await?;
        let sql = "SELECT sleep_data_at, sleep_data, workout_data_at, workout_data \
                   FROM t_user_health_data_daily";
        Ok(world.database.row(sql).await?.into_iter().map(Option::unwrap_or_default).collect())
    };
    let first = row(1).await?;
    // Another program's workout, newer than the next reading and older than the reading after that.
    let other = "UPDATE t_user_health_data_daily SET workout_data = '[9]', workout_data_source = 777, \
                 workout_data_at = '2025-09-02 16:09:03'";
    world.database.execute(other).await?;
    let second = row(2).await?;
    ensure!(second[0].ends_with("16:09:02") && second[1] == first[1], "{second:?}");
    ensure!(second[2].ends_with("16:09:03") && second[3] == "[9]", "{second:?}");
    let third = row(4).await?;
    ensure!(third[0].ends_with("16:09:04") && third[1] == first[1], "{third:?}");
    ensure!(third[2].ends_with("16:09:04") && third[3] == first[3], "{third:?}");
    finish(world, [gateway, worker]).await
}
