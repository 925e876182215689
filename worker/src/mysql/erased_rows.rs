//! Erases rows of the main table, and keeps their number for the audit.
//!
//! An erased row counts like one that went with its month: `ingest_dropped_month` has the number of
//! erased rows under the name [`ERASED`]. Rows go in pages, each with its count in one transaction, so
//! a run that ends half-way leaves a ledger that balances.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ljwx_ledger::mysql::{MySqlConnection, MySqlPool};
use sqlx::{AssertSqlSafe, FromRow, MySql, QueryBuilder};

use super::counted_rows::first_id;
use super::main_table::{self, MAIN_TABLE, bucket};
use super::row_count::{self, GroupRow, RowCount};
use crate::batch::row::{PARTITION_SOURCES, source};

/// The name of the erased rows among the months of `ingest_dropped_month`.
const ERASED: &str = "erased";

/// Most rows of one transaction, which delays a batch of their partition by some tens of milliseconds.
const PAGE_ROWS: usize = 1_000;

/// Pause between two transactions, for the writers of the table.
const PAUSE: Duration = Duration::from_millis(50);

/// A time before the first that the column takes.
const BEFORE_ALL: &str = "1000-01-01 00:00:00";

/// The form of times, in which they are compared with the column again.
const TIME: &str = "CAST(DATE_FORMAT(timestamp, '%Y-%m-%d %H:%i:%s') AS CHAR)";

/// Totals of all erased rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, FromRow)]
pub struct ErasedTotals {
    /// Their deliveries.
    pub deliveries: i64,
    /// Rows with the id 0.
    pub zeros: i64,
}

/// A row that is to be erased.
#[derive(Debug, FromRow)]
struct ErasedRow {
    time: String,
    id: i64,
    last_source: i64,
    deliveries: i64,
}

/// Rows of one bucket (`main_table`) that are erased together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct BucketCount {
    all: RowCount,
    /// Rows that the ledger has not counted yet.
    uncounted: RowCount,
}

/// Erases all rows that match `condition`, which names one device. Returns the number of rows.
pub async fn erase(pool: &MySqlPool, condition: &str) -> Result<u64, sqlx::Error> {
    let (mut all, mut after) = (0, BEFORE_ALL.to_owned());
    loop {
        let query = format!(
            "SELECT {TIME}, id FROM {MAIN_TABLE} WHERE {condition} AND timestamp > ? \
             ORDER BY timestamp LIMIT {PAGE_ROWS}"
        );
        let page: Vec<(String, i64)> =
            sqlx::query_as(AssertSqlSafe(query)).bind(&after).fetch_all(pool).await?;
        let Some((last, _)) = page.last() else { return Ok(all) };
        after.clone_from(last);
        all += erase_page(pool, condition, &page).await?;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Returns the totals of all rows that were erased so far.
pub async fn totals(connection: &mut MySqlConnection) -> Result<ErasedTotals, sqlx::Error> {
    sqlx::query_as(
        "SELECT CAST(COALESCE(SUM(deliveries), 0) AS SIGNED) AS deliveries, \
         CAST(COALESCE(SUM(IF(bucket = ?, row_count, 0)), 0) AS SIGNED) AS zeros \
         FROM ingest_dropped_month WHERE month = ?",
    )
    .bind(main_table::ID_ZERO)
    .bind(ERASED)
    .fetch_one(connection)
    .await
}

/// Erases the rows of a page, given as times and ids. Returns their number.
async fn erase_page(
    pool: &MySqlPool,
    condition: &str,
    page: &[(String, i64)],
) -> Result<u64, sqlx::Error> {
    let mut connection = ljwx_ledger::mysql::acquire(pool).await?;
    let mut transaction = connection.begin().await?;
    let partitions: i64 =
        sqlx::query_scalar(main_table::PARTITIONS).fetch_one(&mut *transaction).await?;
    // As in a batch, the ledger comes first. While its rows are locked, no count moves, and no batch of
    // these partitions merges into the rows.
    let own = page.iter().map(|(_, id)| id.div_euclid(PARTITION_SOURCES));
    let own: BTreeSet<i64> = own.filter(|number| (0..partitions).contains(number)).collect();
    let mut groups: BTreeMap<i64, Vec<GroupRow>> = BTreeMap::new();
    for partition in own {
        let Ok(number) = i32::try_from(partition) else { continue };
        groups.insert(partition, row_count::lock(&mut transaction, number).await?);
    }
    let rows = lock_rows(&mut transaction, condition, page).await?;
    if rows.is_empty() {
        transaction.rollback().await?;
        return Ok(0);
    }
    for (bucket, count) in count(&rows, partitions, |partition| counted_to(&groups, partition)) {
        let groups = groups.get(&bucket).map(Vec::as_slice).unwrap_or_default();
        record(&mut transaction, bucket, &count, groups.first()).await?;
    }
    let times = rows.iter().map(|row| row.time.as_str());
    let mut delete = with_times(format!("DELETE FROM {MAIN_TABLE} WHERE {condition}"), times);
    let deleted =
        delete.build().persistent(false).execute(&mut *transaction).await?.rows_affected();
    transaction.commit().await?;
    Ok(deleted)
}

/// Locks those rows of a page that are still there with the ids by which the ledger is locked.
async fn lock_rows(
    connection: &mut MySqlConnection,
    condition: &str,
    page: &[(String, i64)],
) -> Result<Vec<ErasedRow>, sqlx::Error> {
    let query = format!(
        "SELECT {TIME} AS time, id, CAST(last_source AS SIGNED) AS last_source, \
         CAST(deliveries AS SIGNED) AS deliveries FROM {MAIN_TABLE} WHERE {condition}"
    );
    let mut query = with_times(query, page.iter().map(|(time, _)| time.as_str()));
    query.push(" FOR UPDATE");
    let mut rows: Vec<ErasedRow> =
        query.build_query_as().persistent(false).fetch_all(connection).await?;
    let ids: BTreeMap<&str, i64> = page.iter().map(|(time, id)| (time.as_str(), *id)).collect();
    rows.retain(|row| ids.get(row.time.as_str()) == Some(&row.id));
    Ok(rows)
}

/// Adds the times to the condition of a statement.
fn with_times<'a>(query: String, times: impl Iterator<Item = &'a str>) -> QueryBuilder<MySql> {
    let mut query = QueryBuilder::new(query);
    query.push(" AND timestamp IN (");
    let mut list = query.separated(", ");
    for time in times {
        list.push_bind(time);
    }
    query.push(")");
    query
}

/// Returns the first id of a partition that its groups have not counted.
fn counted_to(groups: &BTreeMap<i64, Vec<GroupRow>>, partition: i32) -> i64 {
    let groups = groups.get(&i64::from(partition)).into_iter().flatten();
    let counted = groups.map(|group| group.counted_to).max().unwrap_or_default();
    source(partition, counted).max(first_id(partition))
}

/// Counts rows by buckets. `counted_to` returns the first id of a partition that is not counted.
fn count(
    rows: &[ErasedRow],
    partitions: i64,
    counted_to: impl Fn(i32) -> i64,
) -> BTreeMap<i64, BucketCount> {
    let mut counts: BTreeMap<i64, BucketCount> = BTreeMap::new();
    for row in rows {
        let bucket = bucket(row.id, row.last_source, partitions);
        let one = RowCount { rows: 1, deliveries: row.deliveries, others: 0 };
        let count = counts.entry(bucket).or_default();
        count.all += one;
        if let Ok(partition @ 0..) = i32::try_from(bucket)
            && row.id >= counted_to(partition)
        {
            count.uncounted += one;
        }
    }
    counts
}

/// Records erased rows. The ledger's count holds all rows below its end, erased ones too. So rows
/// behind the end are added to it: the next audit finds them no more.
async fn record(
    connection: &mut MySqlConnection,
    bucket: i64,
    BucketCount { all, uncounted }: &BucketCount,
    group: Option<&GroupRow>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO ingest_dropped_month (month, bucket, row_count, deliveries) \
         VALUES (?, ?, ?, ?) ON DUPLICATE KEY UPDATE row_count = row_count + ?, \
         deliveries = deliveries + ?",
    )
    .bind(ERASED)
    .bind(bucket)
    .bind(all.rows)
    .bind(all.deliveries)
    .bind(all.rows)
    .bind(all.deliveries)
    .execute(&mut *connection)
    .await?;
    let Some(group) = group.filter(|_| uncounted.rows > 0) else { return Ok(()) };
    sqlx::query(
        "UPDATE ingest_progress SET counted_rows = counted_rows + ?, \
         counted_deliveries = counted_deliveries + ?, updated_at = updated_at \
         WHERE consumer_group = ? AND topic = ? AND `partition` = ?",
    )
    .bind(uncounted.rows)
    .bind(uncounted.deliveries)
    .bind(&group.consumer_group)
    .bind(&group.topic)
    .bind(bucket)
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::row::REJECT_SOURCE;

    #[test]
    fn rows_are_counted_by_writer_and_by_what_the_ledger_has_counted() {
        let row = |id: i64, last_source: i64, deliveries: i64| ErasedRow {
            time: String::new(),
            id,
            last_source,
            deliveries,
        };
        let second = source(1, 0);
        let rows = [
            row(0, 0, 1),
            row(5, 8, 2),
            row(12, 12, 1),
            row(13, REJECT_SOURCE, 1),
            row(second + 5, second + 5, 3),
            row(second + 6, 0, 1),
            row(-1, 0, 1),
        ];
        let found = count(&rows, 2, |partition| source(partition, 10));
        let counted = |all: (i64, i64), uncounted: (i64, i64)| {
            let count = |(rows, deliveries)| RowCount { rows, deliveries, others: 0 };
            BucketCount { all: count(all), uncounted: count(uncounted) }
        };
        let expected = [
            (-2, counted((2, 2), (0, 0))),
            (-1, counted((1, 1), (0, 0))),
            (0, counted((3, 4), (2, 2))),
            (1, counted((1, 3), (0, 0))),
        ];
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_partition_without_groups_has_counted_nothing() {
        assert_eq!(counted_to(&BTreeMap::new(), 0), 1);
        assert_eq!(counted_to(&BTreeMap::new(), 2), source(2, 0));
    }
}
