//! Maintains the months of the main table: splits them off `p_future` ahead of time, and drops them
//! after the retention.
//!
//! Leaves the drop of a month to `expired_months`.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use ljwx_ledger::mysql::MySqlPool;
use ljwx_ledger::mysql::errors::{self, LOCK_WAIT_TIMEOUT};
use ljwx_service::backoff::Backoff;
use ljwx_service::lifecycle::within;
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::expired_months;
use super::main_table::MAIN_TABLE as TABLE;

/// Months that exist before they begin.
const MONTHS_AHEAD: i32 = 2;

/// Past months that a table without months gets, for late readings from caches.
const MONTHS_BACK: i32 = 1;

/// Longest wait, in seconds, for the lock that keeps replicas from altering the table together.
const LOCK_SECONDS: i64 = 10;

/// Longest wait of a statement for the table, in seconds: writers wait behind the statement.
const TABLE_WAIT_SECONDS: u32 = 1;

/// First wait after a statement did not get the table.
const BUSY_FIRST: Duration = Duration::from_secs(1);

/// Longest wait before a retry: writers then stop for at most one second per minute.
const BUSY_MAX: Duration = Duration::from_secs(60);

/// How often months are added and dropped, and at most how often a failure is logged.
const MAINTAIN_INTERVAL: Duration = Duration::from_secs(3600);

/// The remedy if the account lacks a right: those of `ljwx_maintenance` in `deploy/grants.sql`.
const RIGHTS_REMEDY: &str = "\
    GRANT SELECT, INSERT, CREATE, ALTER, DROP, LOCK TABLES on the whole database, UPDATE on \
    ingest_progress and DELETE on ingest_dropped_month to the account of MAINTENANCE_MYSQL_URL or, if \
    this is unset, of MYSQL_URL; deploy/grants.sql has the statements";

/// The error of an exchange of tables whose rows are stored differently.
const STORED_DIFFERENTLY: u16 = 1731;

/// The remedy on MySQL, which moves no month out of a table that got columns without a rewrite.
const STORED_REMEDY: &str = "\
    ALTER TABLE t_user_health_data FORCE, which rewrites the table, if the error names INSTANT COLUMN";

/// Adds and drops months every hour, until `stop`. Today's date is that of `zone`.
pub async fn maintain_loop(
    pool: MySqlPool,
    zone: TimeZone,
    retention_days: Option<u32>,
    stop: CancellationToken,
) {
    let mut interval = tokio::time::interval(MAINTAIN_INTERVAL);
    while stop.run_until_cancelled(interval.tick()).await.is_some() {
        let today = zone.to_datetime(Timestamp::now()).date();
        // If the server hangs or the table stays busy, start again after this time.
        let maintained = within(MAINTAIN_INTERVAL, maintain(&pool, today, retention_days));
        let Some(kept) = stop.run_until_cancelled(maintained).await else { return };
        if let Some(Err(error)) = kept {
            let remedy = remedy(&error);
            warn!(
                %error,
                remedy,
                "cannot maintain monthly partitions, rows of missing months go to p_future"
            );
        }
    }
}

fn remedy(error: &sqlx::Error) -> Option<&'static str> {
    match errors::number(error) {
        Some(STORED_DIFFERENTLY) => Some(STORED_REMEDY),
        _ => errors::lacks_right(error).then_some(RIGHTS_REMEDY),
    }
}

/// Creates missing months around `today`, and drops months older than `retention_days`, by the server's
/// date, too.
///
/// If a transaction keeps the table open, it retries, with pauses that let writers through.
/// Dropping the future ends the retries.
pub async fn maintain(
    pool: &MySqlPool,
    today: Date,
    retention_days: Option<u32>,
) -> Result<(), sqlx::Error> {
    // Detach the connection from the pool: it may wait for hours, and its lock and settings end
    // with it.
    let mut connection = pool.unlimited().acquire().await?.detach();
    sqlx::query("SET SESSION lock_wait_timeout = ?")
        .bind(TABLE_WAIT_SECONDS)
        .execute(&mut connection)
        .await?;
    // Names of locks are the server's, and a server may have several databases of this system.
    let lock: Option<i64> = sqlx::query_scalar(
        "SELECT GET_LOCK(CONCAT('ljwx_months_', LEFT(SHA2(DATABASE(), 256), 40)), ?)",
    )
    .bind(LOCK_SECONDS)
    .fetch_one(&mut connection)
    .await?;
    if lock != Some(1) {
        // Another replica maintains the months.
        return connection.close().await;
    }
    let mut backoff = Backoff::new(BUSY_FIRST, BUSY_MAX);
    loop {
        match maintain_locked(pool, &mut connection, today, retention_days).await {
            Err(error) if is_busy(&error) => {
                if backoff.attempts() == 0 {
                    warn!(
                        "cannot maintain monthly partitions, a transaction keeps {TABLE} open, retrying"
                    );
                }
                tokio::time::sleep(backoff.next(rand::random())).await;
            }
            Err(error) => return Err(error),
            Ok(()) => break,
        }
    }
    if backoff.attempts() > 0 {
        info!(attempts = backoff.attempts(), "maintenance of monthly partitions recovered");
    }
    connection.close().await
}

/// Returns whether a statement did not get the table in time.
fn is_busy(error: &sqlx::Error) -> bool {
    errors::number(error) == Some(LOCK_WAIT_TIMEOUT)
}

async fn maintain_locked(
    pool: &MySqlPool,
    connection: &mut MySqlConnection,
    today: Date,
    retention_days: Option<u32>,
) -> Result<(), sqlx::Error> {
    // A process that ended meanwhile may have left some.
    expired_months::count_and_drop(connection).await?;
    let existing = names(connection).await?;
    if !existing.iter().any(|name| name == "p_future") {
        warn!("{TABLE} is not partitioned by month, skipping its maintenance");
        return Ok(());
    }
    let latest = existing.iter().filter_map(|name| month_of(name)).max();
    let missing = missing_months(latest, today.first_of_month());
    if !missing.is_empty() {
        connection.execute(AssertSqlSafe(add_months(&missing))).await?;
        for (month, _) in missing {
            info!(month = name_of(month), "monthly partition added");
        }
    }
    if let Some(days) = retention_days {
        // The clock of a host that is ahead drops nothing too soon.
        let today = today.min(server_date(connection).await?);
        drop_expired(pool, connection, &existing, today, days).await?;
    }
    Ok(())
}

/// Returns the date by the server's clock, in the zone of the devices.
async fn server_date(connection: &mut MySqlConnection) -> Result<Date, sqlx::Error> {
    let date: String =
        sqlx::query_scalar("SELECT CAST(CURRENT_DATE AS CHAR)").fetch_one(connection).await?;
    date.parse().map_err(|error: jiff::Error| sqlx::Error::Decode(error.into()))
}

/// Returns the months after `latest` that must exist in `this_month`, each with its end.
fn missing_months(latest: Option<Date>, this_month: Date) -> Vec<(Date, Date)> {
    let last = plus_months(this_month, MONTHS_AHEAD);
    let first = latest
        .map_or_else(|| plus_months(this_month, -MONTHS_BACK), |latest| plus_months(latest, 1));
    let months = std::iter::successors(first, |month| plus_months(*month, 1));
    let missing = months.take_while(|month| Some(*month) <= last);
    missing.filter_map(|month| Some((month, plus_months(month, 1)?))).collect()
}

/// Returns the statement that adds months. One statement for all copies the rows of `p_future` once.
fn add_months(months: &[(Date, Date)]) -> String {
    let mut statement = format!("ALTER TABLE {TABLE} REORGANIZE PARTITION p_future INTO (");
    for (month, end) in months {
        let name = name_of(*month);
        statement.push_str(&format!("PARTITION {name} VALUES LESS THAN ('{end} 00:00:00'), "));
    }
    statement.push_str("PARTITION p_future VALUES LESS THAN (MAXVALUE))");
    statement
}

async fn drop_expired(
    pool: &MySqlPool,
    connection: &mut MySqlConnection,
    existing: &[String],
    today: Date,
    days: u32,
) -> Result<(), sqlx::Error> {
    let Ok(oldest) = today.checked_sub(Span::new().days(i64::from(days))) else { return Ok(()) };
    for name in existing {
        let end = month_of(name).and_then(|month| plus_months(month, 1));
        let is_expired = end.is_some_and(|end| end <= oldest);
        if is_expired && expired_months::drop_month(pool, connection, name).await? {
            info!(month = name, "monthly partition dropped, it is past the retention");
        }
    }
    Ok(())
}

async fn names(connection: &mut MySqlConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT CAST(PARTITION_NAME AS CHAR) FROM information_schema.PARTITIONS \
         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? AND PARTITION_NAME IS NOT NULL",
    )
    .bind(TABLE)
    .fetch_all(connection)
    .await
}

/// Returns the name of a month: `p202511`.
fn name_of(month: Date) -> String {
    format!("p{:04}{:02}", month.year(), month.month())
}

fn month_of(name: &str) -> Option<Date> {
    let digits = name.strip_prefix('p').filter(|digits| digits.len() == 6)?;
    Date::new(digits[..4].parse().ok()?, digits[4..].parse().ok()?, 1).ok()
}

fn plus_months(month: Date, months: i32) -> Option<Date> {
    month.checked_add(Span::new().months(months)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_and_its_name_belong_together() {
        let month = Date::new(2025, 12, 1).unwrap();
        assert_eq!(name_of(month), "p202512");
        assert_eq!(month_of("p202512"), Some(month));
        assert_eq!(month_of("p_future"), None);
        assert_eq!(name_of(plus_months(month, 1).unwrap()), "p202601");
    }

    #[test]
    fn all_missing_months_come_with_one_statement() {
        let month = |year, month| Date::new(year, month, 1).unwrap();
        let names = |latest, now| {
            let missing = missing_months(latest, now);
            missing.into_iter().map(|(month, _)| name_of(month)).collect::<Vec<_>>()
        };
        let now = month(2025, 12);
        assert_eq!(names(None, now), ["p202511", "p202512", "p202601", "p202602"]);
        assert_eq!(names(Some(month(2025, 11)), now), ["p202512", "p202601", "p202602"]);
        assert!(names(Some(month(2026, 2)), now).is_empty());
        assert_eq!(
            add_months(&missing_months(Some(month(2025, 12)), now)),
            "ALTER TABLE t_user_health_data REORGANIZE PARTITION p_future INTO (\
             PARTITION p202601 VALUES LESS THAN ('2026-02-01 00:00:00'), \
             PARTITION p202602 VALUES LESS THAN ('2026-03-01 00:00:00'), \
             PARTITION p_future VALUES LESS THAN (MAXVALUE))"
        );
    }
}
