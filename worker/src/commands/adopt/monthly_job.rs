//! The monthly job of an earlier server: it renames the main table to the name of a month and creates an
//! empty one. In MySQL it is an event. A job outside of MySQL leaves only the archives to see.

use ljwx_ledger::mysql::MySqlConnection;
use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow};

use super::source::path;
use crate::mysql::main_table::MAIN_TABLE;

/// An event that renames the main table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MonthlyEvent {
    pub name: String,
    /// Whether the event still runs.
    pub is_enabled: bool,
}

/// A statement that the server keeps: an event, or a routine that an event may call.
#[derive(Debug, Clone, FromRow)]
struct KeptStatement {
    name: String,
    text: String,
    is_enabled: bool,
}

/// Returns the events of a database that rename the main table. An account without the EVENT privilege
/// sees none.
pub async fn events(
    connection: &mut MySqlConnection,
    database: &str,
) -> Result<Vec<MonthlyEvent>, sqlx::Error> {
    let events: Vec<KeptStatement> = sqlx::query_as(
        "SELECT CAST(EVENT_NAME AS CHAR) AS name, CAST(EVENT_DEFINITION AS CHAR) AS text, \
         STATUS = 'ENABLED' AS is_enabled FROM information_schema.EVENTS WHERE EVENT_SCHEMA = ?",
    )
    .bind(database)
    .fetch_all(&mut *connection)
    .await?;
    let routines: Vec<KeptStatement> = sqlx::query_as(
        "SELECT CAST(ROUTINE_NAME AS CHAR) AS name, \
         CAST(COALESCE(ROUTINE_DEFINITION, '') AS CHAR) AS text, TRUE AS is_enabled \
         FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = ?",
    )
    .bind(database)
    .fetch_all(connection)
    .await?;
    Ok(monthly(events, &routines))
}

/// Returns the events that rename the main table, by themselves or by a routine.
fn monthly(events: Vec<KeptStatement>, routines: &[KeptStatement]) -> Vec<MonthlyEvent> {
    let renames = |text: &str| {
        let text = text.to_lowercase();
        text.contains("rename") && text.contains(MAIN_TABLE)
    };
    let calls = |event: &KeptStatement| {
        routines.iter().any(|routine| event.text.contains(&routine.name) && renames(&routine.text))
    };
    let events = events.into_iter().filter(|event| renames(&event.text) || calls(event));
    let event =
        |event: KeptStatement| MonthlyEvent { name: event.name, is_enabled: event.is_enabled };
    events.map(event).collect()
}

/// Switches an event off. The account of this session becomes its definer.
pub async fn switch_off(
    connection: &mut MySqlConnection,
    database: &str,
    event: &MonthlyEvent,
) -> Result<(), sqlx::Error> {
    // Safe: the name is quoted.
    let statement = format!("ALTER EVENT {} DISABLE", path(database, &event.name));
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(name: &str, text: &str) -> KeptStatement {
        KeptStatement { name: name.to_owned(), text: text.to_owned(), is_enabled: true }
    }

    #[test]
    fn the_event_that_renames_the_main_table_is_found_by_its_own_text_or_its_routine_s() {
        let rename = "RENAME TABLE t_user_health_data TO t_user_health_data_202511";
        let routines = [kept("archive_month", rename), kept("purge", "DELETE FROM t_log")];
        for (text, is_found) in [
            (rename, true),
            ("BEGIN CALL archive_month(); END", true),
            ("CALL purge()", false),
            ("DELETE FROM t_user_health_data WHERE is_deleted = 1", false),
            ("RENAME TABLE t_log TO t_log_old", false),
        ] {
            let found = monthly(vec![kept("monthly", text)], &routines);
            assert_eq!(!found.is_empty(), is_found, "{text}");
        }
    }
}
