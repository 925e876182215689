//! Removes rows past their retention, beside the work: in small statements with pauses, each with
//! a short wait for locks.
//!
//! The callers choose the rows.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::limited::MySqlPool;

/// Rows of one statement, at most. A caller's statement ends with this limit.
pub const ROWS_MAX: u64 = 1_000;

/// Time between two removals. Rows stay for less than an hour beyond their retention.
const INTERVAL: Duration = Duration::from_secs(30 * 60);

/// Time to the next removal after a failure.
const RETRY_WAIT: Duration = Duration::from_secs(5 * 60);

/// Pause between two statements, for the writers of the table.
const PAUSE: Duration = Duration::from_millis(50);

/// Longest wait of a statement for locks, in seconds.
const LOCK_WAIT_SECONDS: u32 = 1;

/// Calls `remove` at an interval until `stop`. `rows` names the rows in the log.
///
/// A removal under way at `stop` is abandoned: what it leaves, the next process removes.
pub async fn repeat<R>(rows: &'static str, stop: CancellationToken, remove: impl Fn() -> R)
where
    R: Future<Output = Result<u64, sqlx::Error>>,
{
    loop {
        let removed = tokio::select! {
            () = stop.cancelled() => return,
            removed = remove() => removed,
        };
        let wait = match removed {
            Ok(0) => INTERVAL,
            Ok(removed) => {
                info!(rows, removed, "old rows removed");
                INTERVAL
            }
            Err(error) => {
                warn!(rows, %error, "cannot remove old rows, retrying");
                RETRY_WAIT
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Repeats a statement that deletes at most [`ROWS_MAX`] rows until it finds fewer. Returns the
/// number of removed rows.
///
/// It ends: writers add no rows that are old already, or far fewer than one statement removes.
pub async fn remove_all(pool: &MySqlPool, delete: &str) -> Result<u64, sqlx::Error> {
    let mut all = 0;
    loop {
        let removed = remove(pool, delete).await?;
        all += removed;
        if removed < ROWS_MAX {
            return Ok(all);
        }
    }
}

/// Runs a statement that deletes at most [`ROWS_MAX`] rows, then pauses. Returns the number of
/// removed rows.
pub async fn remove(pool: &MySqlPool, delete: &str) -> Result<u64, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let shorten = format!(
        "SET @lock_wait = @@SESSION.lock_wait_timeout, \
         SESSION innodb_lock_wait_timeout = {LOCK_WAIT_SECONDS}, \
         SESSION lock_wait_timeout = {LOCK_WAIT_SECONDS}"
    );
    sqlx::query(AssertSqlSafe(shorten)).execute(&mut connection).await?;
    let delete = sqlx::query(AssertSqlSafe(delete.to_owned()));
    let removed = delete.execute(&mut connection).await;
    // Other users of the connection wait longer for locks, after a failure too.
    sqlx::query(
        "SET SESSION innodb_lock_wait_timeout = @lock_wait, SESSION lock_wait_timeout = @lock_wait",
    )
    .execute(&mut connection)
    .await?;
    let removed = removed?.rows_affected();
    drop(connection);
    tokio::time::sleep(PAUSE).await;
    Ok(removed)
}

/// Writes ids for the `IN (…)` of a statement.
pub fn id_list(ids: &[i64]) -> String {
    ids.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_removal_that_fails_is_repeated_within_the_hour_and_the_stop_waits_for_none() {
        let (stop, tries) = (CancellationToken::new(), AtomicU32::new(0));
        let remove = || async {
            match tries.fetch_add(1, Ordering::Relaxed) {
                0 => Err(sqlx::Error::PoolTimedOut),
                1 => Ok(5),
                _ => {
                    stop.cancel();
                    std::future::pending().await
                }
            }
        };
        let begun = tokio::time::Instant::now();
        repeat("test", stop.clone(), remove).await;
        assert_eq!(tries.load(Ordering::Relaxed), 3);
        let (took, expected) = (begun.elapsed(), RETRY_WAIT + INTERVAL);
        assert!(took >= expected && took < expected + Duration::from_secs(1), "{took:?}");
    }
}
