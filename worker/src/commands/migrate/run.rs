//! `worker migrate`: creates tables, their months, and topics.

use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;
use ljwx_ledger::ledger::accepted_partitions;
use ljwx_ledger::mysql::{MySqlArgs, MySqlPool, server_version};
use ljwx_service::kafka::topic_reader::TopicReader;
use ljwx_service::kafka::topic_safety::findings::differences;
use ljwx_service::kafka::topic_safety::state::TopicRole;
use ljwx_service::kafka::{
    self, DEAD_LETTER_BYTES_MAX, DEAD_LETTER_RETENTION, KafkaArgs, MESSAGE_BYTES_MAX,
    READINGS_RETENTION, REJECTS_RETENTION_BYTES, REQUEST_TIMEOUT, TopicSpec,
};
use ljwx_service::lifecycle::within;
use tracing::{info, warn};

use super::accept_topic::accept_topic;
use super::args::MigrateArgs;
use super::{alert_state, existing_tables, platform_tables};
use crate::mysql::group_control;
use crate::mysql::monthly_partitions;

/// Longest time until a created topic is visible.
const VISIBLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest wait of months for transactions on the main table.
const MONTHS_TIMEOUT: Duration = Duration::from_secs(30);

/// Interval at which a created topic is looked up.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");

/// Description of the first of the files that the baseline replaced.
const REPLACED_FIRST: &str = "user health data";

/// Creates what is missing. A second run changes nothing.
pub async fn migrate(config: &MigrateArgs) -> anyhow::Result<()> {
    // A migration may wait for its tables as long as the limit allows.
    let mysql = MySqlArgs { statement_timeout: config.timeout, ..config.mysql.clone() };
    let pool = mysql.connect(&config.zone.zone)?.with_limit(config.mysql.statement_timeout);
    let mut connection = pool.acquire().await.context("cannot connect to MySQL")?;
    server_version::check(&server_version::query(&mut connection).await?)?;
    drop(connection);
    existing_tables::check(&pool).await?;
    check_record(&pool).await?;
    let migrating = within(config.timeout, MIGRATIONS.run(pool.unlimited())).await;
    migrating.context("not migrated within --timeout")?.context("cannot migrate MySQL")?;
    // The platform's tables may have many rows.
    let changing = pool.with_limit(config.timeout);
    existing_tables::restore(&changing, &MIGRATIONS).await.context("cannot create a table anew")?;
    let completed = platform_tables::complete(&changing, &MIGRATIONS).await;
    completed.context("cannot add columns to the platform's tables")?;
    let today = config.zone.zone.to_datetime(Timestamp::now()).date();
    within(MONTHS_TIMEOUT, monthly_partitions::maintain(&pool, today, None))
        .await
        .context("a transaction keeps t_user_health_data open: end it, and migrate again")?
        .context("cannot add months")?;
    info!("tables are up to date");
    let kafka = &config.kafka;
    let readings = TopicSpec {
        name: kafka.readings_topic.clone(),
        partitions: partitions_to_create(config, &pool).await?,
        retention: READINGS_RETENTION,
        retention_bytes: None,
        message_bytes_max: MESSAGE_BYTES_MAX,
    };
    let rejects = kept_for_people(&kafka.rejects_topic, config.partitions, MESSAGE_BYTES_MAX);
    let mut created = kafka::create_missing(kafka, &[readings, rejects]).await?;
    if !created.contains(&kafka.rejects_topic) {
        compare(kafka, &kafka.rejects_topic, TopicRole::Rejects).await?;
    }
    let partitions = check_partitions(config, &pool).await?;
    created.extend(letter_topics(config, partitions).await?);
    info!(created = created.join(","), "topics are up to date");
    let (kafka, topic) = (config.kafka.clone(), &config.kafka.readings_topic);
    let asked = move || {
        TopicReader::new(&kafka, "ljwx-migrate")?.identity(&kafka.readings_topic, REQUEST_TIMEOUT)
    };
    let found = tokio::task::spawn_blocking(asked).await??.context("the readings topic is gone")?;
    accept_topic(&pool, topic, &found, config.accept_topic).await
}

/// Checks the record of the migrations, if there is one.
async fn check_record(pool: &MySqlPool) -> anyhow::Result<()> {
    let record: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '_sqlx_migrations'",
    )
    .fetch_one(pool)
    .await?;
    if record == 0 {
        return Ok(());
    }
    refuse_replaced_files(pool).await?;
    forget_interrupted(pool).await.context("cannot change the record of the migrations")
}

/// Fails for a database of the files that the baseline replaced before the first release: sqlx would
/// only name a version that it does not know. Changes nothing.
async fn refuse_replaced_files(pool: &MySqlPool) -> anyhow::Result<()> {
    let first: Option<String> =
        sqlx::query_scalar("SELECT description FROM _sqlx_migrations WHERE version = 1")
            .fetch_optional(pool)
            .await?;
    anyhow::ensure!(
        first.as_deref() != Some(REPLACED_FIRST),
        "this database was migrated by files from before 0.2.0, whose tables are not those of today's \
         files; nothing was changed. Run `worker migrate` in a new database (migrations/README.md)"
    );
    Ok(())
}

/// Forgets migrations that have begun and not ended, so that they are repeated: every file leaves what is
/// there. A session that still executes a migration has the lock for which sqlx waits.
async fn forget_interrupted(pool: &MySqlPool) -> Result<(), sqlx::Error> {
    let last = MIGRATIONS.iter().map(|migration| migration.version).max();
    let statement = "DELETE FROM _sqlx_migrations WHERE success = FALSE AND version <= ?";
    let forgotten = sqlx::query(statement).bind(last).execute(pool).await?.rows_affected();
    if forgotten > 0 {
        warn!(migrations = forgotten, "a migration was interrupted, repeating it");
    }
    Ok(())
}

/// Returns a topic of rejects or dead letters, which a person has to inspect.
fn kept_for_people(name: &str, partitions: i32, message_bytes_max: usize) -> TopicSpec {
    TopicSpec {
        name: name.to_owned(),
        partitions,
        retention: DEAD_LETTER_RETENTION,
        retention_bytes: Some(REJECTS_RETENTION_BYTES),
        message_bytes_max,
    }
}

/// Warns of an existing topic that is not as a new one would be. Changes nothing: a limit of bytes
/// may delete records at once.
async fn compare(kafka: &KafkaArgs, topic: &str, role: TopicRole) -> anyhow::Result<()> {
    let Some(settings) = kafka.topic_settings("ljwx-migrate", topic).await? else {
        warn!(topic, "cannot see the settings of the topic, grant DescribeConfigs to check them");
        return Ok(());
    };
    for reason in differences(topic, &settings, role) {
        warn!(topic, reason, "existing topic kept as it is");
    }
    Ok(())
}

/// Creates the dead-letter topics and adds missing partitions. A dead letter keeps the partition
/// number of its delivery, so these topics have as many partitions as the readings topic.
async fn letter_topics(config: &MigrateArgs, partitions: usize) -> anyhow::Result<Vec<String>> {
    let kafka = &config.kafka;
    let count = i32::try_from(partitions)?;
    let groups = config.groups.iter().chain([&config.alerter_group]);
    let names: Vec<_> = groups.map(|group| kafka.dead_letter_topic(group)).collect();
    let specs: Vec<_> =
        names.iter().map(|name| kept_for_people(name, count, DEAD_LETTER_BYTES_MAX)).collect();
    let created = kafka::create_missing(kafka, &specs).await?;
    for name in names.iter().filter(|name| !created.contains(name)) {
        if kafka::extend(kafka, name, partitions).await? {
            info!(topic = name, partitions, "partitions added to the dead-letter topic");
        }
        compare(kafka, name, TopicRole::DeadLetters).await?;
    }
    Ok(created)
}

/// Returns with how many partitions a missing readings topic is created. One that was lost gets as many as
/// were accepted: another number would move devices between partitions.
async fn partitions_to_create(config: &MigrateArgs, pool: &MySqlPool) -> anyhow::Result<i32> {
    let accepted = accepted_partitions(pool, &config.kafka.readings_topic).await?;
    match accepted.filter(|_| !config.accept_partitions) {
        Some(accepted) => Ok(i32::try_from(accepted)?),
        None => Ok(config.partitions),
    }
}

/// Returns the number of partitions of the readings topic, once the number is accepted.
async fn check_partitions(config: &MigrateArgs, pool: &MySqlPool) -> anyhow::Result<usize> {
    let kafka = config.kafka.clone();
    let wanted = config.partitions as usize;
    let deadline = Instant::now() + VISIBLE_TIMEOUT;
    let found = loop {
        let asked = kafka.clone();
        let found = tokio::task::spawn_blocking(move || asked.partitions(&asked.readings_topic));
        match found.await?? {
            Some(found) => break found,
            // A topic exists before every broker knows the topic.
            None if Instant::now() < deadline => tokio::time::sleep(POLL_INTERVAL).await,
            None => anyhow::bail!("the readings topic has no partitions"),
        }
    };
    let topic = &config.kafka.readings_topic;
    let known = accepted_partitions(pool, topic).await?;
    if config.accept_partitions && known.is_some_and(|known| known != found as i64) {
        alert_state::refuse_members(&config.kafka, &config.alerter_group).await?;
        alert_state::move_state(&pool.with_limit(config.timeout), i32::try_from(found)?).await?;
        // An alerter that has started meanwhile remembers devices in their former partitions.
        alert_state::refuse_members(&config.kafka, &config.alerter_group).await?;
    }
    group_control::accept_partitions(pool, topic, found, config.accept_partitions).await?;
    if found != wanted {
        warn!(
            found,
            wanted,
            "partition count of the readings topic kept, a change would move devices between partitions"
        );
    }
    Ok(found)
}
