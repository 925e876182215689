//! Writes the upsert of the main table. Assignments run from left to right and later ones see
//! earlier results, so columns that a condition reads are assigned last.

use std::collections::BTreeMap;

use super::counted_rows;
use crate::batch::Segment;
use crate::batch::row::{FillOnlyIds, Identity, PARTITION_SOURCES, REJECT_SOURCE, ReadingRow};
use ljwx_ledger::mysql::sql::{Dialect, ValueList, fill};

pub const MAIN_TABLE: &str = "t_user_health_data";

/// Columns that a later delivery overwrites if it has a value.
pub const FIELDS: [&str; 15] = [
    "user_id",
    "org_id",
    "heart_rate",
    "blood_oxygen",
    "temperature",
    "pressure_high",
    "pressure_low",
    "stress",
    "step",
    "distance",
    "calorie",
    "latitude",
    "longitude",
    "altitude",
    "sleep",
];

/// The text of the upsert, without its rows.
#[derive(Debug, Clone)]
pub struct MainTableUpsert {
    head: String,
    /// Tails, by the ids that only fill.
    tails: Vec<String>,
}

impl MainTableUpsert {
    /// Creates the statements in the dialect of one server.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            head: format!("INSERT INTO {MAIN_TABLE} ({}) VALUES", columns()),
            tails: FillOnlyIds::all().map(|fills| main_tail(dialect, fills)).collect(),
        }
    }

    /// Returns the upserts of a segment in texts of at most `bytes_max` bytes, with their numbers
    /// of rows. Merged rows share statements. Each replay has its own statement, because two rows
    /// of one identity must not meet in a statement.
    pub fn main(&self, segment: &Segment, bytes_max: usize) -> Vec<(String, i64)> {
        let mut statements = Vec::with_capacity(1 + segment.replays.len());
        for (fills, rows) in groups(segment) {
            let tail = &self.tails[fills.index()];
            statements.extend(fill(&self.head, tail, bytes_max, rows.into_iter(), write_row));
        }
        statements
    }

    /// Returns the identity of a row: the `row`th (from 1) of the `statement`th statement (from 0).
    /// `counts` holds the rows of each segment's statements. A later statement gives `None`,
    /// because its rows belong to no single reading.
    pub fn named<'a>(
        segments: &'a [Segment],
        counts: &[Vec<i64>],
        mut statement: usize,
        row: usize,
    ) -> Option<&'a Identity> {
        for (segment, counts) in segments.iter().zip(counts) {
            if let Some(count) = counts.get(statement) {
                let before: i64 = counts[..statement].iter().sum();
                let place = row.checked_sub(1).filter(|place| *place < *count as usize)?;
                let mut rows = groups(segment).flat_map(|(_, rows)| rows);
                return rows.nth(before as usize + place).map(|(identity, _)| identity);
            }
            statement -= counts.len();
        }
        None
    }
}

type Group<'a> = (FillOnlyIds, Vec<(&'a Identity, &'a ReadingRow)>);

/// Returns a segment's rows in the order in which they are written, by the ids that only fill: rows
/// with other ids need another statement.
fn groups(segment: &Segment) -> impl Iterator<Item = Group<'_>> {
    // A device is bound or not, so there is rarely more than one group.
    let mut groups: BTreeMap<FillOnlyIds, Vec<(&Identity, &ReadingRow)>> = BTreeMap::new();
    for (identity, row) in &segment.rows {
        groups.entry(fills(row)).or_default().push((identity, row));
    }
    for rows in groups.values_mut() {
        // Sort by key, so that two writers lock rows in the same order.
        rows.sort_unstable_by_key(|(identity, _)| *identity);
    }
    let replays = segment.replays.iter().map(|(identity, row)| (fills(row), vec![(identity, row)]));
    groups.into_iter().chain(replays)
}

fn fills(row: &ReadingRow) -> FillOnlyIds {
    FillOnlyIds::of(row.ids, row.bound)
}

/// Returns the names of the columns that [`write_row`] writes, in their order.
pub fn columns() -> String {
    format!(
        "device_sn,timestamp,id,{},customer_id,upload_method,user_name,deliveries,last_source",
        FIELDS.join(",")
    )
}

/// Writes the values of a row.
pub fn write_row(rows: &mut ValueList, ((device_sn, timestamp), row): (&Identity, &ReadingRow)) {
    let vitals = &row.vitals;
    let ids = row.all_ids();
    rows.string(device_sn.as_str());
    rows.datetime(Some(*timestamp));
    rows.whole(row.id);
    rows.number(ids.user_id);
    rows.number(ids.org_id);
    for whole in [vitals.heart_rate, vitals.blood_oxygen] {
        rows.number(whole);
    }
    rows.number(vitals.temperature);
    for whole in [vitals.pressure_high, vitals.pressure_low, vitals.stress, vitals.step] {
        rows.number(whole);
    }
    for number in [
        vitals.distance,
        vitals.calorie,
        vitals.latitude,
        vitals.longitude,
        vitals.altitude,
        vitals.sleep,
    ] {
        rows.number(number);
    }
    rows.whole(ids.customer_id.unwrap_or(0));
    rows.string(row.upload_method.as_str());
    rows.string("");
    rows.whole(row.deliveries);
    rows.whole(row.last_source);
}

fn main_tail(dialect: Dialect, fills: FillOnlyIds) -> String {
    let table = MAIN_TABLE;
    // A row of another writer has 0, which is also the source of the first record of partition 0.
    // A replayed reject, below 0, is later than nothing.
    let later = format!("{}>=GREATEST({table}.last_source,0)", dialect.incoming("last_source"));
    let mut tail = format!("{} ON DUPLICATE KEY UPDATE ", dialect.alias());
    for field in FIELDS {
        let incoming = dialect.incoming(field);
        let stored = format!("{table}.`{field}`");
        let fills = match field {
            "user_id" => fills.has(FillOnlyIds::USER),
            "org_id" => fills.has(FillOnlyIds::ORG),
            _ => false,
        };
        let value = if fills {
            format!("COALESCE({stored},{incoming})")
        } else {
            format!("IF({later},COALESCE({incoming},{stored}),COALESCE({stored},{incoming}))")
        };
        tail.push_str(&format!("`{field}`={value},"));
    }
    let customer = dialect.incoming("customer_id");
    let overwrites = if fills.has(FillOnlyIds::CUSTOMER) { "0".to_owned() } else { later.clone() };
    tail.push_str(&format!(
        "customer_id=IF({customer}<>0 AND ({overwrites} OR {table}.customer_id=0),{customer},{table}.customer_id),\
         upload_method=IF({later},{method},{table}.upload_method),\
         deliveries={table}.deliveries+{deliveries}+{counted},\
         last_source=GREATEST({table}.last_source,{source})",
        method = dialect.incoming("upload_method"),
        deliveries = dialect.incoming("deliveries"),
        counted = counted_rows::merged(table, &dialect.incoming("deliveries")),
        source = dialect.incoming("last_source"),
    ));
    tail
}

/// Bucket of rows with id 0: another writer's default, and the first record of partition 0.
pub const ID_ZERO: i64 = -1;

/// Bucket of the other rows of other writers.
const OTHER_WRITERS: i64 = -2;

/// Returns the columns of a SELECT that counts rows and deliveries of `table` by writer, to be grouped
/// by `bucket`: a Kafka partition below `partitions`, [`ID_ZERO`], or -2 for another writer. The id of
/// a row shows its writer.
pub fn bucket_columns(table: &str, partitions: i64) -> String {
    format!(
        "CAST(CASE WHEN id = 0 THEN {ID_ZERO} \
         WHEN id > 0 AND id < {} AND {own} THEN id DIV {PARTITION_SOURCES} \
         ELSE {OTHER_WRITERS} END AS SIGNED) AS bucket, COUNT(*), CAST(SUM(deliveries) AS SIGNED)",
        partitions * PARTITION_SOURCES,
        own = counted_rows::is_own(table)
    )
}

/// Returns the bucket of one row, as [`bucket_columns`] does for many.
pub fn bucket(id: i64, last_source: i64, partitions: i64) -> i64 {
    let is_own = last_source >= id || last_source == REJECT_SOURCE;
    match id {
        0 => ID_ZERO,
        1.. if id < partitions * PARTITION_SOURCES && is_own => id / PARTITION_SOURCES,
        _ => OTHER_WRITERS,
    }
}

/// A SELECT of the number of Kafka partitions in the ledgers of all groups.
pub const PARTITIONS: &str = "SELECT COALESCE(MAX(`partition`), -1) + 1 FROM ingest_progress";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::test_support::delivery;

    fn segment(partition: i32, devices: &[&str]) -> Segment {
        let mut segment = Segment::new(partition, 1, 0);
        for (offset, sn) in (0..).zip(devices) {
            segment.push(delivery(partition, offset, sn, 0, 80), None);
        }
        segment
    }

    #[test]
    fn the_id_of_a_row_shows_its_writer() {
        let third = 2 * PARTITION_SOURCES;
        for (id, last_source, expected) in [
            (0, 0, ID_ZERO),
            (1, 1, 0),
            (1, 0, OTHER_WRITERS),
            (1, REJECT_SOURCE, 0),
            (third + 7, third + 9, 2),
            (third + 7, third + 6, OTHER_WRITERS),
            (third + PARTITION_SOURCES, i64::MAX, OTHER_WRITERS),
            (-5, 0, OTHER_WRITERS),
        ] {
            assert_eq!(bucket(id, last_source, 3), expected, "{id} {last_source}");
        }
    }

    #[test]
    fn a_row_of_a_statement_is_found_by_its_number() {
        let segments = [segment(0, &["D3", "D1", "D2"]), segment(1, &["E2", "E1"])];
        let statements = MainTableUpsert::new(Dialect::MariaDb);
        // The first limit gives every row a statement of its own, the second every segment.
        for (bytes_max, asked) in [
            (1, [(0, 1, "D1"), (1, 1, "D2"), (2, 1, "D3"), (3, 1, "E1"), (4, 1, "E2")]),
            (99_999, [(0, 1, "D1"), (0, 2, "D2"), (0, 3, "D3"), (1, 1, "E1"), (1, 2, "E2")]),
        ] {
            let counts: Vec<Vec<i64>> = segments
                .iter()
                .map(|s| statements.main(s, bytes_max).into_iter().map(|(_, rows)| rows).collect())
                .collect();
            let named = |statement, row| {
                MainTableUpsert::named(&segments, &counts, statement, row)
                    .map(|(sn, _)| sn.as_str())
            };
            for (statement, row, device) in asked {
                assert_eq!(named(statement, row), Some(device), "{bytes_max}");
            }
            assert_eq!((named(0, 0), named(0, 9), named(9, 1)), (None, None, None));
        }
    }
}
