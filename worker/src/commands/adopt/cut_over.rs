//! The cut-over: one statement puts the old tables aside and moves the tables of this system into their
//! place. A reader finds the old table or the new one, never none.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure};
use ljwx_ledger::mysql::MySqlConnection;
use ljwx_ledger::mysql::errors::{self, LOCK_WAIT_TIMEOUT};
use ljwx_service::backoff::Backoff;
use sqlx::AssertSqlSafe;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::args::AdoptRunArgs;
use super::old_table;
use super::plan::{self, PLATFORM_TABLES, Plan};
use super::progress::PROGRESS;
use super::source::{BEFORE, FoundTable, path};

/// The record of `worker migrate`.
const MIGRATIONS: &str = "_sqlx_migrations";

/// Starts of the names of this system's tables, beside [`PLATFORM_TABLES`].
const OWN: [&str; 6] =
    [MIGRATIONS, "adopt_", "ingest_", "redis_generation", "t_alert_", "t_user_health_data"];

/// Tables that are moved last: they tell how far the adoption is.
const LAST: [&str; 2] = [PROGRESS, MIGRATIONS];

/// The table whose rows show that an alerter has run on the database of this system.
const ALERTS: &str = "t_alert_info";

/// Start of the names that only a later version of the platform gives its tables. These keep them.
const RENAMED: &str = "t_health_data_slow_";

/// Longest wait of the statement for the tables, in seconds: readers wait behind the statement.
const TABLE_WAIT_SECONDS: u32 = 1;

/// First and longest wait after a statement that did not get the tables.
const BUSY_FIRST: Duration = Duration::from_secs(1);
const BUSY_MAX: Duration = Duration::from_secs(20);

/// The tables to rename, from and to, quoted; and those of this system that stay in its database.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Renames {
    pairs: Vec<(String, String)>,
    left_behind: Vec<String>,
}

impl Renames {
    /// Returns the renames of the cut-over, or what keeps it from being made.
    fn of(
        plan: &Plan,
        own: &BTreeMap<String, FoundTable>,
        old: &BTreeMap<String, FoundTable>,
    ) -> Result<Self, Vec<String>> {
        let (mut renames, mut problems) = (Self::default(), Vec::new());
        let aside = plan.sources.iter().map(|source| source.table.as_str());
        let aside: Vec<&str> = aside.filter(|name| !name.starts_with(RENAMED)).collect();
        for name in &aside {
            let put_aside = format!("{name}{BEFORE}");
            if old.contains_key(&put_aside) {
                problems.push(format!("{put_aside} exists already: drop it, or rename it"));
            }
            let to = path(&plan.from_database, &put_aside);
            renames.pairs.push((path(&plan.from_database, name), to));
        }
        let tables = own.values().filter(|table| table.engine.is_some());
        let mut names: Vec<&str> = tables.map(|table| table.name.as_str()).collect();
        names.sort_by_key(|name| LAST.iter().position(|last| last == name));
        for name in names {
            if !old.contains_key(name) || aside.contains(&name) {
                let to = path(&plan.from_database, name);
                renames.pairs.push((path(&plan.database, name), to));
            } else if PLATFORM_TABLES.contains(&name) {
                renames.left_behind.push(name.to_owned());
            } else if OWN.iter().any(|start| name.starts_with(start)) {
                problems.push(format!(
                    "{} has a table {name} too: this system was migrated there. Drop that table",
                    plan.from_database
                ));
            } else {
                problems.push(format!(
                    "{} has a table {name}, which the platform has too: replace this copy by a view of the \
                     platform's",
                    plan.database
                ));
            }
        }
        if problems.is_empty() { Ok(renames) } else { Err(problems) }
    }

    fn statement(&self) -> String {
        statement(self.pairs.iter().map(|(from, to)| (from.as_str(), to.as_str())))
    }

    /// Returns the statement that undoes the renames.
    fn way_back(&self) -> String {
        statement(self.pairs.iter().rev().map(|(from, to)| (to.as_str(), from.as_str())))
    }
}

fn statement<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let pairs: Vec<String> = pairs.map(|(from, to)| format!("{from} TO {to}")).collect();
    format!("RENAME TABLE {}", pairs.join(", "))
}

/// Fails if the cut-over cannot be made. Changes nothing.
pub async fn check(
    connection: &mut MySqlConnection,
    plan: &Plan,
    args: &AdoptRunArgs,
) -> anyhow::Result<Renames> {
    ensure!(
        !plan.is_own(),
        "the old tables lie in {} already, so there is nothing to cut over",
        plan.database
    );
    ensure!(
        args.monthly_job_stopped || !plan.has_job_outside(),
        "a job outside of MySQL renames the main table every month, and would rename the table of this \
         system. Stop the job for good, and add --monthly-job-stopped"
    );
    let own = plan::tables(connection, &plan.database).await?;
    let old = plan::tables(connection, &plan.from_database).await?;
    let renames = Renames::of(plan, &own, &old)
        .map_err(|problems| anyhow!("nothing was renamed. {}", problems.join(". ")))?;
    if renames.left_behind.iter().any(|name| name == ALERTS) {
        let query = format!("SELECT EXISTS (SELECT 1 FROM {})", path(&plan.database, ALERTS));
        let has_alerts: bool =
            sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(connection).await?;
        ensure!(
            !has_alerts,
            "an alerter has run on {}: its alerts cannot move among those of the platform. Empty the tables \
             of the alerter there (docs/migration.md, \"An alerter that has run\")",
            plan.database
        );
    }
    Ok(renames)
}

/// Renames the tables. Waits for their readers, each time briefly, for `limit` at most.
pub async fn cut_over(
    connection: &mut MySqlConnection,
    plan: &Plan,
    args: &AdoptRunArgs,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let renames = check(connection, plan, args).await?;
    // Printed first: a command that ends without an answer may have renamed the tables.
    writeln!(io::stdout(), "\nkeep this statement, it is the way back:\n{};", renames.way_back())?;
    rename(connection, &renames.statement(), args.lock_timeout, stop).await?;
    info!(database = plan.from_database, "tables moved, cut-over done");
    print(plan, &renames, &mut io::stdout())?;
    Ok(())
}

async fn rename(
    connection: &mut MySqlConnection,
    statement: &str,
    limit: Duration,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let shorten = format!("SET SESSION lock_wait_timeout = {TABLE_WAIT_SECONDS}");
    sqlx::raw_sql(AssertSqlSafe(shorten)).execute(&mut *connection).await?;
    let deadline = Instant::now() + limit;
    let mut backoff = Backoff::new(BUSY_FIRST, BUSY_MAX);
    loop {
        // Safe: all names are quoted.
        let renaming = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
        match renaming.execute(&mut *connection).await {
            Ok(_) => return Ok(()),
            Err(error) if errors::number(&error) == Some(LOCK_WAIT_TIMEOUT) => {
                let sessions = old_table::open_transactions(connection).await;
                if backoff.attempts() == 0 {
                    warn!(
                        sessions,
                        "cannot rename the tables, a session keeps them open, retrying"
                    );
                }
                if Instant::now() >= deadline || stop.is_cancelled() {
                    bail!(
                        "the tables were kept open until the end of --lock-timeout: {sessions}. Nothing \
                         was renamed; end these sessions, and run the same command again"
                    );
                }
                let pause = tokio::time::sleep(backoff.next(rand::random()));
                stop.run_until_cancelled(pause).await;
            }
            Err(error) if errors::number(&error).is_some() => {
                bail!("nothing was renamed: {}", errors::message(&error))
            }
            Err(error) => bail!(
                "{}: nobody knows whether the tables were renamed. `worker adopt plan` shows whether the \
                 cut-over is done",
                errors::message(&error)
            ),
        }
    }
}

fn print(plan: &Plan, renames: &Renames, out: &mut impl Write) -> io::Result<()> {
    let Plan { database, from_database, .. } = plan;
    writeln!(out, "\nthe tables of this system are in {from_database} now. Next:")?;
    writeln!(
        out,
        "1. let MYSQL_URL and MAINTENANCE_MYSQL_URL of all programs name {from_database}"
    )?;
    writeln!(out, "2. run deploy/grants.sql for {from_database}, then `worker migrate`")?;
    writeln!(out, "3. start the services, then run `worker adopt run`, `worker adopt compare`")?;
    if !renames.left_behind.is_empty() {
        let left = renames.left_behind.join(", ");
        writeln!(out, "left in {database}, in favour of the platform's own: {left}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::adopt::source::{Source, TableKind};

    fn found(names: &[&str]) -> BTreeMap<String, FoundTable> {
        let table = |name: &&str| {
            let engine = (!name.starts_with("sys_")).then(|| "InnoDB".to_owned());
            let table =
                FoundTable { name: (*name).to_owned(), engine, row_count: 0, byte_count: 0 };
            ((*name).to_owned(), table)
        };
        names.iter().map(table).collect()
    }

    fn source(kind: TableKind, name: &str) -> Source {
        Source {
            kind,
            name: name.to_owned(),
            table: name.to_owned(),
            rows: 0,
            bytes: 0,
            engine: "InnoDB".to_owned(),
            collations: Vec::new(),
            left_out: Vec::new(),
            path: path("old", name),
            columns: Vec::new(),
        }
    }

    fn plan() -> Plan {
        Plan {
            database: "new".to_owned(),
            from_database: "old".to_owned(),
            sources: vec![
                source(TableKind::Archive, "t_user_health_data_202506"),
                source(TableKind::Main, "t_user_health_data"),
                source(TableKind::Daily, "t_health_data_slow_daily"),
            ],
            staying: Vec::new(),
            events: Vec::new(),
            rows: 0,
            bytes: 0,
            seconds: 0.0,
            notes: Vec::new(),
            problems: Vec::new(),
        }
    }

    #[test]
    fn old_tables_go_aside_ours_take_their_place_and_the_platform_s_stay() {
        let own = found(&[
            "_sqlx_migrations",
            "adopt_progress",
            "ingest_progress",
            "sys_user",
            "t_alert_info",
            "t_alert_outbox",
            "t_user_health_data",
        ]);
        let old = found(&["t_alert_info", "t_user_health_data", "t_user_health_data_202506"]);
        let renames = Renames::of(&plan(), &own, &old).unwrap();
        assert_eq!(
            renames.statement(),
            "RENAME TABLE `old`.`t_user_health_data_202506` TO `old`.`t_user_health_data_202506_before`, \
             `old`.`t_user_health_data` TO `old`.`t_user_health_data_before`, \
             `new`.`ingest_progress` TO `old`.`ingest_progress`, \
             `new`.`t_alert_outbox` TO `old`.`t_alert_outbox`, \
             `new`.`t_user_health_data` TO `old`.`t_user_health_data`, \
             `new`.`adopt_progress` TO `old`.`adopt_progress`, \
             `new`.`_sqlx_migrations` TO `old`.`_sqlx_migrations`"
        );
        assert!(renames.way_back().ends_with(
            "`old`.`t_user_health_data_202506_before` TO `old`.`t_user_health_data_202506`"
        ));
        assert_eq!(renames.left_behind, ["t_alert_info"]);
    }

    #[test]
    fn every_table_of_the_migrations_is_known_as_one_of_this_system() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations");
        for file in std::fs::read_dir(folder).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            for created in text.split("CREATE TABLE IF NOT EXISTS ").skip(1) {
                let name = created.split_whitespace().next().unwrap();
                let known = OWN.iter().any(|start| name.starts_with(start));
                assert!(known || PLATFORM_TABLES.contains(&name), "{name}");
            }
        }
    }

    #[test]
    fn a_cut_over_that_would_meet_other_tables_is_refused() {
        let own = found(&["ingest_progress", "t_user_health_data"]);
        let put_aside = "t_user_health_data_before";
        let old = found(&["ingest_progress", "t_user_health_data", put_aside]);
        let problems = Renames::of(&plan(), &own, &old).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].contains("exists already") && problems[1].contains("was migrated"));

        let own = found(&["users"]);
        let old = found(&["_sqlx_migrations", "users", "t_user_health_data"]);
        let problems = Renames::of(&plan(), &own, &old).unwrap_err();
        assert!(problems.len() == 1 && problems[0].starts_with("new has a table users"));
    }
}
