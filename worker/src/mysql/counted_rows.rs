//! Statements that keep the ledger's count of rows right while a batch is written.
//!
//! `worker audit` counts each row once, by ranges of ids (`row_count`), and keeps up to which id it
//! has counted. A batch that changes rows below this id adds the change to the count, in its own
//! transaction. The ids of merged rows are known to the server alone, so the server counts them in
//! user variables while it merges. Without this, every audit would have to read the whole table.
//!
//! A device that has moved may merge into counted rows of its former partition. Its batch does not see
//! the count of that partition, so only `worker audit --full` adds these deliveries.

use ljwx_ledger::ledger::Ledger;
use ljwx_ledger::mysql::sql;

use crate::batch::row::{REJECT_SOURCE, source};

/// First id that the ledger's count may hold, of the segment that is being written.
const FROM: &str = "@counted_from";

/// First id after those that the ledger has counted.
const TO: &str = "@counted_to";

/// Deliveries that were merged into counted rows.
const MERGED: &str = "@counted_merged";

/// Returns the first id of a partition's rows that is counted. The id 0 may be of another writer.
pub fn first_id(partition: i32) -> i64 {
    source(partition, 0).max(1)
}

/// Returns the condition that a row of `table` with an id of the worker is the worker's own. The
/// worker's id is the first delivery's source, so it is never above `last_source`, unless all
/// deliveries are replays with [`REJECT_SOURCE`]. Another writer's id is above the 0 that it leaves
/// there, and the id of an adopted row is no source (`adopted_id`).
pub fn is_own(table: &str) -> String {
    format!("({table}.last_source>={table}.id OR {table}.last_source={REJECT_SOURCE})")
}

/// Returns a term of 0 for the upsert, which adds `deliveries` to the variable if the row of `table`
/// is a counted one.
pub(super) fn merged(table: &str, deliveries: &str) -> String {
    // Assignments run from left to right, and `last_source` is the last.
    let counted = format!("{table}.id>={FROM} AND {table}.id<{TO} AND {}", is_own(table));
    // A variable that was not set is NULL, which must not become the row's value.
    format!("0*COALESCE({MERGED}:={MERGED}+IF({counted},{deliveries},0),0)")
}

/// The statements around those of a segment.
#[derive(Debug)]
pub struct CountStatements {
    /// The condition of a partition's row in the ledger, without the partition's number.
    row: String,
}

impl CountStatements {
    /// Creates the statements for the rows of a ledger.
    pub fn new(ledger: &Ledger) -> Self {
        let row = format!(
            "consumer_group={} AND topic={} AND `partition`=",
            sql::literal(ledger.group()),
            sql::literal(ledger.topic())
        );
        Self { row }
    }

    /// Returns the statement before the segment. It locks the row of the ledger: while the batch is
    /// open, no audit moves the count.
    pub fn begin(&self, partition: i32) -> String {
        let base = source(partition, 0);
        format!(
            "SELECT {},{base}+counted_to,0 INTO {FROM},{TO},{MERGED} FROM ingest_progress \
             WHERE {}{partition} FOR UPDATE",
            first_id(partition),
            self.row
        )
    }

    /// Returns the statement after a replayed row's own. The row has the id of its first delivery,
    /// which may be a counted id. `ROW_COUNT()` is 1 if the row was inserted.
    pub fn after_replay(&self, partition: i32, id: i64) -> String {
        format!(
            "UPDATE ingest_progress SET counted_rows=counted_rows+1,\
             counted_deliveries=counted_deliveries+1 \
             WHERE ROW_COUNT()=1 AND {id}>={FROM} AND {id}<{TO} AND {}{partition}",
            self.row
        )
    }

    /// Returns the statement after the segment.
    pub fn end(&self, partition: i32) -> String {
        format!(
            "UPDATE ingest_progress SET counted_deliveries=counted_deliveries+{MERGED} \
             WHERE {MERGED}>0 AND {}{partition}",
            self.row
        )
    }
}
