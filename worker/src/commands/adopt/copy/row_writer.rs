//! Stores the rows of a chunk, and sets aside what cannot be stored.

use std::collections::BTreeSet;
use std::slice;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ljwx_ledger::mysql::errors::{self, Remedy};
use ljwx_ledger::mysql::sql::Dialect;
use ljwx_ledger::mysql::{MySqlConnection, server_version};
use sqlx::AssertSqlSafe;

use super::super::adopted_rows::{AdoptedRow, AdoptedStatements, OldPeriod, documents, merge};
use super::super::old_row::{Clock, OldRow, SetAside, read_period, read_reading};
use super::super::source::{Source, TableKind};
use crate::batch::row::{Identity, identity};
use crate::mysql::daily_weekly::PeriodStatements;
use crate::mysql::packet_limit::PacketLimit;

/// The reason to set a row aside whose values MySQL rejects.
const REJECTED_BY_MYSQL: &str = "rejected_by_mysql";

/// Stores old rows.
pub struct RowWriter<'a> {
    zone: &'a TimeZone,
    statements: AdoptedStatements,
    period_statements: PeriodStatements,
    text_max: usize,
}

impl<'a> RowWriter<'a> {
    /// Creates a writer with the statements of the connection's server.
    pub async fn new(
        connection: &mut MySqlConnection,
        zone: &'a TimeZone,
    ) -> Result<Self, sqlx::Error> {
        let dialect = Dialect::of_version(&server_version::query(connection).await?);
        Ok(Self {
            zone,
            statements: AdoptedStatements::new(dialect),
            period_statements: PeriodStatements::new(dialect),
            text_max: PacketLimit::default().text_max(connection).await?,
        })
    }

    /// Stores rows of a table, and what is set aside of them.
    pub async fn write(
        &self,
        connection: &mut MySqlConnection,
        source: &Source,
        rows: &[OldRow],
    ) -> Result<(), sqlx::Error> {
        let aside = if source.kind.has_readings() {
            self.readings(connection, rows).await?
        } else {
            self.periods(connection, source.kind, rows).await?
        };
        for text in self.statements.set_aside(&source.name, &aside, self.text_max) {
            execute(connection, text).await?;
        }
        Ok(())
    }

    /// Stores readings. Returns what was set aside.
    async fn readings(
        &self,
        connection: &mut MySqlConnection,
        rows: &[OldRow],
    ) -> Result<Vec<SetAside>, sqlx::Error> {
        let clock = Clock { zone: self.zone, now: Timestamp::now() };
        let (readings, mut aside) = read(rows, |row| read_reading(row, clock));
        let merged = merge(readings);
        let mut left = merged.iter();
        let mut rejected = BTreeSet::new();
        for (text, count) in self.statements.upserts(merged.iter(), self.text_max) {
            let these: Vec<_> = left.by_ref().take(count as usize).collect();
            if !accepts(connection, text).await? {
                rejected.extend(self.one_by_one(connection, these).await?);
            }
        }
        if !rejected.is_empty() {
            let is_rejected = |row: &&OldRow| {
                read_reading(row, clock)
                    .is_ok_and(|(old, _)| rejected.contains(&identity(&old.reading)))
            };
            let rows = rows.iter().filter(is_rejected);
            aside.extend(rows.map(|row| row.set_aside(REJECTED_BY_MYSQL)));
        }
        Ok(aside)
    }

    /// Stores each row by a statement of its own. Returns the identities of those that MySQL rejects.
    async fn one_by_one(
        &self,
        connection: &mut MySqlConnection,
        rows: Vec<(&Identity, &AdoptedRow)>,
    ) -> Result<Vec<Identity>, sqlx::Error> {
        let mut rejected = Vec::new();
        for row in rows {
            for (text, _) in self.statements.upserts(std::iter::once(row), self.text_max) {
                if !accepts(connection, text).await? {
                    rejected.push(row.0.clone());
                }
            }
        }
        Ok(rejected)
    }

    /// Stores documents. Returns what was set aside.
    async fn periods(
        &self,
        connection: &mut MySqlConnection,
        kind: TableKind,
        rows: &[OldRow],
    ) -> Result<Vec<SetAside>, sqlx::Error> {
        let clock = Clock { zone: self.zone, now: Timestamp::now() };
        let (periods, mut aside) = read(rows, |row| {
            let (reading, values) = read_period(row, kind.time_column(), clock)?;
            Ok((OldPeriod { old_id: row.id, reading }, values))
        });
        if self.accepts_periods(connection, kind, &periods).await? {
            return Ok(aside);
        }
        // What was stored before the rejection is stored again, with the same guards.
        for period in &periods {
            if !self.accepts_periods(connection, kind, slice::from_ref(period)).await? {
                let row = rows.iter().find(|row| row.id == period.old_id);
                aside.extend(row.map(|row| row.set_aside(REJECTED_BY_MYSQL)));
            }
        }
        Ok(aside)
    }

    /// Stores the documents of old rows. Returns whether MySQL accepts all their values.
    async fn accepts_periods(
        &self,
        connection: &mut MySqlConnection,
        kind: TableKind,
        periods: &[OldPeriod],
    ) -> Result<bool, sqlx::Error> {
        let documents = documents(kind, periods);
        for upsert in self.period_statements.upserts(&documents, self.text_max) {
            if !accepts(connection, upsert.text).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Reads rows. Returns what can be stored of them, and what is set aside: single values and whole rows.
fn read<T>(
    rows: &[OldRow],
    read: impl Fn(&OldRow) -> Result<(T, Vec<SetAside>), SetAside>,
) -> (Vec<T>, Vec<SetAside>) {
    let (mut usable, mut aside) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        match read(row) {
            Ok((one, values)) => {
                usable.push(one);
                aside.extend(values);
            }
            Err(whole) => aside.push(whole),
        }
    }
    (usable, aside)
}

/// Executes a statement. Returns whether MySQL accepts its values.
async fn accepts(connection: &mut MySqlConnection, text: String) -> Result<bool, sqlx::Error> {
    match execute(connection, text).await {
        Err(error) if errors::remedy(&error) == Remedy::Data => Ok(false),
        executed => executed.map(|()| true),
    }
}

async fn execute(connection: &mut MySqlConnection, text: String) -> Result<(), sqlx::Error> {
    // Safe: `sql::ValueList` has escaped every value.
    sqlx::raw_sql(AssertSqlSafe(text)).execute(connection).await.map(drop)
}
