//! The three upserts. Assignments run from left to right and later ones see earlier results, so
//! whatever a condition looks at is assigned last.

use common::reading::wall_text;

use crate::batch::Segment;
use crate::daily::{DAILY_COLUMNS, Periods, WEEKLY_COLUMNS};
use crate::row::{Identity, Row};
use crate::sql::{Dialect, Rows};

const MAIN_TABLE: &str = "t_user_health_data";
const DAILY_TABLE: &str = "t_user_health_data_daily";
const WEEKLY_TABLE: &str = "t_user_health_data_weekly";

/// Columns of the main table that a later delivery overwrites where it has them.
const FIELDS: [&str; 15] = [
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

/// A typical row of the main table, in bytes of text.
const ROW_BYTES_EXPECTED: usize = 256;

/// The texts of all statements, apart from the rows.
#[derive(Debug, Clone)]
pub struct Statements {
    main_head: String,
    main_tail: String,
    daily_head: String,
    daily_tail: String,
    weekly_head: String,
    weekly_tail: String,
}

impl Statements {
    /// The statements in the words of one server.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            main_head: format!(
                "INSERT INTO {MAIN_TABLE} (device_sn,timestamp,id,{},customer_id,\
                 upload_method,user_name,deliveries,last_source) VALUES",
                FIELDS.join(",")
            ),
            main_tail: main_tail(dialect),
            daily_head: period_head(DAILY_TABLE, "date", &DAILY_COLUMNS),
            daily_tail: period_tail(dialect, DAILY_TABLE, &DAILY_COLUMNS),
            weekly_head: period_head(WEEKLY_TABLE, "week_start", &WEEKLY_COLUMNS),
            weekly_tail: period_tail(dialect, WEEKLY_TABLE, &WEEKLY_COLUMNS),
        }
    }

    /// The upserts of a segment, with the number of their rows: one of its merged rows, and one of
    /// each replay, since several of one identity must not meet in a statement.
    pub fn main(&self, segment: &Segment) -> Vec<(String, i64)> {
        // Sorted by key: two writers then lock in one order.
        let mut sorted: Vec<(&Identity, &Row)> = segment.rows.iter().collect();
        sorted.sort_unstable_by_key(|(identity, _)| *identity);
        let replays = segment.replays.iter().map(|(identity, row)| vec![(identity, row)]);
        [sorted]
            .into_iter()
            .chain(replays)
            .filter(|rows| !rows.is_empty())
            .map(|rows| (self.upsert(&rows), rows.len() as i64))
            .collect()
    }

    fn upsert(&self, sorted: &[(&Identity, &Row)]) -> String {
        let bytes = self.main_head.len() + self.main_tail.len() + sorted.len() * ROW_BYTES_EXPECTED;
        let mut text = String::with_capacity(bytes);
        text.push_str(&self.main_head);
        let mut rows = Rows::after(text);
        for (index, (identity, row)) in sorted.iter().enumerate() {
            main_row(&mut rows, index == 0, identity, row);
        }
        rows.finish(&self.main_tail)
    }

    /// The upsert of the daily table.
    pub fn daily(&self, periods: &Periods<'_, 4>) -> Option<String> {
        period_rows(&self.daily_head, &self.daily_tail, periods)
    }

    /// The upsert of the weekly table.
    pub fn weekly(&self, periods: &Periods<'_, 1>) -> Option<String> {
        period_rows(&self.weekly_head, &self.weekly_tail, periods)
    }
}

fn main_row(rows: &mut Rows, first: bool, (device_sn, timestamp): &Identity, row: &Row) {
    let vitals = &row.vitals;
    rows.begin(first);
    rows.string(device_sn.as_str());
    rows.datetime(Some(*timestamp));
    rows.whole(row.id);
    rows.number(row.ids.user_id);
    rows.number(row.ids.org_id);
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
    rows.whole(row.ids.customer_id.unwrap_or(0));
    rows.string(row.upload_method.as_str());
    rows.string("");
    rows.whole(row.deliveries);
    rows.whole(row.last_source);
    rows.end();
}

fn main_tail(dialect: Dialect) -> String {
    let table = MAIN_TABLE;
    let later = format!("{}>{table}.last_source", dialect.incoming("last_source"));
    let mut tail = format!("{} ON DUPLICATE KEY UPDATE ", dialect.alias());
    for field in FIELDS {
        let incoming = dialect.incoming(field);
        let stored = format!("{table}.`{field}`");
        tail.push_str(&format!(
            "`{field}`=IF({later},COALESCE({incoming},{stored}),COALESCE({stored},{incoming})),"
        ));
    }
    let customer = dialect.incoming("customer_id");
    tail.push_str(&format!(
        "customer_id=IF({customer}<>0 AND ({later} OR {table}.customer_id=0),{customer},{table}.customer_id),\
         upload_method=IF({later},{method},{table}.upload_method),\
         deliveries={table}.deliveries+{deliveries},\
         last_source=GREATEST({table}.last_source,{source})",
        method = dialect.incoming("upload_method"),
        deliveries = dialect.incoming("deliveries"),
        source = dialect.incoming("last_source"),
    ));
    tail
}

fn period_head(table: &str, day: &str, columns: &[&str]) -> String {
    let mut head = format!("INSERT INTO {table} (device_sn,{day},id,user_id,org_id,customer_id");
    for column in columns {
        head.push_str(&format!(",{column},{column}_at,{column}_source"));
    }
    head.push_str(") VALUES");
    head
}

fn period_tail(dialect: Dialect, table: &str, columns: &[&str]) -> String {
    // Qualified: beside a row alias a bare name would be ambiguous.
    let stored = |column: &str| format!("{table}.`{column}`");
    let mut tail = format!("{} ON DUPLICATE KEY UPDATE ", dialect.alias());
    for column in columns {
        let (at, source) = (format!("{column}_at"), format!("{column}_source"));
        let (new_at, new_source) = (dialect.incoming(&at), dialect.incoming(&source));
        let newer = format!(
            "{new_at} IS NOT NULL AND ({table_at} IS NULL OR {new_at}>{table_at} OR \
             ({new_at}={table_at} AND {new_source}>={table_source}))",
            table_at = stored(&at),
            table_source = stored(&source),
        );
        let value = dialect.incoming(column);
        // The guard's time last: it becomes the larger one whatever the condition says.
        tail.push_str(&format!(
            "{column}=IF({newer},{value},{old}),{source}=IF({newer},{new_source},{old_source}),\
             {at}=COALESCE(GREATEST({old_at},{new_at}),{old_at},{new_at}),",
            old = stored(column),
            old_source = stored(&source),
            old_at = stored(&at),
        ));
    }
    for id in ["user_id", "org_id"] {
        let (new, old) = (dialect.incoming(id), stored(id));
        tail.push_str(&format!("{id}=COALESCE(GREATEST({old},{new}),{old},{new}),"));
    }
    tail.push_str(&format!(
        "customer_id=GREATEST({},{})",
        stored("customer_id"),
        dialect.incoming("customer_id")
    ));
    tail
}

fn period_rows<const N: usize>(head: &str, tail: &str, periods: &Periods<'_, N>) -> Option<String> {
    if periods.is_empty() {
        return None;
    }
    let mut rows = Rows::after(head.to_owned());
    for (index, ((device_sn, day), period)) in periods.iter().enumerate() {
        rows.begin(index == 0);
        rows.string(device_sn.as_str());
        rows.date(*day);
        rows.whole(period.id);
        rows.number(period.ids.user_id);
        rows.number(period.ids.org_id);
        rows.whole(period.ids.customer_id.unwrap_or(0));
        for document in &period.documents {
            rows.optional_string(document.map(|(_, document)| document.as_str()));
            let at = document.map(|((at, _), _)| wall_text(at));
            rows.optional_string(at.as_deref());
            rows.number(document.map(|((_, source), _)| source));
        }
        rows.end();
    }
    Some(rows.finish(tail))
}
