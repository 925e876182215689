//! Reads an old table in pages, by its primary key, and names the sessions that may keep it locked.

use ljwx_ledger::mysql::MySqlConnection;
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::old_row::OldRow;
use super::source::{Source, TableKind};

/// Rows of one page, which is also a chunk of the copy: its transaction delays a batch of a worker by some
/// tens of milliseconds.
pub const PAGE_ROWS: usize = 1_000;

/// Rows of one page of a table of documents: each has up to four, and a page is held in memory.
const PAGE_DOCUMENT_ROWS: usize = 100;

/// Rows before the end of the last copy that are read again. A writer may have committed one of them after
/// a row with a greater id.
const OVERLAP_ROWS: usize = 10_000;

/// Most rows that are counted.
const COUNTED_MAX: usize = 100_000;

/// Most sessions that a message names.
const SESSIONS_MAX: usize = 5;

/// The id after which a table begins.
pub const BEFORE_FIRST: i64 = -i64::MAX;

/// Returns the greatest id of the page that begins after the id `after`; `None` behind the last row.
/// `condition` leaves rows out.
pub async fn page_end(
    connection: &mut MySqlConnection,
    source: &Source,
    after: i64,
    condition: Option<&str>,
) -> Result<Option<i64>, sqlx::Error> {
    let limit = if source.kind.has_readings() { PAGE_ROWS } else { PAGE_DOCUMENT_ROWS };
    // Rows that are left out take no memory.
    let looked_at = if condition.is_some() { PAGE_ROWS } else { limit };
    let query = format!(
        "SELECT CAST(MAX(id) AS SIGNED) FROM (SELECT id FROM {} WHERE id > ? ORDER BY id \
         LIMIT {looked_at}) AS page",
        source.path
    );
    let end: Option<i64> =
        sqlx::query_scalar(AssertSqlSafe(query)).bind(after).fetch_one(&mut *connection).await?;
    let (Some(end), Some(condition)) = (end, condition) else { return Ok(end) };
    let query = format!(
        "SELECT CAST(IF(COUNT(*) < {limit}, ?, MAX(id)) AS SIGNED) FROM (SELECT id FROM {} \
         WHERE id > ? AND id <= ? AND ({condition}) ORDER BY id LIMIT {limit}) AS page",
        source.path
    );
    let last = sqlx::query_scalar(AssertSqlSafe(query)).bind(end).bind(after).bind(end);
    last.fetch_one(connection).await
}

/// Returns the rows after the id `after`, up to the id `to`, in the order of their ids. `condition` leaves
/// rows out.
pub async fn rows(
    connection: &mut MySqlConnection,
    source: &Source,
    (after, to): (i64, i64),
    condition: Option<&str>,
) -> Result<Vec<OldRow>, sqlx::Error> {
    let columns = source.kind.columns();
    let selected: Vec<String> = columns
        .iter()
        .map(|column| if source.has(column) { format!("`{column}`") } else { "NULL".to_owned() })
        .collect();
    let condition = condition.map(|condition| format!(" AND ({condition})")).unwrap_or_default();
    let query = format!(
        "SELECT CAST(id AS SIGNED), {} FROM {} WHERE id > {after} AND id <= {to}{condition} ORDER BY id",
        selected.join(", "),
        source.path
    );
    // Safe: names of columns are the code's own, and the path is quoted. Unprepared, the server sends
    // every type as text, in the character set of the session.
    let rows = sqlx::raw_sql(AssertSqlSafe(query)).fetch_all(connection).await?;
    rows.iter().map(|row| decode(row, &columns)).collect()
}

fn decode(row: &MySqlRow, columns: &[&'static str]) -> Result<OldRow, sqlx::Error> {
    let text = |index: usize| row.try_get_unchecked::<Option<String>, _>(index);
    let id = text(0)?.and_then(|id| id.parse().ok()).unwrap_or_default();
    let mut values = Vec::with_capacity(columns.len());
    for (index, column) in columns.iter().enumerate() {
        values.push((*column, text(index + 1)?));
    }
    Ok(OldRow { id, columns: values })
}

/// Returns a checksum of device and time of the row with an id; `None` if there is no such row. It tells a
/// table from another of the same name, whose ids begin anew.
pub async fn fingerprint(
    connection: &mut MySqlConnection,
    source: &Source,
    id: i64,
) -> Result<Option<i64>, sqlx::Error> {
    let query = format!(
        "SELECT CAST(CRC32(CONCAT_WS(' ', device_sn, `{}`)) AS SIGNED) FROM {} WHERE id = ?",
        source.kind.time_column(),
        source.path
    );
    sqlx::query_scalar(AssertSqlSafe(query)).bind(id).fetch_optional(connection).await
}

/// Returns the id after which a copy continues that has come to the id `copied_to`.
pub async fn overlap_start(
    connection: &mut MySqlConnection,
    source: &Source,
    copied_to: i64,
) -> Result<i64, sqlx::Error> {
    // Nobody writes an archive any more, and a row of it that is copied again would replace a later one
    // of another table.
    if source.kind == TableKind::Archive {
        return Ok(copied_to);
    }
    let query = format!(
        "SELECT CAST(id AS SIGNED) FROM {} WHERE id <= ? ORDER BY id DESC LIMIT 1 OFFSET {OVERLAP_ROWS}",
        source.path
    );
    let start: Option<i64> =
        sqlx::query_scalar(AssertSqlSafe(query)).bind(copied_to).fetch_optional(connection).await?;
    Ok(start.unwrap_or(BEFORE_FIRST))
}

/// Returns whether a table of documents has a key by which no two rows are of one device and period.
pub async fn is_unique(
    connection: &mut MySqlConnection,
    database: &str,
    source: &Source,
) -> Result<bool, sqlx::Error> {
    let keys: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM (SELECT INDEX_NAME FROM information_schema.STATISTICS \
         WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? GROUP BY INDEX_NAME \
         HAVING MAX(NON_UNIQUE) = 0 AND SUM(COLUMN_NAME IN ('device_sn', ?)) = COUNT(*)) AS unique_keys",
    )
    .bind(database)
    .bind(&source.table)
    .bind(source.kind.time_column())
    .fetch_one(connection)
    .await?;
    Ok(keys > 0)
}

/// Returns the number of rows after an id, at most [`COUNTED_MAX`].
pub async fn count_after(
    connection: &mut MySqlConnection,
    source: &Source,
    id: i64,
) -> Result<i64, sqlx::Error> {
    let query = format!(
        "SELECT COUNT(*) FROM (SELECT id FROM {} WHERE id > ? LIMIT {COUNTED_MAX}) AS rest",
        source.path
    );
    sqlx::query_scalar(AssertSqlSafe(query)).bind(id).fetch_one(connection).await
}

/// Names the sessions with open transactions, the oldest first.
pub async fn open_transactions(connection: &mut MySqlConnection) -> String {
    let query = format!(
        "SELECT CAST(p.ID AS SIGNED), CAST(p.USER AS CHAR), CAST(p.HOST AS CHAR), \
         CAST(p.TIME AS SIGNED) FROM information_schema.INNODB_TRX AS t \
         JOIN information_schema.PROCESSLIST AS p ON p.ID = t.trx_mysql_thread_id \
         WHERE p.ID <> CONNECTION_ID() ORDER BY t.trx_started LIMIT {SESSIONS_MAX}"
    );
    let found: Result<Vec<(i64, String, String, i64)>, sqlx::Error> =
        sqlx::query_as(AssertSqlSafe(query)).fetch_all(connection).await;
    match found {
        Ok(sessions) if !sessions.is_empty() => {
            let session = |(id, user, host, seconds): &(i64, String, String, i64)| {
                format!("session {id} of {user}@{host}, for {seconds} s in its present state")
            };
            sessions.iter().map(session).collect::<Vec<_>>().join("; ")
        }
        Ok(_) => "no open transaction is visible, perhaps a statement runs".to_owned(),
        Err(_) => "the account may not see who (GRANT PROCESS ON *.* to it)".to_owned(),
    }
}
