//! The tables of an earlier server: which there are, what they hold, and what keeps them from being
//! adopted. Pure: `plan` queries the server.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::FromRow;

use super::old_row::{DOCUMENT_COLUMNS, item_columns};
use crate::mysql::main_table::MAIN_TABLE;

/// End of the names of old tables that were put aside in the database of this system.
pub const BEFORE: &str = "_before";

/// The daily and the weekly table under their names in this system, and under those that a later version
/// of the platform gives them.
const DAILY: [&str; 2] = ["t_user_health_data_daily", "t_health_data_slow_daily"];
const WEEKLY: [&str; 2] = ["t_user_health_data_weekly", "t_health_data_slow_weekly"];

/// Columns of readings that are no fields of an item.
const OTHER_COLUMNS: [&str; 5] =
    ["sleep", "phone_number", "is_deleted", "create_time", "update_time"];

/// Columns of the tables of periods beside the documents.
const PERIOD_COLUMNS: [&str; 5] = ["device_sn", "customer_id", "org_id", "user_id", "update_time"];

/// Columns that say nothing of a reading, or for which the adopted row has its own value.
const OWN_COLUMNS: [&str; 3] = ["id", "create_time", "user_name"];

/// A column that only the tables of this system have.
const OURS: &str = "last_source";

/// What a table holds. In this order the tables are copied: the later rows win.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TableKind {
    /// Readings of a month, put aside by the monthly job.
    Archive,
    /// Readings.
    Main,
    /// Documents by day.
    Daily,
    /// Documents by week.
    Weekly,
}

impl TableKind {
    /// Returns whether the rows are readings.
    pub fn has_readings(self) -> bool {
        matches!(self, Self::Archive | Self::Main)
    }

    /// Returns the column with the time of a row.
    pub fn time_column(self) -> &'static str {
        match self {
            Self::Archive | Self::Main => "timestamp",
            Self::Daily => "date",
            Self::Weekly => "week_start",
        }
    }

    /// Returns the columns that are copied, as far as a table has them.
    pub fn columns(self) -> Vec<&'static str> {
        if self.has_readings() {
            return item_columns().chain(OTHER_COLUMNS).collect();
        }
        let documents = DOCUMENT_COLUMNS.iter().map(|(column, _)| *column);
        let documents =
            documents.filter(|column| (*column == "exercise_week_data") == (self == Self::Weekly));
        PERIOD_COLUMNS.into_iter().chain([self.time_column()]).chain(documents).collect()
    }
}

/// An old table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    pub kind: TableKind,
    /// Its name under the earlier server, by which its progress is kept.
    pub name: String,
    /// Its present name.
    pub table: String,
    /// Rows and bytes, as the server estimates them.
    pub rows: i64,
    pub bytes: i64,
    pub engine: String,
    /// Character sets and collations of its texts.
    pub collations: Vec<String>,
    /// Columns that are not copied.
    pub left_out: Vec<String>,
    /// Database and name, quoted for statements.
    #[serde(skip)]
    pub path: String,
    /// Its columns.
    #[serde(skip)]
    pub columns: Vec<String>,
}

impl Source {
    /// Returns whether the table has a column.
    pub fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|name| name == column)
    }
}

/// A table as the server describes it.
#[derive(Debug, Clone, FromRow)]
pub struct FoundTable {
    pub name: String,
    /// `None` for a view.
    pub engine: Option<String>,
    pub row_count: i64,
    pub byte_count: i64,
}

/// A column as the server describes it.
#[derive(Debug, Clone, FromRow)]
pub struct FoundColumn {
    pub table_name: String,
    pub name: String,
    pub collation: Option<String>,
    /// Whether the column is the primary key, or its first part.
    pub leads_key: bool,
}

/// Returns what a table holds and its name under the earlier server, if it is one of its tables. In the
/// database of this system the plain names are this system's own tables.
fn recognised(table: &str, is_own: bool) -> Option<(TableKind, &str)> {
    let month = |name: &str| {
        let month = name.strip_prefix(MAIN_TABLE).and_then(|rest| rest.strip_prefix('_'));
        month.is_some_and(|month| month.len() == 6 && month.bytes().all(|one| one.is_ascii_digit()))
    };
    let name = match table.strip_suffix(BEFORE) {
        Some(name) if is_own => name,
        None if !is_own || month(table) || [DAILY[1], WEEKLY[1]].contains(&table) => table,
        _ => return None,
    };
    let kind = match name {
        MAIN_TABLE => TableKind::Main,
        name if month(name) => TableKind::Archive,
        name if DAILY.contains(&name) => TableKind::Daily,
        name if WEEKLY.contains(&name) => TableKind::Weekly,
        _ => return None,
    };
    Some((kind, name))
}

/// Returns the old tables in the order of the copies.
pub fn sources(
    database: &str,
    is_own: bool,
    tables: &BTreeMap<String, FoundTable>,
    columns: &[FoundColumn],
) -> Vec<Source> {
    let source = |found: &FoundTable| {
        let (kind, name) = recognised(&found.name, is_own)?;
        let own: Vec<&FoundColumn> =
            columns.iter().filter(|column| column.table_name == found.name).collect();
        let mut collations: Vec<String> =
            own.iter().filter_map(|column| column.collation.clone()).collect();
        collations.sort_unstable();
        collations.dedup();
        let copied = kind.columns();
        let names = own.iter().map(|column| column.name.as_str());
        let left_out = names.filter(|name| !copied.contains(name) && !OWN_COLUMNS.contains(name));
        Some(Source {
            kind,
            name: name.to_owned(),
            table: found.name.clone(),
            rows: found.row_count,
            bytes: found.byte_count,
            engine: found.engine.clone().unwrap_or_default(),
            collations,
            left_out: left_out.map(str::to_owned).collect(),
            path: path(database, &found.name),
            columns: own.iter().map(|column| column.name.clone()).collect(),
        })
    };
    let mut sources: Vec<Source> = tables.values().filter_map(source).collect();
    sources.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    sources
}

/// Returns what keeps old tables from being adopted, each with its remedy.
pub fn problems(sources: &[Source], columns: &[FoundColumn]) -> Vec<String> {
    let mut problems = Vec::new();
    for source in sources {
        let Source { table, kind, .. } = source;
        if source.engine.is_empty() {
            problems.push(format!("{table} is a view: let its table have this name, or drop it"));
            continue;
        }
        if source.has(OURS) {
            problems.push(format!(
                "{table} is a table of this system: the monthly job has renamed it. Stop the job, and put \
                 the table back (docs/migration.md, \"The monthly job\")"
            ));
            continue;
        }
        let of_table = |name: &str| {
            columns.iter().find(|column| column.table_name == *table && column.name == name)
        };
        if !of_table("id").is_some_and(|id| id.leads_key) {
            // A table that was made by CREATE TABLE … AS SELECT has the column without a key.
            let added = if source.has("id") {
                "PRIMARY KEY (id), and DROP PRIMARY KEY in the same statement if it has another one"
            } else {
                "COLUMN id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY FIRST"
            };
            problems.push(format!(
                "{table} has no primary key that begins with id: ALTER TABLE {table} ADD {added}"
            ));
        }
        for name in ["device_sn", kind.time_column()] {
            if !source.has(name) {
                problems
                    .push(format!("{table} has no column {name}: it holds no readings, drop it"));
            }
        }
    }
    if !sources.iter().any(|source| source.kind == TableKind::Main) {
        problems.push(format!(
            "there is no old {MAIN_TABLE}: check --from-database. In the database of this system, old \
             tables are those with names that end with {BEFORE}"
        ));
    }
    problems
}

/// Returns database and table, quoted for statements.
pub fn path(database: &str, table: &str) -> String {
    format!("`{}`.`{}`", database.replace('`', "``"), table.replace('`', "``"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str) -> FoundTable {
        let engine = Some("InnoDB".to_owned());
        FoundTable { name: name.to_owned(), engine, row_count: 5, byte_count: 16_384 }
    }

    fn column(table: &str, name: &str) -> FoundColumn {
        FoundColumn {
            table_name: table.to_owned(),
            name: name.to_owned(),
            collation: (name == "device_sn").then(|| "utf8mb3_general_ci".to_owned()),
            leads_key: name == "id",
        }
    }

    fn columns_of(table: &str, time: &str) -> Vec<FoundColumn> {
        ["id", "device_sn", time, "user_name", "create_user"].map(|name| column(table, name)).into()
    }

    #[test]
    fn old_tables_are_recognised_by_their_names() {
        use TableKind::{Archive, Daily, Main, Weekly};
        for (table, other, own) in [
            ("t_user_health_data", Some((Main, "t_user_health_data")), None),
            ("t_user_health_data_before", None, Some((Main, "t_user_health_data"))),
            (
                "t_user_health_data_202506",
                Some((Archive, "t_user_health_data_202506")),
                Some((Archive, "t_user_health_data_202506")),
            ),
            (
                "t_user_health_data_202506_before",
                None,
                Some((Archive, "t_user_health_data_202506")),
            ),
            ("t_user_health_data_20250", None, None),
            ("t_user_health_data_expired_p202501_1764480000", None, None),
            ("t_user_health_data_daily", Some((Daily, "t_user_health_data_daily")), None),
            (
                "t_health_data_slow_weekly",
                Some((Weekly, "t_health_data_slow_weekly")),
                Some((Weekly, "t_health_data_slow_weekly")),
            ),
            ("sys_user", None, None),
        ] {
            assert_eq!(recognised(table, false), other, "{table}");
            assert_eq!(recognised(table, true), own, "{table}");
        }
    }

    #[test]
    fn archives_come_first_and_the_columns_that_stay_behind_are_named() {
        let names = [MAIN_TABLE, "t_user_health_data_202508", "t_user_health_data_202506"];
        let tables = names.map(|name| (name.to_owned(), found(name))).into();
        let columns: Vec<FoundColumn> =
            names.iter().flat_map(|name| columns_of(name, "timestamp")).collect();
        let sources = sources("old", false, &tables, &columns);
        let order: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(order, [names[2], names[1], names[0]]);
        assert_eq!(sources[2].left_out, ["create_user"]);
        assert_eq!(sources[2].collations, ["utf8mb3_general_ci"]);
        assert_eq!(sources[2].path, "`old`.`t_user_health_data`");
        assert!(problems(&sources, &columns).is_empty());
    }

    #[test]
    fn what_keeps_a_table_from_being_adopted_is_named_with_its_remedy() {
        let main = || (MAIN_TABLE.to_owned(), found(MAIN_TABLE));
        let of_main = columns_of(MAIN_TABLE, "timestamp");
        let without = |name: &str| {
            of_main.iter().filter(|column| column.name != name).cloned().collect::<Vec<_>>()
        };
        let ours = [of_main.clone(), vec![column(MAIN_TABLE, OURS)]].concat();
        let keyless: Vec<FoundColumn> = of_main
            .iter()
            .map(|column| FoundColumn { leads_key: false, ..column.clone() })
            .collect();
        let view = FoundTable { engine: None, ..found(MAIN_TABLE) };
        for (table, columns, named) in [
            (main(), ours, "the monthly job has renamed it"),
            (main(), without("id"), "ADD COLUMN id BIGINT"),
            (main(), keyless, "ADD PRIMARY KEY (id)"),
            (main(), without("timestamp"), "has no column timestamp"),
            ((MAIN_TABLE.to_owned(), view), of_main.clone(), "is a view"),
            (("sys_user".to_owned(), found("sys_user")), of_main.clone(), "check --from-database"),
        ] {
            let found = sources("old", false, &[table].into(), &columns);
            let problems = problems(&found, &columns);
            assert!(problems.len() == 1 && problems[0].contains(named), "{named}: {problems:?}");
        }
    }
}
