//! Records the dead letters that a purge deletes, by their deliveries, and reads them for the audit.
//! Without them, the audit could not tell a purged letter from a lost reading.

use ljwx_ledger::mysql::MySqlPool;
use sqlx::{AssertSqlSafe, MySql, QueryBuilder};

/// Most rows of one statement: at most 350 kB, which the smallest packet limit in use takes.
pub const ROWS_MAX: usize = 1_000;

/// Most purged letters that an audit keeps in memory. Of more, it keeps those with the greatest
/// offsets, which the readings topic still has most likely.
const READ_MAX: usize = 1_000_000;

/// Records dead letters of `group` by partition and offset in the readings topic `topic`. A second
/// record of the same letter changes nothing.
pub async fn record(
    pool: &MySqlPool,
    group: &str,
    topic: &str,
    letters: &[(i32, i64)],
) -> Result<(), sqlx::Error> {
    for chunk in letters.chunks(ROWS_MAX) {
        let mut query: QueryBuilder<MySql> = QueryBuilder::new(
            "INSERT INTO ingest_purged_letter (consumer_group, topic, `partition`, `offset`) ",
        );
        query.push_values(chunk, |mut row, (partition, offset)| {
            row.push_bind(group).push_bind(topic).push_bind(*partition).push_bind(*offset);
        });
        // INSERT IGNORE would hide every error, and the letter would be deleted unrecorded.
        query.push(" ON DUPLICATE KEY UPDATE purged_at = purged_at");
        query.build().persistent(false).execute(pool).await?;
    }
    Ok(())
}

/// Returns the purged dead letters of `group`.
pub async fn read(
    pool: &MySqlPool,
    group: &str,
    topic: &str,
) -> Result<Vec<(i32, i64)>, sqlx::Error> {
    let query = format!(
        "SELECT `partition`, `offset` FROM ingest_purged_letter \
         WHERE consumer_group = ? AND topic = ? ORDER BY `offset` DESC LIMIT {READ_MAX}"
    );
    sqlx::query_as(AssertSqlSafe(query)).bind(group).bind(topic).fetch_all(pool).await
}
