//! `worker migrate`: tables, their partitions, and topics.

use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;
use ljwx_ledger::mysql::{MySqlArgs, MySqlPool};
use ljwx_service::kafka::topic_reader::Reader;
use ljwx_service::kafka::{
    self, LETTER_BYTES_MAX, LETTERS_RETENTION, MESSAGE_BYTES_MAX, READINGS_RETENTION,
    REQUEST_TIMEOUT, TopicSpec,
};
use ljwx_service::lifecycle::within;
use tracing::{info, warn};

use super::accept_topic::accept_topic;
use super::args::MigrateConfig;
use super::existing_tables;
use crate::dead_letter::topic_check;
use crate::mysql::group_control;
use crate::mysql::monthly_partitions;

/// How long a topic that was just created may stay unknown.
const VISIBLE_WITHIN: Duration = Duration::from_secs(20);

/// How long months may wait for transactions on the main table.
const MONTHS_WITHIN: Duration = Duration::from_secs(30);

/// How often a topic is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// Creates what is missing; running it again changes nothing.
pub async fn migrate(config: &MigrateConfig) -> anyhow::Result<()> {
    // A migration waits for its tables as long as it may: one that is given up half-way is mended by hand.
    let mysql = MySqlArgs { statement_timeout: config.timeout, ..config.mysql.clone() };
    let pool = mysql.connect(&config.zone.zone)?.with_limit(config.mysql.statement_timeout);
    existing_tables::check(&pool).await?;
    let migrating = within(config.timeout, MIGRATIONS.run(pool.unlimited())).await;
    migrating.context("not migrated within --timeout")?.context("cannot migrate MySQL")?;
    existing_tables::restore(&pool, &MIGRATIONS).await.context("cannot create a table anew")?;
    let today = config.zone.zone.to_datetime(Timestamp::now()).date();
    within(MONTHS_WITHIN, monthly_partitions::maintain(&pool, today, None))
        .await
        .context("a transaction keeps t_user_health_data open: end it, and migrate again")?
        .context("cannot add months")?;
    info!("tables are up to date");
    let kafka = &config.kafka;
    let taken_in = [
        spec(&kafka.readings_topic, config.partitions, READINGS_RETENTION, MESSAGE_BYTES_MAX),
        spec(&kafka.rejects_topic, config.partitions, LETTERS_RETENTION, MESSAGE_BYTES_MAX),
    ];
    let mut created = kafka::create_missing(kafka, &taken_in).await?;
    let partitions = check_partitions(config, &pool).await?;
    created.extend(letter_topics(config, partitions).await?);
    info!(created = created.join(","), "topics are up to date");
    let (kafka, topic) = (config.kafka.clone(), &config.kafka.readings_topic);
    let asked = move || {
        Reader::new(&kafka, "ljwx-migrate")?.identity(&kafka.readings_topic, REQUEST_TIMEOUT)
    };
    let found = tokio::task::spawn_blocking(asked).await??.context("the readings topic is gone")?;
    accept_topic(&pool, topic, &found, config.accept_topic).await
}

fn spec(name: &str, partitions: i32, retention: Duration, message_bytes_max: usize) -> TopicSpec {
    TopicSpec { name: name.to_owned(), partitions, retention, message_bytes_max }
}

/// A letter stays beside what it came from, so these topics have as many partitions as the readings'.
async fn letter_topics(config: &MigrateConfig, partitions: usize) -> anyhow::Result<Vec<String>> {
    let kafka = &config.kafka;
    let count = i32::try_from(partitions)?;
    let names: Vec<_> = config.groups.iter().map(|group| kafka.dead_letter_topic(group)).collect();
    let specs: Vec<_> =
        names.iter().map(|name| spec(name, count, LETTERS_RETENTION, LETTER_BYTES_MAX)).collect();
    let created = kafka::create_missing(kafka, &specs).await?;
    for name in names.iter().filter(|name| !created.contains(name)) {
        if kafka::extend(kafka, name, partitions).await? {
            info!(topic = name, partitions, "partitions added to the dead letters' topic");
        }
        let limit = kafka.record_bytes_max("ljwx-migrate", &[name]).await?;
        if limit.first().is_some_and(|limit| *limit < LETTER_BYTES_MAX) {
            warn!(topic = name, "{}", topic_check::too_small(name, limit[0]));
        }
    }
    Ok(created)
}

/// How many partitions the readings topic has, once that is accepted.
async fn check_partitions(config: &MigrateConfig, pool: &MySqlPool) -> anyhow::Result<usize> {
    let kafka = config.kafka.clone();
    let wanted = config.partitions as usize;
    let deadline = Instant::now() + VISIBLE_WITHIN;
    let found = loop {
        let asked = kafka.clone();
        let found = tokio::task::spawn_blocking(move || asked.partitions(&asked.readings_topic));
        match found.await?? {
            Some(found) => break found,
            // A topic is made before every broker knows it.
            None if Instant::now() < deadline => tokio::time::sleep(LOOK_INTERVAL).await,
            None => anyhow::bail!("the readings topic has no partitions"),
        }
    };
    let topic = &config.kafka.readings_topic;
    group_control::accept_partitions(pool, topic, found, config.accept_partitions).await?;
    if found != wanted {
        warn!(
            found,
            wanted,
            "the readings topic keeps its partitions: changing them moves devices between partitions"
        );
    }
    Ok(found)
}
