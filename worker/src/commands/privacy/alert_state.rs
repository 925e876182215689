//! Erases what the alerters remember of a device: the states of rules, and the lines of the journal.
//!
//! An alerter keeps the state of its partitions in memory and would write it again. So the partition's
//! owner is fenced in the transaction that changes the state: it claims the partition again, and loads
//! what is left.

use std::collections::BTreeSet;

use ljwx_ledger::ledger::{GroupKind, fence};
use ljwx_ledger::mysql::{MySqlConnection, MySqlPool};
use serde_json::Value;
use sqlx::AssertSqlSafe;

use super::journal;
use super::parts::STATES;
use super::subject::Scope;

/// Matches rows of the journal with a line of the device. A line begins with the device.
const WITH_DEVICE: &str = "LOCATE(?, CONCAT(CHAR(10), entry)) > 0";

/// Returns the lines of the journal that are meant, each with its partition.
pub async fn lines(pool: &MySqlPool, scope: &Scope) -> Result<Vec<(i32, String)>, sqlx::Error> {
    let query = format!(
        "SELECT kafka_partition, entry FROM t_alert_journal WHERE {WITH_DEVICE} ORDER BY id"
    );
    let rows: Vec<(i32, Vec<u8>)> =
        sqlx::query_as(AssertSqlSafe(query)).bind(beginning(scope)).fetch_all(pool).await?;
    let mut found = Vec::new();
    for (partition, entry) in rows {
        let lines = journal::lines(&String::from_utf8_lossy(&entry), scope);
        found.extend(lines.into_iter().map(|line| (partition, line)));
    }
    Ok(found)
}

/// Erases states and lines, partition by partition. `topic` is the readings topic.
pub async fn erase(pool: &MySqlPool, topic: &str, scope: &Scope) -> Result<(), sqlx::Error> {
    let query = format!("SELECT kafka_partition FROM {STATES} WHERE {}", scope.states());
    let states: Vec<i32> = sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(pool).await?;
    let lines = lines(pool, scope).await?;
    let partitions: BTreeSet<i32> =
        lines.into_iter().map(|(partition, _)| partition).chain(states).collect();
    for partition in partitions {
        let mut transaction = pool.begin().await?;
        // First, as in a batch of the alerter: what it has not committed by now is fenced.
        fence(&mut transaction, GroupKind::Alerter, topic, partition).await?;
        erase_states(&mut transaction, partition, scope).await?;
        erase_lines(&mut transaction, partition, scope).await?;
        transaction.commit().await?;
    }
    Ok(())
}

async fn erase_states(
    connection: &mut MySqlConnection,
    partition: i32,
    scope: &Scope,
) -> Result<(), sqlx::Error> {
    let query = format!(
        "SELECT rule_id, state FROM {STATES} WHERE kafka_partition = ? AND {} FOR UPDATE",
        scope.states()
    );
    let rows: Vec<(i64, String)> =
        sqlx::query_as(AssertSqlSafe(query)).bind(partition).fetch_all(&mut *connection).await?;
    for (rule_id, state) in rows {
        let key = "rule_id = ? AND device_sn = ?";
        let query = match scope.user_id.and_then(|user_id| unworn_by(&state, user_id)) {
            Some(state) => {
                let update = format!("UPDATE {STATES} SET state = ? WHERE {key}");
                sqlx::query(AssertSqlSafe(update)).bind(state)
            }
            None => sqlx::query(AssertSqlSafe(format!("DELETE FROM {STATES} WHERE {key}"))),
        };
        query.bind(rule_id).bind(scope.device_sn.as_str()).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Returns a state that does not name the user as the last wearer any more. `None`: the whole state is
/// about the user.
fn unworn_by(state: &str, user_id: i64) -> Option<String> {
    let mut state: Value = serde_json::from_str(state).ok()?;
    if state["ids"]["user_id"] == user_id {
        return None;
    }
    if state["worn_by"] == user_id {
        state.as_object_mut()?.remove("worn_by");
    }
    Some(state.to_string())
}

async fn erase_lines(
    connection: &mut MySqlConnection,
    partition: i32,
    scope: &Scope,
) -> Result<(), sqlx::Error> {
    let query = format!(
        "SELECT id, entry FROM t_alert_journal WHERE kafka_partition = ? AND {WITH_DEVICE} \
         ORDER BY id FOR UPDATE"
    );
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(AssertSqlSafe(query))
        .bind(partition)
        .bind(beginning(scope))
        .fetch_all(&mut *connection)
        .await?;
    let Some((_, last)) = rows.last() else { return Ok(()) };
    let scope = &journal::erased_with(&String::from_utf8_lossy(last), scope);
    for (id, entry) in rows {
        let without = journal::without(&String::from_utf8_lossy(&entry), scope);
        let Some((entry, lines)) = without else { continue };
        let query = if lines == 0 {
            sqlx::query("DELETE FROM t_alert_journal WHERE id = ?")
        } else {
            // A row has far fewer lines than the limit of the type.
            sqlx::query("UPDATE t_alert_journal SET devices = ?, entry = ? WHERE id = ?")
                .bind(i32::try_from(lines).unwrap_or(i32::MAX))
                .bind(entry.into_bytes())
        };
        query.bind(id).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Returns the beginning of the device's lines, behind the line before.
fn beginning(scope: &Scope) -> Vec<u8> {
    format!("\n{} ", scope.device_sn).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_about_its_user_and_only_forgets_a_former_wearer() {
        let other = r#"{"ids":{"user_id":6},"worn_by":6}"#;
        let former = r#"{"episode":{"a":[1]},"ids":{},"worn_by":5}"#;
        for (state, expected) in [
            (r#"{"ids":{"user_id":5},"worn_by":5,"episode":{}}"#, None),
            (other, Some(other)),
            (former, Some(r#"{"episode":{"a":[1]},"ids":{}}"#)),
            ("nonsense", None),
        ] {
            assert_eq!(unworn_by(state, 5).as_deref(), expected, "{state}");
        }
    }
}
