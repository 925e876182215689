//! Multi-row upserts of the same values, as text and as statements with parameters.

use std::fmt::Write;
use std::sync::Arc;

use sqlx::Arguments;
use sqlx::mysql::MySqlArguments;

use crate::bench::workload::{Documents, Sample};
use crate::fleet::TENANT;
use crate::stack::world::World;

/// A column's value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Whole(i64),
    Real(f64),
    Text(String),
    Null,
}

/// One table's upsert.
#[derive(Debug, Clone)]
pub(super) struct Upsert {
    head: String,
    tail: String,
}

/// The upserts of all tables of readings. Each is the least that stores what the worker stores.
#[derive(Debug, Clone)]
pub(super) struct Upserts {
    pub(super) main: Upsert,
    pub(super) daily: Upsert,
    pub(super) weekly: Upsert,
}

const MAIN: &str = "device_sn,timestamp,id,user_id,org_id,heart_rate,blood_oxygen,temperature,\
    pressure_high,pressure_low,stress,step,distance,calorie,latitude,longitude,altitude,sleep,\
    customer_id,upload_method,user_name,deliveries,last_source";

impl Upserts {
    /// Creates the upserts in the dialect of the world's database.
    pub(super) async fn new(world: &World) -> anyhow::Result<Self> {
        let version = &world.database.version().await?;
        let period = |table: &str, day: &str, document: &str| {
            let ids = "id,user_id,org_id,customer_id";
            let columns =
                format!("device_sn,{day},{ids},{document},{document}_at,{document}_source");
            Upsert::new(version, table, &columns)
        };
        Ok(Self {
            main: Upsert::new(version, "t_user_health_data", MAIN),
            daily: period("t_user_health_data_daily", "date", "exercise_daily_data"),
            weekly: period("t_user_health_data_weekly", "week_start", "exercise_week_data"),
        })
    }
}

impl Upsert {
    /// Creates an upsert. The first two columns are the key, the third is the id that stays.
    fn new(version: &str, table: &str, columns: &str) -> Self {
        // MariaDB rejects the alias; MySQL warns of VALUES().
        let maria = version.contains("MariaDB");
        let updates = columns.split(',').skip(3).map(|column| {
            if maria {
                format!("{column}=VALUES({column})")
            } else {
                format!("{column}=new.{column}")
            }
        });
        let updates: Vec<String> = updates.collect();
        let alias = if maria { "" } else { " AS new" };
        Self {
            head: format!("INSERT INTO {table} ({columns}) VALUES "),
            tail: format!("{alias} ON DUPLICATE KEY UPDATE {}", updates.join(",")),
        }
    }

    /// Returns the statement with the values in its text.
    pub(super) fn text(&self, rows: &[Vec<Value>]) -> String {
        let mut text = self.head.clone();
        for (row, values) in rows.iter().enumerate() {
            for (column, value) in values.iter().enumerate() {
                text.push_str(match (row, column) {
                    (0, 0) => "(",
                    (_, 0) => "),(",
                    _ => ",",
                });
                // Writing to a String cannot fail.
                let _ = match value {
                    Value::Whole(value) => write!(text, "{value}"),
                    Value::Real(value) => write!(text, "{value}"),
                    Value::Text(value) => write!(text, "'{value}'"),
                    Value::Null => write!(text, "NULL"),
                };
            }
        }
        text + ")" + &self.tail
    }

    /// Returns the statement with a parameter for each value. Equal numbers of rows give equal
    /// text.
    pub(super) fn prepared(
        &self,
        rows: &[Vec<Value>],
    ) -> anyhow::Result<(Arc<str>, MySqlArguments)> {
        let mut arguments = MySqlArguments::default();
        for value in rows.iter().flatten() {
            match value {
                Value::Whole(value) => arguments.add(value),
                Value::Real(value) => arguments.add(value),
                Value::Text(value) => arguments.add(value),
                Value::Null => arguments.add(None::<i64>),
            }
            .map_err(|error| anyhow::anyhow!(error))?;
        }
        let row = vec!["?"; rows.first().map_or(0, Vec::len)].join(",");
        let rows = vec![format!("({row})"); rows.len()].join(",");
        Ok((format!("{}{rows}{}", self.head, self.tail).into(), arguments))
    }
}

impl Sample {
    /// Returns partition and offset as one number, as in the worker's rows.
    fn source(&self) -> i64 {
        ((self.partition as i64) << 40) + self.offset
    }

    /// Returns the row of the main table.
    pub(super) fn row(&self) -> Vec<Value> {
        use Value::{Null, Real, Text, Whole};
        let source = self.source();
        vec![
            Text(self.device.clone()),
            Text(self.time.clone()),
            Whole(source),
            Whole(self.user),
            Whole(TENANT + 1),
            Whole(self.heart_rate as i64),
            Whole(97),
            Real(36.5),
            Whole(125),
            Whole(86),
            Null,
            Whole(self.step as i64),
            Real(820.0),
            Real(41230.0),
            Real(22.540368),
            Real(114.01509),
            Real(0.0),
            Null,
            Whole(TENANT),
            Text("wifi".into()),
            Text(String::new()),
            Whole(1),
            Whole(source),
        ]
    }

    /// Returns the rows of the daily and the weekly table.
    pub(super) fn periods(&self) -> Option<(Vec<Value>, Vec<Value>)> {
        let Documents { daily, weekly } = self.documents.as_ref()?;
        let day: jiff::civil::Date = self.time.get(..10)?.parse().ok()?;
        let since = i64::from(day.weekday().to_monday_zero_offset());
        let monday = day.checked_sub(jiff::Span::new().days(since)).ok()?;
        let row = |first: String, document: &String| {
            use Value::{Text, Whole};
            let source = self.source();
            vec![
                Text(self.device.clone()),
                Text(first),
                Whole(source),
                Whole(self.user),
                Whole(TENANT + 1),
                Whole(TENANT),
                Text(document.clone()),
                Text(self.time.clone()),
                Whole(source),
            ]
        };
        Some((row(day.to_string(), daily), row(monday.to_string(), weekly)))
    }
}
