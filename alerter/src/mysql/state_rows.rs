//! The state of a partition's devices in MySQL. It is read as a whole when the partition is
//! assigned, and written as it changes.
//!
//! Writes the changes of several partitions in as few statements as possible. Most of a batch's
//! cost is the fixed cost of its statements. [`crate::pipeline::commit`] owns the transaction, and
//! [`crate::pipeline`] handles failures.

use futures_util::TryStreamExt;
use ljwx_ledger::mysql::{MySqlConnection, MySqlPool};
use ljwx_reading::DeviceSn;
use sqlx::{MySql, QueryBuilder};
use tracing::error;

use crate::engine::journal::{self, JournalRow, JournalSize, ROW_LINES_MAX};
use crate::engine::no_data::partition_clock::PartitionClock;
use crate::engine::{Devices, RuleState, StateChanges, StoredPartition};
use crate::mysql::portions;

/// Rows of one statement, at most: five values each stay far below the server's limit of 65,535.
const ROWS_MAX: usize = 256;

/// Loads the state of a partition.
pub async fn load(pool: &MySqlPool, partition: i32) -> sqlx::Result<StoredPartition> {
    // A connection streams the rows; the pool does not.
    let mut connection = pool.acquire().await?;
    let (mut devices, journal) = load_journal(&mut connection, partition).await?;
    load_tracked(&mut connection, partition, &mut devices).await?;
    let clock_ms: Option<i64> =
        sqlx::query_scalar("SELECT clock_ms FROM t_alert_partition WHERE kafka_partition = ?")
            .bind(partition)
            .fetch_optional(&mut connection)
            .await?;
    let windows: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT CAST(window_seconds AS SIGNED), counted_from FROM t_alert_no_data_clock \
         WHERE kafka_partition = ?",
    )
    .bind(partition)
    .fetch_all(&mut connection)
    .await?;
    let windows = windows.into_iter().map(|(seconds, since)| (seconds * 1000, since));
    let clock = PartitionClock::stored(clock_ms.unwrap_or_default(), windows);
    Ok(StoredPartition { devices, journal, clock })
}

async fn load_journal(
    connection: &mut MySqlConnection,
    partition: i32,
) -> sqlx::Result<(Devices, JournalSize)> {
    let mut devices: Devices = Devices::default();
    let mut length = JournalSize::default();
    let mut rows = sqlx::query_as::<_, (i32, Vec<u8>)>(
        "SELECT devices, entry FROM t_alert_journal WHERE kafka_partition = ? ORDER BY id",
    )
    .bind(partition)
    .fetch(connection);
    while let Some((lines, text)) = rows.try_next().await? {
        for line in journal::read(&String::from_utf8_lossy(&text)) {
            match line {
                Ok((sn, read)) => devices.entry(sn).or_default().take_times(read),
                // Evaluating a late reading may repeat an alert. An error would stop the partition.
                Err(error) => {
                    error!(partition, %error, "device state is unreadable, starting over")
                }
            }
        }
        length.add(usize::try_from(lines).unwrap_or_default());
    }
    Ok((devices, length))
}

async fn load_tracked(
    connection: &mut MySqlConnection,
    partition: i32,
    devices: &mut Devices,
) -> sqlx::Result<()> {
    let mut rows = sqlx::query_as::<_, (i64, String, i64, String)>(
        "SELECT rule_id, device_sn, rule_version, state FROM t_alert_state WHERE kafka_partition = ?",
    )
    .bind(partition)
    .fetch(connection);
    while let Some((rule_id, sn, version, state)) = rows.try_next().await? {
        let Some(sn) = DeviceSn::new(&sn) else { continue };
        match serde_json::from_str::<RuleState>(&state) {
            Ok(tracked) => {
                let tracked = RuleState { version, ..tracked };
                devices.entry(sn).or_default().tracked.insert(rule_id, tracked);
            }
            // Starting over may repeat an alert. An error would stop the partition.
            Err(error) => {
                error!(rule.id = rule_id, device.id = %sn, %error, "alert state is unreadable, starting over")
            }
        }
    }
    Ok(())
}

/// Writes journals and clocks, inside the caller's transaction.
pub async fn save_partitions(
    connection: &mut MySqlConnection,
    changes: &[(i32, &StateChanges)],
) -> sqlx::Result<()> {
    let mut added: Vec<(i32, &JournalRow)> = Vec::new();
    for (partition, changes) in changes {
        if changes.journal.whole {
            sqlx::query("DELETE FROM t_alert_journal WHERE kafka_partition = ?")
                .bind(partition)
                .execute(&mut *connection)
                .await?;
        }
        added.extend(changes.journal.rows.iter().map(|row| (*partition, row)));
    }
    let mut added = &added[..];
    while !added.is_empty() {
        let (rows, rest) = added.split_at(as_one(added));
        added = rest;
        let mut query: QueryBuilder<MySql> =
            QueryBuilder::new("INSERT INTO t_alert_journal (kafka_partition, devices, entry) ");
        query.push_values(rows, |mut values, (partition, row)| {
            // A row has far fewer lines than the limit of either type.
            let devices = i32::try_from(row.lines).unwrap_or(i32::MAX);
            values.push_bind(partition).push_bind(devices).push_bind(row.text.as_bytes());
        });
        query.build().execute(&mut *connection).await?;
    }
    save_clocks(connection, changes).await
}

/// Returns how many of these rows one statement takes, at least one.
fn as_one(rows: &[(i32, &JournalRow)]) -> usize {
    let mut lines = 0;
    let fits = rows.iter().take_while(|(_, row)| {
        lines += row.lines;
        lines <= ROW_LINES_MAX
    });
    fits.count().max(1)
}

/// A state of a rule on a device as [`StateChanges`] has it, and its partition.
pub type PartitionState<'a> = (i32, &'a (i64, DeviceSn, Option<RuleState>));

/// Writes states of rules, inside the caller's transaction. The order of the rows keeps two writers
/// from a deadlock.
pub async fn save_tracked(
    connection: &mut MySqlConnection,
    states: &[PartitionState<'_>],
) -> sqlx::Result<()> {
    let mut states = states.to_vec();
    states.sort_unstable_by_key(|(_, row)| {
        let (id, sn, _) = *row;
        (*id, sn)
    });
    let is_kept = |(_, row): &PartitionState<'_>| row.2.is_some();
    let (kept, gone): (Vec<_>, Vec<_>) = states.into_iter().partition(is_kept);
    for rows in portions(&kept, ROWS_MAX) {
        // REPLACE rather than an upsert: both servers support it alike, and every column is given.
        let mut query: QueryBuilder<MySql> = QueryBuilder::new(
            "REPLACE INTO t_alert_state (rule_id, device_sn, kafka_partition, rule_version, state) ",
        );
        query.push_values(rows, |mut row, (partition, (id, sn, tracked))| {
            // Plain structs and strings always serialise.
            let state = serde_json::to_string(tracked).unwrap_or_default();
            row.push_bind(id).push_bind(sn.as_str()).push_bind(partition);
            row.push_bind(tracked.as_ref().map(|tracked| tracked.version)).push_bind(state);
        });
        query.build().execute(&mut *connection).await?;
    }
    for rows in portions(&gone, ROWS_MAX) {
        let mut query: QueryBuilder<MySql> =
            QueryBuilder::new("DELETE FROM t_alert_state WHERE (rule_id, device_sn) IN ");
        query.push_tuples(rows, |mut row, (_, (id, sn, _))| {
            row.push_bind(id).push_bind(sn.as_str());
        });
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

async fn save_clocks(
    connection: &mut MySqlConnection,
    changes: &[(i32, &StateChanges)],
) -> sqlx::Result<()> {
    let clocks = changes.iter().filter_map(|(partition, changes)| {
        Some((*partition, changes.clock.as_ref()?, changes.windows_moved))
    });
    let clocks: Vec<_> = clocks.collect();
    for rows in portions(&clocks, ROWS_MAX) {
        let mut query: QueryBuilder<MySql> =
            QueryBuilder::new("REPLACE INTO t_alert_partition (kafka_partition, clock_ms) ");
        query.push_values(rows, |mut row, (partition, clock, _)| {
            row.push_bind(partition).push_bind(clock.clock_ms());
        });
        query.build().execute(&mut *connection).await?;
    }
    // Rewrites the starts of all windows: there are few, and they seldom change.
    for (partition, clock, _) in clocks.iter().filter(|(_, _, moved)| *moved) {
        sqlx::query("DELETE FROM t_alert_no_data_clock WHERE kafka_partition = ?")
            .bind(partition)
            .execute(&mut *connection)
            .await?;
        let since: Vec<_> = clock.since().collect();
        for rows in portions(&since, ROWS_MAX) {
            let mut query: QueryBuilder<MySql> = QueryBuilder::new(
                "INSERT INTO t_alert_no_data_clock (kafka_partition, window_seconds, counted_from) ",
            );
            query.push_values(rows, |mut row, (window_ms, since)| {
                row.push_bind(partition).push_bind(window_ms / 1000).push_bind(since);
            });
            query.build().execute(&mut *connection).await?;
        }
    }
    Ok(())
}
