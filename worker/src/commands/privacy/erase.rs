//! `worker erase`: removes what is stored of a device or a user, step by step.
//!
//! Each step removes what it finds, so a run that ended half-way is continued by the same command. The
//! alerters forget first, because they would write what they remember again.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use ljwx_ledger::mysql::MySqlPool;
use ljwx_ledger::mysql::removal::{self, ROWS_MAX};
use ljwx_reading::wall_text_of;
use ljwx_service::kafka::REQUEST_TIMEOUT;
use ljwx_service::kafka::topic_reader::TopicReader;

use super::args::{EXIT_NOTHING, EraseArgs, SEARCH_TIMEOUT};
use super::holdings::Holdings;
use super::parts::{ALERT_LOG, ALERTS, NOTIFICATIONS, STATES, TablePart};
use super::redis_hash::DeviceHashes;
use super::subject::{Scope, Subject};
use super::{alert_rows, alert_state, print, topics};
use crate::mysql::erased_rows;
use crate::mysql::main_table::MAIN_TABLE;

/// Where data is erased.
struct Stores {
    pool: MySqlPool,
    hashes: DeviceHashes,
    readings_topic: String,
}

/// Erases, or prints what would be erased. The exit code tells whether everything is as asked.
pub async fn run(config: &EraseArgs) -> anyhow::Result<ExitCode> {
    let (settings, mut out) = (&config.subject, io::stdout());
    let zone = &settings.zone.zone;
    let stores = Stores {
        pool: settings.mysql.connect(zone)?.with_limit(SEARCH_TIMEOUT),
        hashes: DeviceHashes::connect(settings).await?,
        readings_topic: settings.kafka.readings_topic.clone(),
    };
    let subject = Subject::find(&stores.pool, settings).await?;
    let found = Holdings::count(&stores.pool, &stores.hashes, &subject).await?;
    print::found(&settings.name(), &subject, &found, &mut out)?;
    if !subject.scopes.is_empty() {
        print::stays(&topics::kept(settings, &subject).await?, zone, &mut out)?;
    }
    if found.is_empty() {
        writeln!(out, "\nnothing is stored of {}", settings.name())?;
        return Ok(ExitCode::from(EXIT_NOTHING));
    }
    if let Some(reason) = refusal(config, &stores, &subject).await? {
        writeln!(out, "\nnothing was erased: {reason}")?;
        return Ok(ExitCode::from(EXIT_NOTHING));
    }
    if !config.execute {
        writeln!(out, "\nnothing was erased: add --execute")?;
        return Ok(ExitCode::SUCCESS);
    }
    erase(&stores, &subject).await?;
    let left = Holdings::count(&stores.pool, &stores.hashes, &subject).await?;
    if !left.is_empty() {
        writeln!(out, "\nerased, and stored again meanwhile; run it again:")?;
        print::counts(&left, &mut out)?;
        return Ok(ExitCode::from(EXIT_NOTHING));
    }
    writeln!(out, "\nerased")?;
    Ok(ExitCode::SUCCESS)
}

/// Returns why nothing may be erased now.
async fn refusal(
    config: &EraseArgs,
    stores: &Stores,
    subject: &Subject,
) -> anyhow::Result<Option<String>> {
    for part in subject.scopes.iter().flat_map(Scope::tables) {
        if part.table == NOTIFICATIONS {
            let waiting = alert_rows::waiting_digests(&stores.pool, &part.condition).await;
            let waiting = waiting.context("cannot read the notifications")?;
            if !waiting.is_empty() {
                return Ok(Some(alert_rows::refusal(&waiting)));
            }
        }
    }
    if config.force || subject.scopes.is_empty() {
        return Ok(None);
    }
    let zone = &config.subject.zone.zone;
    let on_the_way = on_the_way(config, stores, subject).await?;
    let devices = on_the_way.iter();
    let devices: Vec<_> = devices
        .map(|(device, at_ms)| format!("{device} at {}", wall_text_of(*at_ms, zone)))
        .collect();
    Ok((!devices.is_empty()).then(|| {
        format!(
            "the last records came within --silent-for, or wait for a group: {}. Take the device off, \
             and wait; --force erases now, and what still comes is stored again",
            devices.join(", ")
        )
    }))
}

/// Returns the newest record of each device that came lately or is not processed yet.
async fn on_the_way(
    config: &EraseArgs,
    stores: &Stores,
    subject: &Subject,
) -> anyhow::Result<BTreeMap<String, i64>> {
    let (settings, topic) = (&config.subject, stores.readings_topic.clone());
    let accepted = ljwx_ledger::ledger::accepted(&stores.pool, &topic).await?;
    let positions: Vec<(i32, i64)> = sqlx::query_as(
        "SELECT `partition`, MIN(next_offset) FROM ingest_progress \
         WHERE topic = ? AND consumer_group IN (?, ?) GROUP BY `partition`",
    )
    .bind(&topic)
    .bind(&settings.group)
    .bind(&settings.alerter_group)
    .fetch_all(&stores.pool)
    .await
    .context("cannot read the positions of the groups")?;
    let since_ms = milliseconds_ago(config.silent_for);
    let (kafka, subject) = (settings.kafka.clone(), subject.clone());
    let search = move || {
        let reader = TopicReader::new(&kafka, topics::CLIENT_ID)?;
        accepted.count_in(&reader, &topic, REQUEST_TIMEOUT)?;
        let positions = positions.into_iter().collect();
        topics::on_the_way(&reader, &topic, &subject, &positions, since_ms)
    };
    tokio::task::spawn_blocking(search).await?
}

fn milliseconds_ago(time: Duration) -> i64 {
    let time = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    Timestamp::now().as_millisecond().saturating_sub(time)
}

async fn erase(stores: &Stores, subject: &Subject) -> anyhow::Result<()> {
    for scope in &subject.scopes {
        for part in scope.tables() {
            let erased = erase_part(stores, scope, &part).await;
            erased.with_context(|| format!("cannot erase in {}", part.table))?;
        }
        // A repair may have read the rows before they were gone.
        stores.hashes.delete(scope).await?;
    }
    for part in subject.user_tables() {
        let erased = delete(stores, &part).await;
        erased.with_context(|| format!("cannot erase in {}", part.table))?;
    }
    Ok(())
}

async fn erase_part(stores: &Stores, scope: &Scope, part: &TablePart) -> anyhow::Result<()> {
    let Stores { pool, hashes, readings_topic } = stores;
    let condition = &part.condition;
    match part.table {
        STATES => alert_state::erase(pool, readings_topic, scope).await?,
        NOTIFICATIONS => alert_rows::erase_notifications(pool, condition).await?,
        // The lines go with their alerts.
        ALERT_LOG => {}
        ALERTS => alert_rows::erase_alerts(pool, condition).await?,
        MAIN_TABLE => {
            hashes.delete(scope).await?;
            // First what names nobody: a run that continues finds a user's devices by the other rows.
            for rows in [format!("{condition} AND COALESCE(user_id, 0) = 0"), condition.clone()] {
                erased_rows::erase(pool, &rows).await?;
            }
        }
        _ => delete(stores, part).await?,
    }
    Ok(())
}

async fn delete(stores: &Stores, TablePart { table, condition }: &TablePart) -> sqlx::Result<()> {
    let delete = format!("DELETE FROM {table} WHERE {condition} LIMIT {ROWS_MAX}");
    removal::remove_all(&stores.pool, &delete).await?;
    Ok(())
}
