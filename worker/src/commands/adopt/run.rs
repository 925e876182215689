//! `worker adopt run`: switches off the monthly job, copies the old tables, and makes the cut-over if told
//! to. A run that was stopped or killed is continued by the next one.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use ljwx_ledger::mysql::MySqlConnection;
use ljwx_ledger::mysql::errors::{self, Remedy};
use sqlx::AssertSqlSafe;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::args::{AdoptArgs, AdoptRunArgs};
use super::copy::{Copier, CopyEnd, is_same_table};
use super::plan::Plan;
use super::progress::{self, LOCK};
use super::{cut_over, monthly_job};

/// Longest wait, in seconds, for the lock that keeps two runs apart: the server may need a moment to notice
/// that a run was killed.
const LOCK_SECONDS: i64 = 10;

/// How often a run begins anew because the monthly job has replaced a table.
const REPLACED_MAX: u32 = 5;

/// Pause before that. The job renames a table before it creates the next one.
const REPLACED_WAIT: Duration = Duration::from_secs(2);

/// What a run that has ended early says.
const AGAIN: &str =
    "run the same command again, without --again: it continues where it has stopped";

/// Adopts the old tables.
pub async fn run(
    config: &AdoptArgs,
    args: &AdoptRunArgs,
    stop: &CancellationToken,
) -> anyhow::Result<ExitCode> {
    let pool = config.mysql.connect(&config.zone.zone)?;
    let mut connection = pool.acquire().await.context("MySQL does not answer")?;
    let connection = &mut connection;
    lock(connection).await?;
    let from = config.from_database.as_deref();
    let mut plan = Plan::read(connection, from, config.rows_per_second).await?;
    plan.ensure_adoptable()?;
    if args.cut_over {
        cut_over::check(connection, &plan, args).await?;
    }
    switch_off_job(connection, &plan).await?;
    if args.again {
        let names: Vec<&str> = plan.sources.iter().map(|source| source.name.as_str()).collect();
        progress::forget(connection, &names).await?;
    }
    let zone = &config.zone.zone;
    let mut copier = Copier::new(connection, zone, config.rows_per_second, stop).await?;
    let mut replaced = 0;
    loop {
        match copy_all(connection, &mut copier, &plan).await? {
            CopyEnd::Complete => break,
            CopyEnd::Stopped => bail!("interrupted; {AGAIN}"),
            CopyEnd::Replaced if replaced < REPLACED_MAX => {
                replaced += 1;
                warn!("a table was replaced by the monthly job, copying it from the start");
                tokio::time::sleep(REPLACED_WAIT).await;
                plan = Plan::read(connection, from, config.rows_per_second).await?;
                plan.ensure_adoptable()?;
            }
            CopyEnd::Replaced => bail!("tables are replaced again and again: stop the monthly job"),
        }
    }
    progress::print(connection, false, &mut io::stdout()).await?;
    if args.cut_over {
        cut_over::cut_over(connection, &plan, args, stop).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes the lock of this session, which ends with it.
async fn lock(connection: &mut MySqlConnection) -> anyhow::Result<()> {
    let lock = AssertSqlSafe(format!("SELECT GET_LOCK({LOCK}, ?)"));
    let taken: Option<i64> =
        sqlx::query_scalar(lock).bind(LOCK_SECONDS).fetch_one(&mut *connection).await?;
    if taken == Some(1) {
        return Ok(());
    }
    let holder = AssertSqlSafe(format!("SELECT CAST(IS_USED_LOCK({LOCK}) AS SIGNED)"));
    let holder: Option<i64> = sqlx::query_scalar(holder).fetch_one(connection).await?;
    bail!(
        "another `worker adopt run` works on this database (session {}): wait for its end, or stop it",
        holder.map_or("unknown".to_owned(), |session| session.to_string())
    )
}

async fn switch_off_job(connection: &mut MySqlConnection, plan: &Plan) -> anyhow::Result<()> {
    for event in plan.events_to_switch_off() {
        let (database, name) = (&plan.from_database, &event.name);
        monthly_job::switch_off(connection, database, event).await.with_context(|| {
            // MySQL lets only accounts with SYSTEM_USER change an event of such an account.
            format!(
                "cannot switch off event {name}: give the account the EVENT right, or run \
                 ALTER EVENT `{database}`.`{name}` DISABLE as the event's definer"
            )
        })?;
        info!(event = event.name, "event switched off, it renamed the main table every month");
    }
    Ok(())
}

/// Copies the tables of the plan in their order. A table that was not copied before, or was replaced, is
/// copied from the start, and so are the tables of readings behind it: the later rows win.
async fn copy_all(
    connection: &mut MySqlConnection,
    copier: &mut Copier<'_>,
    plan: &Plan,
) -> anyhow::Result<CopyEnd> {
    for (index, source) in plan.sources.iter().enumerate() {
        let known = progress::read_all(connection).await?;
        let continues = match known.get(&source.name) {
            Some(progress) => is_same_table(connection, source, progress).await.map_err(stopped)?,
            None => false,
        };
        if !continues {
            let have_readings = source.kind.has_readings();
            let behind = plan.sources[index..]
                .iter()
                .filter(|one| one.name == source.name || have_readings && one.kind.has_readings());
            let names: Vec<&str> = behind.map(|one| one.name.as_str()).collect();
            progress::forget(connection, &names).await.map_err(stopped)?;
        }
        match copier.copy(connection, source).await.map_err(stopped)? {
            CopyEnd::Complete => {}
            end => return Ok(end),
        }
    }
    Ok(CopyEnd::Complete)
}

/// Says what to do after an error.
fn stopped(error: sqlx::Error) -> anyhow::Error {
    let message = errors::message(&error);
    let first = if errors::refuses_writes(&error) {
        "make room on the server, or let it take writes. Then "
    } else if errors::lacks_right(&error) {
        "give the account the rights of ljwx_adopt in deploy/grants.sql. Then "
    } else if errors::remedy(&error) == Remedy::Schema {
        "`worker adopt plan` and `worker migrate` name what is missing. Then "
    } else {
        ""
    };
    anyhow!("{message}: {first}{AGAIN}")
}
