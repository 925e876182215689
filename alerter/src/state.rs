//! The state of a partition's devices in MySQL: read as a whole when the partition is assigned,
//! written by the row as it changes.
//!
//! Runs statements; what they belong to, and what happens when they fail, is for [`crate::store`]
//! and [`crate::pipeline`].

use std::collections::HashMap;

use common::reading::{DeviceSn, Ids};
use futures_util::TryStreamExt;
use sqlx::{MySql, MySqlConnection, MySqlPool, QueryBuilder};
use tracing::error;

use crate::engine::{Device, Heard, StateChanges, Stored, Tracked};
use crate::hearing::Hearing;
use crate::sign::Seen;

/// Rows of one statement, at most: seven values each stay far below the server's limit of 65,535.
const ROWS_MAX: usize = 256;

/// Rows in portions of a power of two each, so that few texts of statements serve all sizes: each is
/// prepared once, while preparing one and throwing it away costs a delayed answer of the network.
fn portions<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = ROWS_MAX.min(1 << rows.len().checked_ilog2()?);
        let (portion, rest) = rows.split_at(size);
        rows = rest;
        Some(portion)
    })
}

/// Everything that is known of a partition.
pub async fn load(pool: &MySqlPool, partition: i32) -> Result<Stored, sqlx::Error> {
    let mut devices = devices(pool, partition).await?;
    tracked(pool, partition, &mut devices).await?;
    let hearing: Option<String> =
        sqlx::query_scalar("SELECT hearing FROM t_alert_partition WHERE kafka_partition = ?")
            .bind(partition)
            .fetch_optional(pool)
            .await?;
    let hearing = hearing.map_or_else(Hearing::default, |text| {
        serde_json::from_str(&text).unwrap_or_else(|error| {
            error!(partition, %error, "the partition's hearing is unreadable, counting absence anew");
            Hearing::default()
        })
    });
    Ok(Stored { devices, hearing })
}

async fn devices(
    pool: &MySqlPool,
    partition: i32,
) -> Result<HashMap<DeviceSn, Device>, sqlx::Error> {
    type Columns = (String, String, i64, Option<i64>, Option<i64>, Option<i64>);
    let mut devices: HashMap<DeviceSn, Device> = HashMap::new();
    let mut rows = sqlx::query_as::<_, Columns>(
        "SELECT device_sn, seen, heard_at, customer_id, org_id, user_id FROM t_alert_device \
         WHERE kafka_partition = ?",
    )
    .bind(partition)
    .fetch(pool);
    while let Some((sn, seen, at, customer_id, org_id, user_id)) = rows.try_next().await? {
        let Some(sn) = DeviceSn::new(&sn) else { continue };
        let heard = Heard { at, ids: Ids { customer_id, org_id, user_id } };
        let device = devices.entry(sn).or_default();
        (device.seen, device.heard) = (Seen::decode(&seen), heard);
    }
    Ok(devices)
}

async fn tracked(
    pool: &MySqlPool,
    partition: i32,
    devices: &mut HashMap<DeviceSn, Device>,
) -> Result<(), sqlx::Error> {
    let mut rows = sqlx::query_as::<_, (i64, String, i64, String)>(
        "SELECT rule_id, device_sn, rule_version, state FROM t_alert_state WHERE kafka_partition = ?",
    )
    .bind(partition)
    .fetch(pool);
    while let Some((rule_id, sn, version, state)) = rows.try_next().await? {
        let Some(sn) = DeviceSn::new(&sn) else { continue };
        match serde_json::from_str::<Tracked>(&state) {
            Ok(tracked) => {
                let tracked = Tracked { version, ..tracked };
                devices.entry(sn).or_default().tracked.insert(rule_id, tracked);
            }
            // Starting over may repeat an alert; refusing the row would stop the partition.
            Err(error) => {
                error!(rule.id = rule_id, device.id = %sn, %error, "alert state is unreadable, starting over")
            }
        }
    }
    Ok(())
}

/// Writes what changed, inside the caller's transaction. Rows come in the order of their keys, so
/// that two writers never wait for each other in a circle.
pub async fn save(
    connection: &mut MySqlConnection,
    partition: i32,
    changes: &StateChanges,
) -> Result<(), sqlx::Error> {
    for rows in portions(&changes.devices) {
        // REPLACE rather than an upsert: both servers know it alike, and every column is given.
        let mut query: QueryBuilder<MySql> = QueryBuilder::new(
            "REPLACE INTO t_alert_device (device_sn, kafka_partition, seen, \
             heard_at, customer_id, org_id, user_id) ",
        );
        query.push_values(rows, |mut row, (sn, seen, heard)| {
            row.push_bind(sn.as_str()).push_bind(partition).push_bind(seen.encode());
            let Ids { customer_id, org_id, user_id } = heard.ids;
            row.push_bind(heard.at).push_bind(customer_id).push_bind(org_id).push_bind(user_id);
        });
        query.build().execute(&mut *connection).await?;
    }
    let (kept, gone): (Vec<_>, Vec<_>) =
        changes.tracked.iter().partition(|(_, _, tracked)| tracked.is_some());
    for rows in portions(&kept) {
        let mut query: QueryBuilder<MySql> = QueryBuilder::new(
            "REPLACE INTO t_alert_state (rule_id, device_sn, kafka_partition, rule_version, state) ",
        );
        let rows = rows.iter().filter_map(|(id, sn, tracked)| Some((id, sn, tracked.as_ref()?)));
        query.push_values(rows, |mut row, (id, sn, tracked)| {
            // Plain structs and strings always serialise.
            let state = serde_json::to_string(tracked).unwrap_or_default();
            row.push_bind(id).push_bind(sn.as_str()).push_bind(partition);
            row.push_bind(tracked.version).push_bind(state);
        });
        query.build().execute(&mut *connection).await?;
    }
    for rows in portions(&gone) {
        let mut query: QueryBuilder<MySql> =
            QueryBuilder::new("DELETE FROM t_alert_state WHERE (rule_id, device_sn) IN ");
        query.push_tuples(rows, |mut row, (id, sn, _)| {
            row.push_bind(id).push_bind(sn.as_str());
        });
        query.build().execute(&mut *connection).await?;
    }
    if let Some(hearing) = &changes.hearing {
        // Plain structs of numbers always serialise.
        let text = serde_json::to_string(hearing).unwrap_or_default();
        sqlx::query("REPLACE INTO t_alert_partition (kafka_partition, hearing) VALUES (?, ?)")
            .bind(partition)
            .bind(text)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_are_all_rows_in_order_and_powers_of_two() {
        for count in [0, 1, 7, 256, 300, 1_000] {
            let rows: Vec<usize> = (0..count).collect();
            assert_eq!(portions(&rows).flatten().copied().collect::<Vec<_>>(), rows);
            assert!(
                portions(&rows).all(|one| one.len().is_power_of_two() && one.len() <= ROWS_MAX)
            );
        }
    }
}
