//! `worker export`: writes what is stored of a device or a user to standard output, one JSON document
//! a line.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use anyhow::Context;
use futures_util::TryStreamExt;
use ljwx_ledger::mysql::MySqlPool;
use serde_json::{Map, Value, json};
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, Column, Row};
use tracing::{info, warn};

use super::args::{EXIT_NOTHING, SEARCH_TIMEOUT, SubjectArgs};
use super::holdings::{HASHES, JOURNAL_LINES};
use super::parts::TablePart;
use super::redis_hash::DeviceHashes;
use super::subject::Subject;
use super::{alert_state, topics};
use crate::commands::dlq::record::KeptRecord;
use crate::redis::hash_key;

/// Writes lines of JSON, and counts them.
struct Lines<W: Write> {
    out: W,
    count: u64,
}

impl<W: Write> Lines<W> {
    fn write(&mut self, place: &str, row: Value) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, &json!({ "from": place, "row": row }))?;
        self.count += 1;
        writeln!(self.out)
    }
}

/// Writes everything. The exit code tells whether there was anything.
pub async fn run(config: &SubjectArgs) -> anyhow::Result<ExitCode> {
    let pool = config.mysql.connect(&config.zone.zone)?.with_limit(SEARCH_TIMEOUT);
    let hashes = DeviceHashes::connect(config).await?;
    let subject = Subject::find(&pool, config).await?;
    let mut lines = Lines { out: BufWriter::new(io::stdout()), count: 0 };
    for scope in &subject.scopes {
        for part in scope.tables() {
            write_rows(&pool, &part, &mut lines).await?;
        }
        let journal = alert_state::lines(&pool, scope).await;
        for (partition, line) in journal.context("cannot read t_alert_journal")? {
            lines.write(JOURNAL_LINES, json!({ "kafka_partition": partition, "line": line }))?;
        }
        let fields = hashes.read(scope).await?;
        if !fields.is_empty() {
            lines.write(HASHES, json!({ "key": hash_key(&scope.device_sn), "fields": fields }))?;
        }
    }
    for part in subject.user_tables() {
        write_rows(&pool, &part, &mut lines).await?;
    }
    lines.out.flush()?;
    let config_there = config.clone();
    let kept = tokio::task::spawn_blocking(move || write_kept(&config_there, &subject));
    let written = lines.count + kept.await??;
    if written == 0 {
        warn!("nothing is stored of {}", config.name());
        return Ok(ExitCode::from(EXIT_NOTHING));
    }
    info!(lines = written, "exported");
    Ok(ExitCode::SUCCESS)
}

async fn write_rows<W: Write>(
    pool: &MySqlPool,
    TablePart { table, condition }: &TablePart,
    lines: &mut Lines<W>,
) -> anyhow::Result<()> {
    let mut connection = pool.acquire().await?;
    // As text, so that every variant of the platform's tables reads alike. `sql::literal` has escaped
    // the serial number.
    let query = sqlx::raw_sql(AssertSqlSafe(format!("SELECT * FROM {table} WHERE {condition}")));
    let mut rows = query.fetch(&mut connection);
    while let Some(row) = rows.try_next().await.with_context(|| format!("cannot read {table}"))? {
        lines.write(table, fields(&row)?)?;
    }
    Ok(())
}

/// Returns the columns of a row as MySQL writes them. Numbers stay texts: ids of the platform are too
/// large for many readers of JSON.
fn fields(row: &MySqlRow) -> Result<Value, sqlx::Error> {
    let mut fields = Map::new();
    for column in row.columns() {
        let value: Option<Vec<u8>> = row.try_get_unchecked(column.ordinal())?;
        let text = value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        fields.insert(column.name().to_owned(), text.into());
    }
    Ok(Value::Object(fields))
}

/// Writes rejects and dead letters. Returns their number. Blocks.
fn write_kept(config: &SubjectArgs, subject: &Subject) -> anyhow::Result<u64> {
    let mut lines = Lines { out: BufWriter::new(io::stdout()), count: 0 };
    for (topic, kind) in topics::kept_topics(config) {
        topics::read_kept(config, subject, (topic.as_str(), kind), |record| {
            Ok(lines.write(&topic, described(record))?)
        })?;
    }
    lines.out.flush()?;
    Ok(lines.count)
}

fn described(record: &KeptRecord) -> Value {
    let headers = record.headers.iter();
    let headers: Map<String, Value> = headers
        .map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into()))
        .collect();
    let value =
        record.value.as_ref().map(|_| String::from_utf8_lossy(&record.opened()).into_owned());
    json!({
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "headers": headers,
        "value": value,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_line_with_its_place() {
        let record = KeptRecord {
            partition: 1,
            offset: 2,
            timestamp_ms: 3,
            key: Some(b"A1".to_vec()),
            value: Some(b"{\"id\": \"A1\"}".to_vec()),
            headers: vec![("code".to_owned(), b"out_of_range".to_vec())],
        };
        let mut lines = Lines { out: Vec::new(), count: 0 };
        lines.write("rejects", described(&record)).unwrap();
        lines.write("rejects", described(&KeptRecord { value: None, ..record })).unwrap();
        assert_eq!(lines.count, 2);
        let text = String::from_utf8(lines.out).unwrap();
        let read = |line: &str| serde_json::from_str::<Value>(line).unwrap();
        let read: Vec<_> = text.lines().map(read).collect();
        assert_eq!(read[0]["from"], "rejects");
        assert_eq!(read[0]["row"]["headers"]["code"], "out_of_range");
        assert_eq!(read[0]["row"]["value"], "{\"id\": \"A1\"}");
        assert!(read[1]["row"]["value"].is_null() && read[1]["row"]["offset"] == 2);
    }
}
