//! The worker takes ids that a reading does not carry from the platform's tables, and never loses a
//! reading for them.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::{Value, json};

use super::sharing::each_owns_a_part;
use crate::support::{SOON, finish, pipeline, settled};

/// The platform's tables, with the columns that matter. Their flags are of different types on the
/// platform, too.
const TABLES: [&str; 3] = [
    "CREATE TABLE sys_user (id BIGINT PRIMARY KEY, device_sn VARCHAR(50), \
     is_deleted BIT(1) DEFAULT b'0', update_time DATETIME, KEY (device_sn)) \
     DEFAULT CHARSET utf8mb4 COLLATE utf8mb4_general_ci",
    "CREATE TABLE sys_user_org (id BIGINT PRIMARY KEY AUTO_INCREMENT, user_id BIGINT, org_id BIGINT, \
     is_deleted TINYINT DEFAULT 0)",
    "CREATE TABLE sys_org_units (id BIGINT PRIMARY KEY, ancestors VARCHAR(500), \
     is_deleted VARCHAR(1) DEFAULT '0')",
];

/// Creates the platform's tables with two organisations, 11 and below it 22.
pub async fn platform(world: &World) -> Result<()> {
    for table in TABLES {
        world.database.execute(table).await?;
    }
    world.grant().await?;
    world
        .database
        .execute("INSERT INTO sys_org_units (id, ancestors) VALUES (11, '0'), (22, '0,11,15')")
        .await
}

/// Binds a device to a user of an organisation.
pub async fn bind(world: &World, user: i64, device: &str, org: i64, at: &str) -> Result<()> {
    let sql = format!(
        "INSERT INTO sys_user (id, device_sn, update_time) VALUES ({user}, '{device}', '{at}')"
    );
    world.database.execute(&sql).await?;
    let sql = format!("INSERT INTO sys_user_org (user_id, org_id) VALUES ({user}, {org})");
    world.database.execute(&sql).await
}

async fn send(gateway: &Service, device: &str, second: u32, fields: Value) -> Result<()> {
    let mut reading =
        json!({"deviceSn": device, "timestamp": format!("2025-09-02 16:09:{second:02}")});
    if let (Some(reading), Some(fields)) = (reading.as_object_mut(), fields.as_object()) {
        reading.extend(fields.clone());
    }
    let answer =
        http::post(&gateway.url("/upload_health_data"), json!({ "data": reading }).to_string())
            .await?;
    ensure!(answer.status == 200 && answer.json["details"]["success"] == 1, "{}", answer.text);
    Ok(())
}

/// Returns user, organisation and tenant of a device's rows, oldest first.
async fn ids(world: &World, device: &str) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT CONCAT_WS(' ', COALESCE(user_id, '-'), COALESCE(org_id, '-'), customer_id) \
         FROM t_user_health_data WHERE device_sn = '{device}' ORDER BY timestamp"
    );
    let rows = world.database.rows(&sql).await?;
    Ok(rows.into_iter().flatten().map(Option::unwrap_or_default).collect())
}

/// Waits until a device's hash has this value. Returns the hash.
async fn shown(
    world: &World,
    device: &str,
    field: &str,
    value: &str,
) -> Result<HashMap<String, String>> {
    eventually(SOON, &format!("{field} is {value} in Redis"), || async {
        let hash = world.cache.newest(device).await?;
        ensure!(hash.get(field).map(String::as_str) == Some(value), "{hash:?}");
        Ok(Some(hash))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_without_ids_gets_those_of_its_device_and_its_own_ids_win() -> Result<()> {
    let (world, gateway, worker) = pipeline("bound").await?;
    platform(&world).await?;
    let (device, twin, alone) = (world.device(1), world.device(1).to_lowercase(), world.device(3));
    bind(&world, 5, &device, 11, "2025-01-01 00:00:00").await?;
    bind(&world, 6, &device, 22, "2025-02-01 00:00:00").await?;
    bind(&world, 7, &device, 22, "2025-03-01 00:00:00").await?;
    world.database.execute("UPDATE sys_user SET is_deleted = b'1' WHERE id = 7").await?;
    bind(&world, 8, &alone, 11, "2025-01-01 00:00:00").await?;
    send(&gateway, &device, 0, json!({"heart_rate": 80})).await?;
    send(&gateway, &device, 1, json!({"heart_rate": 80, "orgId": "99"})).await?;
    send(&gateway, &device, 2, json!({"userId": 1, "orgId": 2, "customerId": 3})).await?;
    send(&gateway, &twin, 0, json!({"heart_rate": 80})).await?;
    send(
        &gateway,
        &alone,
        0,
        json!({"heart_rate": 80, "sleepData": {"code": 0, "data": [{"type": 1}]}}),
    )
    .await?;
    settled(&world).await?;
    ensure!(
        ids(&world, &device).await? == ["6 22 11", "6 99 11", "1 2 3"],
        "{:?}",
        ids(&world, &device).await?
    );
    ensure!(ids(&world, &twin).await? == ["- - 0"], "serials are compared bytewise");
    ensure!(ids(&world, &alone).await? == ["8 11 11"], "a top organisation is its own tenant");
    let daily =
        world.database.row("SELECT user_id, customer_id FROM t_user_health_data_daily").await?;
    ensure!(daily == [Some("8".into()), Some("11".into())], "{daily:?}");
    shown(&world, &alone, "customerId", "11").await?;
    // The device's own ids stay, whatever its binding: a binding only fills missing ids.
    send(&gateway, &device, 2, json!({"heart_rate": 81})).await?;
    send(&gateway, &device, 0, json!({"userId": 9})).await?;
    settled(&world).await?;
    let found = ids(&world, &device).await?;
    ensure!(found == ["9 22 11", "6 99 11", "1 2 3"], "{found:?}");
    let hash = shown(&world, &device, "heart_rate", "81").await?;
    ensure!(hash.get("userId").map(String::as_str) == Some("1"), "{hash:?}");
    finish(world, [gateway, worker]).await
}

/// Sends readings of a device until one gets the ids of its binding.
async fn noticed(world: &World, gateway: &Service, device: &str) -> Result<()> {
    let mut second = 0;
    while !ids(world, device).await?.contains(&"5 22 11".to_owned()) {
        second += 1;
        ensure!(second < 60, "the binding was never noticed");
        send(gateway, device, second, json!({"heart_rate": 80})).await?;
        eventually(SOON, "one more row", || async {
            Ok((ids(world, device).await?.len() > second as usize).then_some(()))
        })
        .await?;
        ljwx_tests::stack::wait::pass(std::time::Duration::from_secs(1)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_tables_and_unknown_devices_cost_no_reading() -> Result<()> {
    let (world, gateway, worker) = pipeline("unbound").await?;
    let device = world.device(1);
    send(&gateway, &device, 0, json!({"heart_rate": 80})).await?;
    settled(&world).await?;
    ensure!(ids(&world, &device).await? == ["- - 0"]);
    eventually(SOON, "the reading is counted", || async {
        let unbound = worker.metric("readings_unbound_total", "").await?;
        ensure!(unbound == 1.0, "{unbound} unbound");
        Ok(Some(()))
    })
    .await?;
    // The worker notices a new binding once the device has been cached as unknown for long enough.
    platform(&world).await?;
    bind(&world, 5, &device, 22, "2025-01-01 00:00:00").await?;
    noticed(&world, &gateway, &device).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_whose_table_was_renamed_costs_no_reading() -> Result<()> {
    let (world, gateway, worker) = pipeline("brokenview").await?;
    platform(&world).await?;
    for statement in [
        "RENAME TABLE sys_user TO users",
        "CREATE VIEW sys_user AS SELECT * FROM users",
        "RENAME TABLE users TO users_before",
    ] {
        world.database.execute(statement).await?;
    }
    send(&gateway, &world.device(1), 0, json!({"heart_rate": 80})).await?;
    settled(&world).await?;
    ensure!(ids(&world, &world.device(1)).await? == ["- - 0"]);
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_an_organisation_is_soon_looked_up_again() -> Result<()> {
    let (world, gateway, worker) = pipeline("incomplete").await?;
    platform(&world).await?;
    let device = world.device(1);
    let user = format!("INSERT INTO sys_user (id, device_sn) VALUES (5, '{device}')");
    world.database.execute(&user).await?;
    send(&gateway, &device, 0, json!({"heart_rate": 80})).await?;
    settled(&world).await?;
    ensure!(ids(&world, &device).await? == ["5 - 0"]);
    world.database.execute("INSERT INTO sys_user_org (user_id, org_id) VALUES (5, 22)").await?;
    noticed(&world, &gateway, &device).await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_takes_over_partitions_looks_bindings_up_again() -> Result<()> {
    let world = World::shared("rebound").await?.with_partitions(2);
    world.migrate().await?;
    let (gateway, first) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    platform(&world).await?;
    let device = world.device(1);
    bind(&world, 5, &device, 22, "2025-01-01 00:00:00").await?;
    send(&gateway, &device, 0, json!({"heart_rate": 80})).await?;
    settled(&world).await?;
    bind(&world, 6, &device, 11, "2025-02-01 00:00:00").await?;
    let second = world.worker().start().await?;
    each_owns_a_part([&first, &second]).await?;
    second.terminate().await?;
    eventually(SOON, "the first worker owns both partitions again", || async {
        Ok((first.metric("consumer_partitions_owned", "").await? == 2.0).then_some(()))
    })
    .await?;
    send(&gateway, &device, 1, json!({"heart_rate": 80})).await?;
    settled(&world).await?;
    let found = ids(&world, &device).await?;
    ensure!(found == ["5 22 11", "6 11 11"], "{found:?}");
    finish(world, [gateway, first]).await
}
