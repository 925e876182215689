//! `worker adopt compare`: looks at every old row, or at a sample, and at what is stored of it. Reads only.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use ljwx_ledger::mysql::MySqlConnection;
use ljwx_ledger::mysql::sql;
use ljwx_reading::{DeviceSn, Reading, wall_text};
use ljwx_service::text::print_found;
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::args::{AdoptArgs, CompareArgs};
use super::compare_report::{
    ComparisonReport, STORED_COLUMNS, StoredDocument, StoredRow, TableComparison, differences,
    document_differences, stored_columns,
};
use super::copy::{is_same_table, pause};
use super::old_row::{Clock, DOCUMENT_COLUMNS, OldReading, OldRow, read_period, read_reading};
use super::old_table::{self, BEFORE_FIRST};
use super::plan::Plan;
use super::progress::{self, Progress};
use super::source::{Source, TableKind};
use crate::batch::row::{Identity, identity};
use crate::mysql::daily_weekly::monday;
use crate::mysql::main_table::MAIN_TABLE;

/// Most identities of one query.
const IDENTITIES_MAX: usize = 200;

/// The first columns of documents are those of days.
const DOCUMENTS_OF_DAYS: usize = 4;

/// A device and the first day of a period.
type PeriodIdentity = (DeviceSn, Date);

/// The stored documents of a period, by column.
type StoredDocuments = BTreeMap<&'static str, StoredDocument>;

/// Compares, and prints the report. The exit code is the result.
pub async fn compare(config: &AdoptArgs, args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let pool = config.mysql.connect(&config.zone.zone)?;
    let mut connection = pool.acquire().await.context("MySQL does not answer")?;
    let from = config.from_database.as_deref();
    let plan = Plan::read(&mut connection, from, config.rows_per_second).await?;
    plan.ensure_adoptable()?;
    let progress = progress::read_all(&mut connection).await?;
    let clock = Clock { zone: &config.zone.zone, now: Timestamp::now() };
    let mut comparison = Comparison {
        connection: &mut connection,
        clock,
        sample: usize::from(args.sample),
        rows_per_second: config.rows_per_second,
        report: ComparisonReport::default(),
    };
    for source in &plan.sources {
        let is_only = !source.kind.has_readings()
            && plan.sources.iter().filter(|one| one.kind == source.kind).count() == 1
            && old_table::is_unique(comparison.connection, &plan.from_database, source).await?;
        comparison.table(source, progress.get(&source.name), is_only).await?;
    }
    let report = comparison.report.conclude();
    print_found(args.json, &report, &mut io::stdout(), ComparisonReport::print)?;
    Ok(if report.holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A comparison under way.
struct Comparison<'a> {
    connection: &'a mut MySqlConnection,
    clock: Clock<'a>,
    /// Part of the pages to compare, in percent.
    sample: usize,
    rows_per_second: u32,
    report: ComparisonReport,
}

impl Comparison<'_> {
    /// Compares the rows of a table that are copied, and counts the others.
    async fn table(
        &mut self,
        source: &Source,
        progress: Option<&Progress>,
        is_only: bool,
    ) -> Result<(), sqlx::Error> {
        let mut counts =
            TableComparison { table: source.table.clone(), ..TableComparison::default() };
        let mut copied_to = progress.and_then(|progress| progress.copied_to);
        if let Some(progress) = progress
            && !is_same_table(self.connection, source, progress).await?
        {
            copied_to = None;
        }
        let copied_to = copied_to.unwrap_or(BEFORE_FIRST);
        counts.behind = old_table::count_after(self.connection, source, copied_to).await?;
        let (mut after, mut page) = (BEFORE_FIRST, 0);
        while after < copied_to {
            let (begun, before) = (Instant::now(), counts.compared);
            let end = old_table::page_end(self.connection, source, after, None).await?;
            let Some(to) = end.map(|end| end.min(copied_to)) else { break };
            // Spread the pages of the sample evenly.
            if page * self.sample % 100 < self.sample {
                let rows = old_table::rows(self.connection, source, (after, to), None).await?;
                let aside = self.set_aside(source, (after, to)).await?;
                let (aside, rows): (Vec<_>, Vec<_>) =
                    rows.into_iter().partition(|row| aside.contains(&row.id));
                counts.set_aside += aside.len() as i64;
                counts.compared += (aside.len() + rows.len()) as i64;
                if source.kind.has_readings() {
                    self.readings(source, &rows, &mut counts).await?;
                } else {
                    self.periods(source, &rows, is_only, &mut counts).await?;
                }
            }
            (after, page) = (to, page + 1);
            let read = (counts.compared - before) as usize;
            tokio::time::sleep(pause(read, self.rows_per_second, begun.elapsed())).await;
        }
        self.report.tables.push(counts);
        Ok(())
    }

    /// Returns the ids of rows that were set aside whole.
    async fn set_aside(
        &mut self,
        source: &Source,
        (after, to): (i64, i64),
    ) -> Result<HashSet<i64>, sqlx::Error> {
        let ids: Vec<i64> = sqlx::query_scalar(
            "SELECT source_id FROM adopt_set_aside \
             WHERE source_table = ? AND source_id > ? AND source_id <= ? AND field = ''",
        )
        .bind(&source.name)
        .bind(after)
        .bind(to)
        .fetch_all(&mut *self.connection)
        .await?;
        Ok(ids.into_iter().collect())
    }

    async fn readings(
        &mut self,
        source: &Source,
        rows: &[OldRow],
        counts: &mut TableComparison,
    ) -> Result<(), sqlx::Error> {
        let olds: Vec<_> =
            rows.iter().filter_map(|row| Some(read_reading(row, self.clock).ok()?.0)).collect();
        // What cannot become a reading and was not set aside is lost.
        counts.missing += (rows.len() - olds.len()) as i64;
        for olds in olds.chunks(IDENTITIES_MAX) {
            let stored = self.stored_rows(olds).await?;
            for old in olds {
                let (device_sn, at) = identity(&old.reading);
                self.report.see(&device_sn);
                let day = at.date();
                let Some(stored) = stored.get(&(device_sn.clone(), at)) else {
                    counts.missing += 1;
                    self.report.add(&source.table, &device_sn, day, &[]);
                    continue;
                };
                counts.live += i64::from(!stored.is_adopted());
                counts.older += i64::from(stored.is_adopted() && stored.id != old.id());
                let columns = differences(old, stored);
                if !columns.is_empty() {
                    counts.differing += 1;
                    self.report.add(&source.table, &device_sn, day, &columns);
                }
            }
        }
        Ok(())
    }

    async fn stored_rows(
        &mut self,
        olds: &[OldReading],
    ) -> Result<HashMap<Identity, StoredRow>, sqlx::Error> {
        let wanted: Vec<String> = olds
            .iter()
            .map(|OldReading { reading, .. }| {
                let device = sql::literal(reading.device_sn().as_str());
                // Pairs are spelled out: MariaDB uses no index for a list of pairs.
                format!("(device_sn={device} AND timestamp='{}')", wall_text(reading.timestamp()))
            })
            .collect();
        let query = format!(
            "SELECT device_sn,timestamp,id,last_source,deliveries,{} FROM {MAIN_TABLE} WHERE {}",
            stored_columns().collect::<Vec<_>>().join(","),
            wanted.join(" OR ")
        );
        // Safe: `sql::literal` has escaped the serial numbers.
        let rows = sqlx::raw_sql(AssertSqlSafe(query)).fetch_all(&mut *self.connection).await?;
        let mut stored = HashMap::with_capacity(rows.len());
        for row in &rows {
            let mut values = Vec::with_capacity(STORED_COLUMNS);
            for index in 0..STORED_COLUMNS {
                values.push(text(row, index + 5)?);
            }
            let at = text(row, 1)?.and_then(|at| at.parse::<DateTime>().ok());
            let device_sn = text(row, 0)?.and_then(|sn| DeviceSn::new(&sn));
            if let (Some(device_sn), Some(at)) = (device_sn, at) {
                let (id, last_source, deliveries) =
                    (number(row, 2)?, number(row, 3)?, number(row, 4)?);
                let row = StoredRow { id, last_source, deliveries, values };
                stored.insert((device_sn, at), row);
            }
        }
        Ok(stored)
    }

    async fn periods(
        &mut self,
        source: &Source,
        rows: &[OldRow],
        is_only: bool,
        counts: &mut TableComparison,
    ) -> Result<(), sqlx::Error> {
        let kind = source.kind;
        let olds: Vec<Reading> = rows
            .iter()
            .filter_map(|row| Some(read_period(row, kind.time_column(), self.clock).ok()?.0))
            .collect();
        counts.missing += (rows.len() - olds.len()) as i64;
        for olds in olds.chunks(IDENTITIES_MAX) {
            let keys: Vec<PeriodIdentity> =
                olds.iter().filter_map(|old| key_of(kind, old)).collect();
            let stored = self.stored_documents(kind, &keys).await?;
            for old in olds {
                let Some(key) = key_of(kind, old) else { continue };
                let Some(stored) = stored.get(&key) else {
                    counts.missing += 1;
                    self.report.add(&source.table, &key.0, key.1, &[]);
                    continue;
                };
                let columns = document_differences(old.documents(), stored, is_only);
                if !columns.is_empty() {
                    counts.differing += 1;
                    self.report.add(&source.table, &key.0, key.1, &columns);
                }
            }
        }
        Ok(())
    }

    async fn stored_documents(
        &mut self,
        kind: TableKind,
        keys: &[PeriodIdentity],
    ) -> Result<HashMap<PeriodIdentity, StoredDocuments>, sqlx::Error> {
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let (of_days, of_weeks) = DOCUMENT_COLUMNS.split_at(DOCUMENTS_OF_DAYS);
        let (table, columns) = match kind {
            TableKind::Weekly => ("t_user_health_data_weekly", of_weeks),
            _ => ("t_user_health_data_daily", of_days),
        };
        let day = kind.time_column();
        let selected = columns.iter().map(|(column, _)| format!("{column},{column}_source"));
        let wanted = keys.iter().map(|(device_sn, date)| {
            format!("(device_sn={} AND `{day}`='{date}')", sql::literal(device_sn.as_str()))
        });
        let query = format!(
            "SELECT device_sn,`{day}`,{} FROM {table} WHERE {}",
            selected.collect::<Vec<_>>().join(","),
            wanted.collect::<Vec<_>>().join(" OR ")
        );
        let rows = sqlx::raw_sql(AssertSqlSafe(query)).fetch_all(&mut *self.connection).await?;
        let mut stored = HashMap::with_capacity(rows.len());
        for row in &rows {
            let mut documents = StoredDocuments::new();
            for (index, (column, _)) in columns.iter().enumerate() {
                let source = text(row, 3 + 2 * index)?.and_then(|source| source.parse().ok());
                documents.insert(*column, (text(row, 2 + 2 * index)?, source));
            }
            let date = text(row, 1)?.and_then(|date| date.parse::<Date>().ok());
            let device_sn = text(row, 0)?.and_then(|sn| DeviceSn::new(&sn));
            stored.extend(device_sn.zip(date).map(|key| (key, documents)));
        }
        Ok(stored)
    }
}

fn key_of(kind: TableKind, old: &Reading) -> Option<PeriodIdentity> {
    let date = old.timestamp().date();
    let first = if kind == TableKind::Weekly { monday(date)? } else { date };
    Some((old.device_sn().clone(), first))
}

/// Reads a column as text: unprepared statements return text for every type.
fn text(row: &MySqlRow, index: usize) -> Result<Option<String>, sqlx::Error> {
    row.try_get_unchecked(index)
}

fn number(row: &MySqlRow, index: usize) -> Result<i64, sqlx::Error> {
    Ok(text(row, index)?.and_then(|text| text.parse().ok()).unwrap_or_default())
}
