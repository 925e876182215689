//! Writes the upserts of the daily and the weekly table.

use std::collections::BTreeMap;

use ljwx_reading::wall_text;

use super::periods::{
    DAILY, DocumentContent, Period, PeriodDocuments, PeriodKey, PeriodTable, Periods, WEEKLY,
};
use crate::batch::row::FillOnlyIds;
use ljwx_ledger::mysql::sql::{Dialect, ValueList, fill};

/// The texts of both tables' upserts, without their rows.
#[derive(Debug, Clone)]
pub struct PeriodStatements {
    daily: PeriodUpsertTexts,
    weekly: PeriodUpsertTexts,
}

#[derive(Debug, Clone)]
struct PeriodUpsertTexts {
    head: String,
    /// Tails of rows with documents, by the ids that only fill.
    whole: Vec<String>,
    /// Tails of rows that only move guards, by the ids that only fill.
    moved: Vec<String>,
}

/// An upsert of periods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeriodUpsert {
    pub text: String,
    /// The number of its rows, if every row must exist and change.
    pub known: Option<i64>,
}

impl PeriodStatements {
    /// Creates the statements in the dialect of one server.
    pub fn new(dialect: Dialect) -> Self {
        Self {
            daily: PeriodUpsertTexts::new(dialect, &DAILY),
            weekly: PeriodUpsertTexts::new(dialect, &WEEKLY),
        }
    }

    /// Returns the upserts of both tables, in texts of at most `bytes_max` bytes.
    pub fn upserts(&self, calendar: &PeriodDocuments<'_>, bytes_max: usize) -> Vec<PeriodUpsert> {
        let days = self.daily.upserts(&calendar.days, bytes_max);
        days.into_iter().chain(self.weekly.upserts(&calendar.weeks, bytes_max)).collect()
    }
}

impl PeriodUpsertTexts {
    fn new<const N: usize>(dialect: Dialect, kind: &PeriodTable<N>) -> Self {
        let tails = |guarded: fn(Dialect, &str, &[&str]) -> String| {
            FillOnlyIds::all().map(|fills| tail(dialect, kind, fills, guarded)).collect()
        };
        Self { head: head(kind), whole: tails(written), moved: tails(moved) }
    }

    /// Returns the upserts of one table. Rows that only move a guard have statements of their own,
    /// so that a missing row is noticed.
    fn upserts<const N: usize>(
        &self,
        periods: &Periods<'_, N>,
        bytes_max: usize,
    ) -> Vec<PeriodUpsert> {
        let mut groups: BTreeMap<(bool, FillOnlyIds), Vec<(&PeriodKey<'_>, &Period<'_, N>)>> =
            BTreeMap::new();
        for (key, period) in periods {
            let fills = FillOnlyIds::of(period.ids, period.bound);
            groups.entry((period.moves_only(), fills)).or_default().push((key, period));
        }
        let mut upserts = Vec::with_capacity(groups.len());
        for ((moves_only, fills), rows) in groups {
            let tail = &if moves_only { &self.moved } else { &self.whole }[fills.index()];
            let texts = fill(&self.head, tail, bytes_max, rows.into_iter(), row);
            let upsert = |(text, rows)| PeriodUpsert { text, known: moves_only.then_some(rows) };
            upserts.extend(texts.into_iter().map(upsert));
        }
        upserts
    }
}

fn row<const N: usize>(
    rows: &mut ValueList,
    ((device_sn, day), period): (&PeriodKey<'_>, &Period<'_, N>),
) {
    let ids = period.ids.or(period.bound);
    rows.string(device_sn.as_str());
    rows.date(*day);
    rows.whole(period.id);
    rows.number(ids.user_id);
    rows.number(ids.org_id);
    rows.whole(ids.customer_id.unwrap_or(0));
    for slot in &period.documents {
        match slot.map(|slot| slot.content) {
            Some(DocumentContent::Document(document)) => rows.string(document.as_str()),
            // If this row is inserted, the transaction is rolled back. So the column is free for
            // the source to compare.
            Some(DocumentContent::Unchanged(source)) => rows.string(&source.to_string()),
            None => rows.optional_string(None),
        }
        let (at, source) = slot.map(|slot| slot.guard).unzip();
        rows.optional_string(at.map(wall_text).as_deref());
        rows.number(source);
    }
}

fn head<const N: usize>(kind: &PeriodTable<N>) -> String {
    let PeriodTable { table, day, columns } = kind;
    let mut head = format!("INSERT INTO {table} (device_sn,{day},id,user_id,org_id,customer_id");
    for column in columns {
        head.push_str(&format!(",{column},{column}_at,{column}_source"));
    }
    head.push_str(") VALUES");
    head
}

fn tail<const N: usize>(
    dialect: Dialect,
    kind: &PeriodTable<N>,
    fills: FillOnlyIds,
    guarded: fn(Dialect, &str, &[&str]) -> String,
) -> String {
    // Qualify the name: beside a row alias a bare name is ambiguous.
    let stored = |column: &str| format!("{}.`{column}`", kind.table);
    let mut tail = format!("{} ON DUPLICATE KEY UPDATE ", dialect.alias());
    tail.push_str(&guarded(dialect, kind.table, &kind.columns));
    for (id, fills) in
        [("user_id", fills.has(FillOnlyIds::USER)), ("org_id", fills.has(FillOnlyIds::ORG))]
    {
        let (new, old) = (dialect.incoming(id), stored(id));
        tail.push_str(&if fills {
            format!("{id}=COALESCE({old},{new}),")
        } else {
            format!("{id}=COALESCE(GREATEST({old},{new}),{old},{new}),")
        });
    }
    let (new, old) = (dialect.incoming("customer_id"), stored("customer_id"));
    tail.push_str(&if fills.has(FillOnlyIds::CUSTOMER) {
        format!("customer_id=IF({old}=0,{new},{old})")
    } else {
        format!("customer_id=GREATEST({old},{new})")
    });
    tail
}

/// Returns the assignments of documents and their guards.
fn written(dialect: Dialect, table: &str, columns: &[&str]) -> String {
    columns.iter().map(|column| written_one(dialect, table, column)).collect()
}

fn written_one(dialect: Dialect, table: &str, column: &str) -> String {
    let (at, source) = (format!("{column}_at"), format!("{column}_source"));
    let (new_at, new_source) = (dialect.incoming(&at), dialect.incoming(&source));
    let (old_at, old_source) = (format!("{table}.`{at}`"), format!("{table}.`{source}`"));
    let (new, old) = (dialect.incoming(column), format!("{table}.`{column}`"));
    let wins = format!(
        "{new_at} IS NOT NULL AND ({old_at} IS NULL OR {new_at}>{old_at} OR \
         ({new_at}={old_at} AND {new_source}>={old_source}))"
    );
    // Assign the time last: the conditions read it, and it always becomes the larger time.
    format!(
        "{column}=IF({wins},{new},{old}),{source}=IF({wins},{new_source},{old_source}),\
         {at}=COALESCE(GREATEST({old_at},{new_at}),{old_at},{new_at}),"
    )
}

/// Returns the assignments of guards alone: all guards of a row move, or none. A row that stays
/// unchanged shows that a stored document is not the expected one.
fn moved(dialect: Dialect, table: &str, columns: &[&str]) -> String {
    let stored = |column: &str| format!("{table}.`{column}_source`");
    let is = |column: &&str, source: String| {
        format!("({} IS NULL OR {}={source})", dialect.incoming(column), stored(column))
    };
    let meant = |column: &&str| is(column, format!("CAST({} AS SIGNED)", dialect.incoming(column)));
    let taken = |column: &&str| is(column, dialect.incoming(&format!("{column}_source")));
    let mut assignments = String::new();
    let all = columns.iter().map(meant).collect::<Vec<_>>().join(" AND ");
    for column in columns {
        let (new, old) =
            (dialect.incoming(&format!("{column}_at")), format!("{table}.`{column}_at`"));
        assignments.push_str(&format!("{column}_at=IF({all},COALESCE({new},{old}),{old}),"));
    }
    for (index, column) in columns.iter().enumerate() {
        // If all documents match, the sources before this column are already the new ones.
        let (before, after) = columns.split_at(index);
        let all = before.iter().map(taken).chain(after.iter().map(meant)).collect::<Vec<_>>();
        let (new, old) = (dialect.incoming(&format!("{column}_source")), stored(column));
        let all = all.join(" AND ");
        assignments.push_str(&format!("{column}_source=IF({all},COALESCE({new},{old}),{old}),"));
    }
    assignments
}
