//! `worker adopt plan`: what is there, what will be done, and what keeps it from being done. Reads only.

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::{Context, ensure};
use ljwx_ledger::mysql::MySqlConnection;
use ljwx_ledger::mysql::server_version;
use ljwx_ledger::mysql::sql::Dialect;
use ljwx_service::text::{Align, table_of};
use serde::Serialize;

use super::monthly_job::{self, MonthlyEvent};
use super::progress::PROGRESS;
use super::screen::time_text;
use super::source::{self, FoundColumn, FoundTable, Source, TableKind};
use crate::mysql::main_table::MAIN_TABLE;

/// Tables of the platform that stay where they are. `worker migrate` adds to them what this system needs.
pub const PLATFORM_TABLES: [&str; 5] = [
    "t_alert_rules",
    "t_alert_info",
    "t_alert_action_log",
    "t_wechat_alarm_config",
    "t_device_message",
];

/// Names of the columns of the printed table.
const COLUMNS: [&str; 5] = ["table", "kind", "rows", "MiB", "engine"];

const MIB: f64 = 1024.0 * 1024.0;

/// What is there and what will be done.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// Database of this system.
    pub database: String,
    /// Database of the old tables.
    pub from_database: String,
    /// Old tables in the order of the copies.
    pub sources: Vec<Source>,
    /// Tables of the platform in the old database that stay where they are.
    pub staying: Vec<String>,
    /// Events of MySQL that rename the main table, or may do so.
    pub events: Vec<MonthlyEvent>,
    /// Estimates of the server.
    pub rows: i64,
    pub bytes: i64,
    /// Time of the copies at the wanted rate.
    pub seconds: f64,
    /// What is good to know.
    pub notes: Vec<String>,
    /// What keeps the tables from being adopted, with the remedies.
    pub problems: Vec<String>,
}

impl Plan {
    /// Returns whether the old tables lie in the database of this system.
    pub fn is_own(&self) -> bool {
        self.database == self.from_database
    }

    /// Returns whether archives show a monthly job that is no event of MySQL.
    pub fn has_job_outside(&self) -> bool {
        let is_event = self.events.iter().any(|event| event.is_certain);
        !is_event && self.sources.iter().any(|one| one.kind == TableKind::Archive)
    }

    /// Returns the events that rename the main table and still run.
    pub fn events_to_switch_off(&self) -> impl Iterator<Item = &MonthlyEvent> {
        self.events.iter().filter(|event| event.is_certain && event.is_enabled)
    }

    /// Reads the plan. `from` names the old database; `None`: the database of this system.
    pub async fn read(
        connection: &mut MySqlConnection,
        from: Option<&str>,
        rows_per_second: u32,
    ) -> anyhow::Result<Self> {
        fresh_statistics(connection).await?;
        let database: String = sqlx::query_scalar("SELECT CAST(DATABASE() AS CHAR)")
            .fetch_one(&mut *connection)
            .await
            .context("MySQL does not answer")?;
        let from_database = from.unwrap_or(&database).to_owned();
        let own_tables = tables(connection, &database).await?;
        let found = tables(connection, &from_database).await?;
        let is_migrated = own_tables.contains_key(PROGRESS);
        ensure!(
            is_migrated || !found.contains_key(PROGRESS),
            "the tables of this system are in {from_database}, so the cut-over is done: let MYSQL_URL name \
             that database"
        );
        ensure!(
            is_migrated,
            "{database} has no tables of this system, or old ones: run `worker migrate` first"
        );
        ensure!(
            !found.is_empty(),
            "the account sees no table in {from_database}: check --from-database, and the rights of \
             ljwx_adopt in deploy/grants.sql"
        );
        let columns = columns(connection, &from_database).await?;
        let is_own = from_database == database;
        let sources = source::sources(&from_database, is_own, &found, &columns);
        let rows = sources.iter().map(|source| source.rows).sum();
        let mut plan = Self {
            problems: source::problems(&sources, &columns),
            events: monthly_job::events(connection, &from_database).await?,
            staying: staying(&found, is_own),
            rows,
            bytes: sources.iter().map(|source| source.bytes).sum(),
            seconds: rows as f64 / f64::from(rows_per_second),
            notes: Vec::new(),
            database,
            from_database,
            sources,
        };
        let triggers = triggers(connection, &plan.from_database).await?;
        plan.notes = plan.notes_with(&triggers);
        for view in views(connection, &plan.from_database).await? {
            plan.notes.push(format!(
                "view {view} reads tables that the cut-over replaces: let it read {MAIN_TABLE} alone then, \
                 which has the rows of the archives, and no column that is not copied"
            ));
        }
        Ok(plan)
    }

    /// Fails if the tables cannot be adopted.
    pub fn ensure_adoptable(&self) -> anyhow::Result<()> {
        ensure!(self.problems.is_empty(), "nothing was changed. {}", self.problems.join(". "));
        Ok(())
    }

    fn notes_with(&self, triggers: &[String]) -> Vec<String> {
        let mut notes = Vec::new();
        if self.has_job_outside() {
            notes.push(
                "there are archives of months and no event of MySQL that makes them: a job outside of MySQL \
                 does. Stop it before the cut-over; until then a copy notices that it has run, and goes on"
                    .to_owned(),
            );
        }
        for MonthlyEvent { name, .. } in self.events.iter().filter(|event| !event.is_certain) {
            notes.push(format!(
                "event {name} calls a routine whose text the account may not read. If the routine renames \
                 {MAIN_TABLE}, run ALTER EVENT {} DISABLE as an administrator",
                source::path(&self.from_database, name)
            ));
        }
        for Source { table, collations, left_out, engine, .. } in &self.sources {
            let folds_case = collations.iter().any(|name| name.ends_with("_ci"));
            if folds_case {
                notes.push(format!(
                    "{table} compares serial numbers without case ({}). Here two that differ in case are two \
                     devices; `compare` lists them",
                    collations.join(", ")
                ));
            }
            if !left_out.is_empty() {
                notes.push(format!("{table}: not copied: {}", left_out.join(", ")));
            }
            if engine != "InnoDB" {
                notes.push(format!(
                    "{table}: each read waits for its writers, its engine is {engine}"
                ));
            }
        }
        for trigger in triggers {
            notes.push(format!("trigger {trigger} does not fire for rows of this system"));
        }
        notes
    }

    /// Returns the steps of `run`, in words.
    fn steps(&self) -> Vec<String> {
        let on = self.events_to_switch_off();
        let mut steps: Vec<String> =
            on.map(|event| format!("switch off event {}", event.name)).collect();
        steps.extend(
            self.sources
                .iter()
                .map(|source| format!("copy {} (about {} rows)", source.table, source.rows)),
        );
        if !self.is_own() {
            steps.push(format!(
                "with --cut-over: rename the old tables to …_before, and move the tables of {} to {} in the \
                 same statement",
                self.database, self.from_database
            ));
        }
        steps
    }

    /// Prints the plan.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "from {} to {}\n", self.from_database, self.database)?;
        let mut rows = vec![COLUMNS.map(str::to_owned)];
        rows.extend(self.sources.iter().map(|source| {
            [
                source.table.clone(),
                format!("{:?}", source.kind).to_lowercase(),
                source.rows.to_string(),
                format!("{:.1}", source.bytes as f64 / MIB),
                source.engine.clone(),
            ]
        }));
        let sides = [Align::Left, Align::Left, Align::Right, Align::Right, Align::Left];
        table_of(sides, &rows, out)?;
        writeln!(
            out,
            "\nabout {} rows. The copies need about {:.1} MiB on the server's disk, and about as much for its \
             binary log. At the wanted rate they take {}.",
            self.rows,
            self.bytes as f64 / MIB,
            time_text(self.seconds)
        )?;
        for (number, step) in (1..).zip(self.steps()) {
            writeln!(out, "{number}. {step}")?;
        }
        if !self.staying.is_empty() {
            writeln!(
                out,
                "stay where they are, `worker migrate` adds what is missing in them: {}",
                self.staying.join(", ")
            )?;
        }
        for note in &self.notes {
            writeln!(out, "note: {note}")?;
        }
        for problem in &self.problems {
            writeln!(out, "PROBLEM: {problem}")?;
        }
        writeln!(
            out,
            "{}",
            if self.problems.is_empty() { "can be adopted" } else { "cannot be adopted" }
        )
    }
}

fn staying(found: &BTreeMap<String, FoundTable>, is_own: bool) -> Vec<String> {
    let there = PLATFORM_TABLES.into_iter().filter(|name| !is_own && found.contains_key(*name));
    there.map(str::to_owned).collect()
}

/// Lets MySQL look at the tables instead of at numbers that are up to a day old. MariaDB always does.
async fn fresh_statistics(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    if Dialect::of_version(&server_version::query(connection).await?) == Dialect::MySql {
        sqlx::raw_sql("SET SESSION information_schema_stats_expiry = 0")
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Returns the tables and views of a database by name.
pub async fn tables(
    connection: &mut MySqlConnection,
    database: &str,
) -> Result<BTreeMap<String, FoundTable>, sqlx::Error> {
    let tables: Vec<FoundTable> = sqlx::query_as(
        "SELECT CAST(TABLE_NAME AS CHAR) AS name, \
         CAST(IF(TABLE_TYPE = 'BASE TABLE', ENGINE, NULL) AS CHAR) AS engine, \
         CAST(COALESCE(TABLE_ROWS, 0) AS SIGNED) AS row_count, \
         CAST(COALESCE(DATA_LENGTH, 0) AS SIGNED) + CAST(COALESCE(INDEX_LENGTH, 0) AS SIGNED) \
         AS byte_count FROM information_schema.TABLES WHERE TABLE_SCHEMA = ?",
    )
    .bind(database)
    .fetch_all(connection)
    .await?;
    Ok(tables.into_iter().map(|table| (table.name.clone(), table)).collect())
}

/// Returns the columns of the tables of a database that may hold readings.
async fn columns(
    connection: &mut MySqlConnection,
    database: &str,
) -> Result<Vec<FoundColumn>, sqlx::Error> {
    let keys: Vec<(String, String)> = sqlx::query_as(
        "SELECT CAST(TABLE_NAME AS CHAR), CAST(LOWER(COLUMN_NAME) AS CHAR) \
         FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = ? AND INDEX_NAME = 'PRIMARY' \
         AND SEQ_IN_INDEX = 1",
    )
    .bind(database)
    .fetch_all(&mut *connection)
    .await?;
    let mut columns: Vec<FoundColumn> = sqlx::query_as(
        "SELECT CAST(TABLE_NAME AS CHAR) AS table_name, CAST(LOWER(COLUMN_NAME) AS CHAR) AS name, \
         CAST(COLLATION_NAME AS CHAR) AS `collation`, FALSE AS leads_key \
         FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? \
         AND TABLE_NAME LIKE '%health\\_data%' ORDER BY TABLE_NAME, ORDINAL_POSITION",
    )
    .bind(database)
    .fetch_all(connection)
    .await?;
    for column in &mut columns {
        column.leads_key =
            keys.iter().any(|(table, name)| *table == column.table_name && *name == column.name);
    }
    Ok(columns)
}

/// Returns the triggers on tables of readings, each with its table.
async fn triggers(
    connection: &mut MySqlConnection,
    database: &str,
) -> Result<Vec<String>, sqlx::Error> {
    let triggers: Vec<(String, String)> = sqlx::query_as(
        "SELECT CAST(TRIGGER_NAME AS CHAR), CAST(EVENT_OBJECT_TABLE AS CHAR) \
         FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = ? \
         AND EVENT_OBJECT_TABLE LIKE '%health\\_data%'",
    )
    .bind(database)
    .fetch_all(connection)
    .await?;
    Ok(triggers.into_iter().map(|(name, table)| format!("{name} on {table}")).collect())
}

/// Returns the views on tables of readings. An account without the SHOW VIEW privilege sees none.
async fn views(
    connection: &mut MySqlConnection,
    database: &str,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT CAST(TABLE_NAME AS CHAR) FROM information_schema.VIEWS WHERE TABLE_SCHEMA = ? \
         AND VIEW_DEFINITION LIKE '%t\\_user\\_health\\_data%' ORDER BY TABLE_NAME",
    )
    .bind(database)
    .fetch_all(connection)
    .await
}
