//! Removes daily and weekly rows past their retention, by the clock of this host and by the server's: one
//! that is ahead removes nothing too soon.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ljwx_ledger::mysql::MySqlPool;
use ljwx_ledger::mysql::removal::{self, ROWS_MAX};
use sqlx::AssertSqlSafe;
use tokio_util::sync::CancellationToken;

/// Days from the first to the last day of a week.
const WEEK_REST: u32 = 6;

/// Removes daily rows older than `days` at an interval, until `stop`.
pub async fn remove_old_days(pool: MySqlPool, zone: TimeZone, days: u32, stop: CancellationToken) {
    let remove = || remove(&pool, &zone, "t_user_health_data_daily", "date", days);
    removal::repeat("daily documents", stop, remove).await;
}

/// Removes weekly rows whose last day is older than `days` at an interval, until `stop`.
pub async fn remove_old_weeks(pool: MySqlPool, zone: TimeZone, days: u32, stop: CancellationToken) {
    let days = days.saturating_add(WEEK_REST);
    let remove = || remove(&pool, &zone, "t_user_health_data_weekly", "week_start", days);
    removal::repeat("weekly documents", stop, remove).await;
}

/// Removes one date after the other, by the index of dates: a statement then meets no row that a
/// batch holds.
async fn remove(
    pool: &MySqlPool,
    zone: &TimeZone,
    table: &str,
    column: &str,
    days: u32,
) -> Result<u64, sqlx::Error> {
    let today = zone.to_datetime(Timestamp::now()).date();
    let oldest = format!(
        "SELECT CAST(MIN({column}) AS CHAR) FROM {table} \
         WHERE {column} < CURRENT_DATE - INTERVAL {days} DAY \
         AND {column} < DATE '{today}' - INTERVAL {days} DAY"
    );
    let mut all = 0;
    loop {
        let date: Option<String> =
            sqlx::query_scalar(AssertSqlSafe(oldest.clone())).fetch_one(pool).await?;
        let Some(date) = date else { return Ok(all) };
        // Safe: the server wrote the date.
        let delete = format!("DELETE FROM {table} WHERE {column} = '{date}' LIMIT {ROWS_MAX}");
        all += removal::remove_all(pool, &delete).await?;
    }
}
