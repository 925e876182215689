//! Checks tables that exist before the first `worker migrate`.
//!
//! Migrations create a table only if it is missing, so a table of another program with the same
//! name would be used. The check logs the problems of this table before anything is recorded or
//! altered. The operator decides what happens to its rows.

use anyhow::ensure;
use ljwx_ledger::mysql::MySqlPool;
use sqlx::migrate::Migrator;
use tracing::{error, info};

/// A table that readings are stored in.
struct ReadingTable {
    name: &'static str,
    key: [&'static str; 2],
    /// Whether the table is divided into months by the time of the reading.
    by_month: bool,
    /// Columns that statements name, of those that the migration creates. A later migration adds
    /// columns only to a table that is the worker's already.
    columns: &'static [&'static str],
}

/// The migrations that create the tables and their later indexes. They leave what exists.
const CREATED_BY: [i64; 2] = [1, 12];

const TABLES: [ReadingTable; 3] = [
    ReadingTable {
        name: "t_user_health_data",
        key: ["device_sn", "timestamp"],
        by_month: true,
        columns: &[
            "device_sn",
            "timestamp",
            "id",
            "user_id",
            "org_id",
            "customer_id",
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
            "upload_method",
            "user_name",
            "deliveries",
            "last_source",
        ],
    },
    ReadingTable {
        name: "t_user_health_data_daily",
        key: ["device_sn", "date"],
        by_month: false,
        columns: &[
            "device_sn",
            "date",
            "id",
            "user_id",
            "org_id",
            "customer_id",
            "sleep_data",
            "sleep_data_at",
            "sleep_data_source",
            "exercise_daily_data",
            "exercise_daily_data_at",
            "exercise_daily_data_source",
            "workout_data",
            "workout_data_at",
            "workout_data_source",
            "scientific_sleep_data",
            "scientific_sleep_data_at",
            "scientific_sleep_data_source",
        ],
    },
    ReadingTable {
        name: "t_user_health_data_weekly",
        key: ["device_sn", "week_start"],
        by_month: false,
        columns: &[
            "device_sn",
            "week_start",
            "id",
            "user_id",
            "org_id",
            "customer_id",
            "exercise_week_data",
            "exercise_week_data_at",
            "exercise_week_data_source",
        ],
    },
];

/// Longest serial number, in characters.
const DEVICE_SN_CHARS: i64 = 64;

/// Words of `upload_method` that a reading may have.
const UPLOAD_METHODS: [&str; 4] = ["wifi", "bluetooth", "common_event", "esim"];

/// A table as the server describes it.
#[derive(Debug, Clone)]
struct FoundTable {
    /// `None` for a view.
    engine: Option<String>,
    key: Vec<String>,
    columns: Vec<FoundColumn>,
    partitions: Vec<String>,
}

#[derive(Debug, Clone, sqlx::FromRow)]
struct FoundColumn {
    name: String,
    kind: String,
    collation: Option<String>,
    chars: Option<i64>,
    /// Whether an INSERT has to name the column.
    required: bool,
}

/// Fails if a table with the name of a worker's table does not fit the statements. Changes nothing.
pub async fn check(pool: &MySqlPool) -> anyhow::Result<()> {
    let mut unfit = Vec::new();
    for table in &TABLES {
        let Some(found) = describe(pool, table.name).await? else { continue };
        let problems = problems(table, &found);
        if !problems.is_empty() {
            let name = table.name;
            error!(
                table = name,
                reason = problems.join("; "),
                remedy = format!("RENAME TABLE {name} TO {name}_before;"),
                "existing table cannot take readings"
            );
            unfit.push(name);
        }
    }
    ensure!(
        unfit.is_empty(),
        "{} cannot be used as they are; nothing was changed. Migrate in a database of its own, and adopt \
         their rows from there (docs/migration.md). Or stop what writes them, put each aside as its \
         remedy says, migrate again, and adopt their rows by `worker adopt run`",
        unfit.join(", ")
    );
    Ok(())
}

/// Creates tables that are recorded as created and are missing: an operator put them aside after an
/// earlier version had used them.
pub async fn restore(pool: &MySqlPool, migrations: &Migrator) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    for table in &TABLES {
        if describe(pool, table.name).await?.is_none() {
            missing.push(table.name);
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    for migration in migrations.iter().filter(|one| CREATED_BY.contains(&one.version)) {
        sqlx::raw_sql(migration.sql.clone()).execute(pool).await?;
    }
    for table in missing {
        info!(table, "table recreated");
    }
    Ok(())
}

/// Returns the problems of a table. Pure.
fn problems(table: &ReadingTable, found: &FoundTable) -> Vec<String> {
    let mut problems = Vec::new();
    match found.engine.as_deref() {
        None => return vec!["it is a view".to_owned()],
        Some("InnoDB") => {}
        Some(engine) => problems.push(format!("its engine is {engine}, which has no transactions")),
    }
    if found.key != table.key {
        problems.push(format!(
            "its primary key is ({}), not ({}): what is sent again would become another row",
            found.key.join(", "),
            table.key.join(", ")
        ));
    }
    let of = |name: &str| found.columns.iter().find(|column| column.name == name);
    let missing: Vec<&str> =
        table.columns.iter().copied().filter(|name| of(name).is_none()).collect();
    if !missing.is_empty() {
        problems.push(format!("it lacks the columns {}", missing.join(", ")));
    }
    let required = found.columns.iter().filter(|column| column.required);
    let foreign: Vec<&str> = required
        .map(|column| column.name.as_str())
        .filter(|name| !table.columns.contains(name))
        .collect();
    if !foreign.is_empty() {
        problems.push(format!("it wants a value for {}, which no reading has", foreign.join(", ")));
    }
    problems.extend(of("device_sn").and_then(serial_number));
    problems.extend(of("upload_method").and_then(upload_method));
    if table.by_month && !found.partitions.iter().any(|name| name == "p_future") {
        problems.push("it is not partitioned by month with p_future".to_owned());
    }
    problems
}

fn serial_number(column: &FoundColumn) -> Option<String> {
    let collation = column.collation.as_deref().unwrap_or("none");
    (collation != "ascii_bin" || column.chars < Some(DEVICE_SN_CHARS)).then(|| {
        format!(
            "device_sn is {} with collation {collation}, not ascii_bin of {DEVICE_SN_CHARS} \
             characters: serial numbers that differ in case would be one device",
            column.kind
        )
    })
}

fn upload_method(column: &FoundColumn) -> Option<String> {
    let lacks: Vec<&str> = UPLOAD_METHODS
        .into_iter()
        .filter(|word| {
            column.kind.starts_with("enum") && !column.kind.contains(&format!("'{word}'"))
        })
        .collect();
    (!lacks.is_empty()).then(|| format!("upload_method does not take {}", lacks.join(", ")))
}

/// Reads the description of a table or view; `None` if it does not exist.
async fn describe(pool: &MySqlPool, name: &str) -> Result<Option<FoundTable>, sqlx::Error> {
    let engine: Option<Option<String>> = sqlx::query_scalar(
        "SELECT CAST(ENGINE AS CHAR) FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ?",
    )
    .bind(name)
    .fetch_optional(pool)
    .await?;
    let Some(engine) = engine else { return Ok(None) };
    let key = sqlx::query_scalar(
        "SELECT CAST(LOWER(COLUMN_NAME) AS CHAR) FROM information_schema.STATISTICS \
         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? \
         AND INDEX_NAME = 'PRIMARY' ORDER BY SEQ_IN_INDEX",
    )
    .bind(name)
    .fetch_all(pool)
    .await?;
    let columns = sqlx::query_as(
        "SELECT CAST(LOWER(COLUMN_NAME) AS CHAR) AS name, CAST(COLUMN_TYPE AS CHAR) AS kind, \
         CAST(COLLATION_NAME AS CHAR) AS `collation`, \
         CAST(CHARACTER_MAXIMUM_LENGTH AS SIGNED) AS chars, \
         IS_NULLABLE = 'NO' AND COLUMN_DEFAULT IS NULL AND EXTRA NOT LIKE '%auto_increment%' \
         AND EXTRA NOT LIKE '%GENERATED%' AS required \
         FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? \
         ORDER BY ORDINAL_POSITION",
    )
    .bind(name)
    .fetch_all(pool)
    .await?;
    let partitions = sqlx::query_scalar(
        "SELECT CAST(PARTITION_NAME AS CHAR) FROM information_schema.PARTITIONS \
         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? AND PARTITION_NAME IS NOT NULL",
    )
    .bind(name)
    .fetch_all(pool)
    .await?;
    Ok(Some(FoundTable { engine, key, columns, partitions }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str) -> FoundColumn {
        FoundColumn {
            name: name.to_owned(),
            kind: "int".to_owned(),
            collation: None,
            chars: None,
            required: false,
        }
    }

    /// Returns the main table as the first migration creates it.
    fn ours() -> FoundTable {
        let table = &TABLES[0];
        let mut columns: Vec<FoundColumn> = table.columns.iter().map(|name| column(name)).collect();
        columns[0] = FoundColumn {
            kind: "varchar(64)".to_owned(),
            collation: Some("ascii_bin".to_owned()),
            chars: Some(64),
            required: true,
            ..column("device_sn")
        };
        let method = columns.iter_mut().find(|column| column.name == "upload_method").unwrap();
        method.kind = "enum('wifi','bluetooth','common_event','esim')".to_owned();
        columns.push(column("phone_number"));
        FoundTable {
            engine: Some("InnoDB".to_owned()),
            key: table.key.map(str::to_owned).to_vec(),
            columns,
            partitions: vec!["p202511".to_owned(), "p_future".to_owned()],
        }
    }

    type Change = fn(&mut FoundTable);

    #[test]
    fn what_makes_a_table_unfit_is_named() {
        fn no_change(_: &mut FoundTable) {}
        let cases: [(Change, &str); 9] = [
            (no_change, ""),
            (|found| found.engine = None, "it is a view"),
            (|found| found.engine = Some("MyISAM".into()), "its engine is MyISAM"),
            (
                |found| found.key = vec!["id".into()],
                "its primary key is (id), not (device_sn, timestamp)",
            ),
            (
                |found| found.columns.retain(|c| c.name != "deliveries"),
                "it lacks the columns deliveries",
            ),
            (
                |found| found.columns.push(FoundColumn { required: true, ..column("nurse") }),
                "it wants a value for nurse",
            ),
            (
                |found| found.columns[0].collation = Some("utf8mb4_bin".into()),
                "device_sn is varchar(64) with collation utf8mb4_bin",
            ),
            (|found| found.columns[0].chars = Some(20), "not ascii_bin of 64 characters"),
            (|found| found.partitions.clear(), "it is not partitioned by month"),
        ];
        for (change, expected) in cases {
            let mut found = ours();
            change(&mut found);
            let said = problems(&TABLES[0], &found).join("; ");
            let right = if expected.is_empty() { said.is_empty() } else { said.contains(expected) };
            assert!(right, "{expected:?}: {said}");
        }
        let mut old = ours();
        let method = old.columns.iter_mut().find(|column| column.name == "upload_method").unwrap();
        method.kind = "enum('wifi','bluetooth','common_event')".to_owned();
        assert_eq!(problems(&TABLES[0], &old), ["upload_method does not take esim"]);
    }
}
