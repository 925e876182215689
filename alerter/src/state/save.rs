//! Writing what changed in the state of several partitions, in as few statements as it takes: what a
//! statement costs beside its rows is most of what a batch costs.

use common::reading::DeviceSn;
use sqlx::{MySql, MySqlConnection, QueryBuilder};

use crate::engine::{StateChanges, Tracked};
use crate::journal::{ROW_LINES_MAX, Row};
use crate::portions::portions;

/// Rows of one statement, at most: five values each stay far below the server's limit of 65,535.
const ROWS_MAX: usize = 256;

/// Writes what changed, inside the caller's transaction.
pub async fn save(
    connection: &mut MySqlConnection,
    changes: &[(i32, &StateChanges)],
) -> Result<(), sqlx::Error> {
    journal(connection, changes).await?;
    tracked(connection, changes).await?;
    hearings(connection, changes).await
}

async fn journal(
    connection: &mut MySqlConnection,
    changes: &[(i32, &StateChanges)],
) -> Result<(), sqlx::Error> {
    let mut added: Vec<(i32, &Row)> = Vec::new();
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
            // Far below the limit of either.
            let devices = i32::try_from(row.lines).unwrap_or(i32::MAX);
            values.push_bind(partition).push_bind(devices).push_bind(row.text.as_bytes());
        });
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// How many of these rows one statement takes, at least one.
fn as_one(rows: &[(i32, &Row)]) -> usize {
    let mut lines = 0;
    let fits = rows.iter().take_while(|(_, row)| {
        lines += row.lines;
        lines <= ROW_LINES_MAX
    });
    fits.count().max(1)
}

/// Rows come in the order of their keys, so that two writers never wait for each other in a circle.
async fn tracked(
    connection: &mut MySqlConnection,
    changes: &[(i32, &StateChanges)],
) -> Result<(), sqlx::Error> {
    let mut kept: Vec<(i64, &DeviceSn, i32, &Tracked)> = Vec::new();
    let mut gone: Vec<(i64, &DeviceSn)> = Vec::new();
    for (partition, changes) in changes {
        for (id, sn, tracked) in &changes.tracked {
            match tracked {
                Some(tracked) => kept.push((*id, sn, *partition, tracked)),
                None => gone.push((*id, sn)),
            }
        }
    }
    kept.sort_unstable_by_key(|(id, sn, ..)| (*id, *sn));
    gone.sort_unstable();
    for rows in portions(&kept, ROWS_MAX) {
        // REPLACE rather than an upsert: both servers know it alike, and every column is given.
        let mut query: QueryBuilder<MySql> = QueryBuilder::new(
            "REPLACE INTO t_alert_state (rule_id, device_sn, kafka_partition, rule_version, state) ",
        );
        query.push_values(rows, |mut row, (id, sn, partition, tracked)| {
            // Plain structs and strings always serialise.
            let state = serde_json::to_string(tracked).unwrap_or_default();
            row.push_bind(id).push_bind(sn.as_str()).push_bind(partition);
            row.push_bind(tracked.version).push_bind(state);
        });
        query.build().execute(&mut *connection).await?;
    }
    for rows in portions(&gone, ROWS_MAX) {
        let mut query: QueryBuilder<MySql> =
            QueryBuilder::new("DELETE FROM t_alert_state WHERE (rule_id, device_sn) IN ");
        query.push_tuples(rows, |mut row, (id, sn)| {
            row.push_bind(id).push_bind(sn.as_str());
        });
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}

async fn hearings(
    connection: &mut MySqlConnection,
    changes: &[(i32, &StateChanges)],
) -> Result<(), sqlx::Error> {
    let heard = changes.iter().filter_map(|(partition, changes)| {
        // Plain structs of numbers always serialise.
        let text = serde_json::to_string(changes.hearing.as_ref()?).unwrap_or_default();
        Some((*partition, text))
    });
    let heard: Vec<_> = heard.collect();
    for rows in portions(&heard, ROWS_MAX) {
        let mut query: QueryBuilder<MySql> =
            QueryBuilder::new("REPLACE INTO t_alert_partition (kafka_partition, hearing) ");
        query.push_values(rows, |mut row, (partition, text)| {
            row.push_bind(partition).push_bind(text);
        });
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}
