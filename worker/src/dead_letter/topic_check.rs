//! Checks that the dead-letter topic accepts every possible dead letter. Changes nothing. Dead
//! letters are rare: without the check an error of the topic would show months later, and a
//! partition would wait for it.

use std::time::Duration;

use anyhow::{Context, ensure};
use ljwx_service::kafka::{DEAD_LETTER_BYTES_MAX, KafkaArgs};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::health::Health;

/// Wait before a failed check is repeated.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Repeats the check until it succeeds or until `stop`. Logs a problem once and reports it to the
/// health endpoint.
///
/// Storing continues meanwhile, because most batches have no dead letter.
pub async fn check(kafka: KafkaArgs, group: String, health: Health, stop: CancellationToken) {
    let mut logged = None;
    loop {
        let checked = tokio::select! {
            () = stop.cancelled() => return,
            checked = check_once(&kafka, &group) => checked,
        };
        let reason = checked.err().map(|error| format!("{error:#}"));
        health.dead_letter_topic(reason.clone());
        match reason {
            None => return info!("dead-letter topic check passed"),
            Some(reason) if logged.as_ref() != Some(&reason) => {
                warn!(reason, "dead-letter topic check failed, dead letters may wait or be cut");
                logged = Some(reason);
            }
            Some(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RETRY_INTERVAL) => {}
        }
    }
}

async fn check_once(kafka: &KafkaArgs, group: &str) -> anyhow::Result<()> {
    let topic = kafka.dead_letter_topic(group);
    let (asked, name) = (kafka.clone(), topic.clone());
    let (letters, readings) = tokio::task::spawn_blocking(move || {
        anyhow::Ok((asked.partitions(&name)?, asked.partitions(&asked.readings_topic)?))
    })
    .await??;
    let letters = letters.with_context(|| {
        format!("topic {topic} does not exist: run `worker migrate --group {group}`")
    })?;
    let readings = readings.unwrap_or_default();
    ensure!(
        letters >= readings,
        "topic {topic} has {letters} partitions, {} has {readings}: run `worker migrate --group {group}`",
        kafka.readings_topic
    );
    let limits = kafka.record_bytes_max("worker-check", &[&topic]).await?;
    let limit = limits.first().copied().unwrap_or_default();
    ensure!(limit >= DEAD_LETTER_BYTES_MAX, "{}", too_small(&topic, limit));
    Ok(())
}

/// Returns the problem of a topic that accepts at most `limit` bytes, and its fix.
pub fn too_small(topic: &str, limit: usize) -> String {
    format!(
        "max.message.bytes of topic {topic} is {limit}, so a large dead letter would be cut: kafka-configs.sh \
         --alter --entity-type topics --entity-name {topic} --add-config \
         max.message.bytes={DEAD_LETTER_BYTES_MAX}"
    )
}
