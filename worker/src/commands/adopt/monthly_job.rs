//! The monthly job of an earlier server: it renames the main table to the name of a month and creates an
//! empty one. In MySQL it is an event. A job outside of MySQL leaves only the archives to see.

use ljwx_ledger::mysql::MySqlConnection;
use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow};

use super::source::path;
use crate::mysql::main_table::MAIN_TABLE;

/// An event that renames the main table, or may do so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MonthlyEvent {
    pub name: String,
    /// Whether the event still runs.
    pub is_enabled: bool,
    /// Whether the rename was found. Else the event calls a routine whose text the account may not read.
    pub is_certain: bool,
}

/// A statement that the server keeps: an event, or a routine that an event may call.
#[derive(Debug, Clone, FromRow)]
struct KeptStatement {
    name: String,
    /// Empty if the account may not read it.
    text: String,
    is_enabled: bool,
}

/// Returns the events of a database that rename the main table, and those that still run and may do so. An
/// account without the EVENT privilege sees none.
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

/// Returns the events that rename the main table, by themselves or by a routine, or may do so.
fn monthly(events: Vec<KeptStatement>, routines: &[KeptStatement]) -> Vec<MonthlyEvent> {
    let renames = |text: &str| {
        let text = text.to_lowercase();
        text.contains("rename") && text.contains(MAIN_TABLE)
    };
    let event = |event: KeptStatement| {
        let text = event.text.to_lowercase();
        let calls = |routine: &&KeptStatement| text.contains(&routine.name.to_lowercase());
        let called: Vec<&KeptStatement> = routines.iter().filter(calls).collect();
        let is_certain =
            renames(&event.text) || called.iter().any(|routine| renames(&routine.text));
        let read = called.iter().filter(|routine| !routine.text.is_empty()).count();
        let words = text.split(|one: char| !one.is_alphanumeric() && one != '_');
        let may_rename = event.is_enabled && words.filter(|word| *word == "call").count() > read;
        let KeptStatement { name, is_enabled, .. } = event;
        (is_certain || may_rename).then_some(MonthlyEvent { name, is_enabled, is_certain })
    };
    events.into_iter().filter_map(event).collect()
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
        let routines =
            [kept("archive_month", rename), kept("purge", "DELETE FROM t_log"), kept("secret", "")];
        for (text, is_certain) in [
            (rename, Some(true)),
            ("BEGIN CALL Archive_Month(); END", Some(true)),
            ("CALL purge()", None),
            ("CALL secret()", Some(false)),
            ("begin call\nunseen(); end", Some(false)),
            ("BEGIN CALL purge();CALL secret(); END", Some(false)),
            ("DELETE FROM t_user_health_data WHERE is_deleted = 1", None),
            ("RENAME TABLE t_log TO t_log_old", None),
        ] {
            let found = monthly(vec![kept("monthly", text)], &routines);
            assert_eq!(found.first().map(|event| event.is_certain), is_certain, "{text}");
        }
    }
}
