//! The state of a partition's devices in MySQL: read as a whole when the partition is assigned;
//! `save` writes what changed.
//!
//! Runs statements; what they belong to, and what happens when they fail, is for [`crate::pipeline::commit`]
//! and [`crate::pipeline`].

use futures_util::TryStreamExt;
use ljwx_ledger::mysql::{MySqlConnection, MySqlPool};
use ljwx_reading::DeviceSn;
use tracing::error;

pub use super::save_state::save;
use crate::engine::journal::{self, Length};
use crate::engine::no_data::partition_clock::Hearing;
use crate::engine::{Devices, Stored, Tracked};

/// Everything that is known of a partition.
pub async fn load(pool: &MySqlPool, partition: i32) -> Result<Stored, sqlx::Error> {
    // One connection, which unlike the pool hands out the rows as they come.
    let mut connection = pool.acquire().await?;
    let (mut devices, journal) = journal(&mut connection, partition).await?;
    tracked(&mut connection, partition, &mut devices).await?;
    let hearing = hearing(&mut connection, partition).await?;
    Ok(Stored { devices, journal, hearing })
}

async fn hearing(connection: &mut MySqlConnection, partition: i32) -> Result<Hearing, sqlx::Error> {
    let clock_ms: Option<i64> =
        sqlx::query_scalar("SELECT clock_ms FROM t_alert_partition WHERE kafka_partition = ?")
            .bind(partition)
            .fetch_optional(&mut *connection)
            .await?;
    let windows: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT CAST(window_seconds AS SIGNED), counted_from FROM t_alert_no_data_clock \
         WHERE kafka_partition = ?",
    )
    .bind(partition)
    .fetch_all(connection)
    .await?;
    let windows = windows.into_iter().map(|(seconds, since)| (seconds * 1000, since));
    Ok(Hearing::stored(clock_ms.unwrap_or_default(), windows))
}

async fn journal(
    connection: &mut MySqlConnection,
    partition: i32,
) -> Result<(Devices, Length), sqlx::Error> {
    let mut devices: Devices = Devices::default();
    let mut length = Length::default();
    let mut rows = sqlx::query_as::<_, (i32, Vec<u8>)>(
        "SELECT devices, entry FROM t_alert_journal WHERE kafka_partition = ? ORDER BY id",
    )
    .bind(partition)
    .fetch(connection);
    while let Some((lines, text)) = rows.try_next().await? {
        for line in journal::read(&String::from_utf8_lossy(&text)) {
            match line {
                Ok((sn, seen, heard)) => {
                    let device = devices.entry(sn).or_default();
                    (device.seen, device.heard) = (seen, heard);
                }
                // Judging a late reading may repeat an alert; refusing the row would stop the
                // partition.
                Err(error) => {
                    error!(partition, %error, "a device's state is unreadable, starting over")
                }
            }
        }
        length.add(usize::try_from(lines).unwrap_or_default());
    }
    Ok((devices, length))
}

async fn tracked(
    connection: &mut MySqlConnection,
    partition: i32,
    devices: &mut Devices,
) -> Result<(), sqlx::Error> {
    let mut rows = sqlx::query_as::<_, (i64, String, i64, String)>(
        "SELECT rule_id, device_sn, rule_version, state FROM t_alert_state WHERE kafka_partition = ?",
    )
    .bind(partition)
    .fetch(connection);
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
