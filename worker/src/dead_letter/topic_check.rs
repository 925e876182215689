//! Whether the dead-letter topic takes whatever may have to be dead-lettered. Looks, and changes
//! nothing: letters are rare, so what is wrong with their topic would show months later, with a
//! partition waiting for it.

use std::time::Duration;

use anyhow::{Context, ensure};
use ljwx_service::kafka::{KafkaArgs, LETTER_BYTES_MAX};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::health::Health;

/// How long until a check that failed is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Looks until all is well or `stop`; what is not is said once and shown by the health endpoint.
///
/// Storing goes on meanwhile: most batches have no letter.
pub async fn check(kafka: KafkaArgs, group: String, health: Health, stop: CancellationToken) {
    let mut said = None;
    loop {
        let checked = tokio::select! {
            () = stop.cancelled() => return,
            checked = check_once(&kafka, &group) => checked,
        };
        let problem = checked.err().map(|error| format!("{error:#}"));
        health.letters_topic(problem.clone());
        match problem {
            None => return info!("dead letters' topic checked"),
            Some(problem) if said.as_ref() != Some(&problem) => {
                warn!(problem, "dead letters may have to wait or to be cut");
                said = Some(problem);
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
    ensure!(limit >= LETTER_BYTES_MAX, "{}", too_small(&topic, limit));
    Ok(())
}

/// What is wrong with a topic that takes no more than `limit` bytes, and what mends it.
pub fn too_small(topic: &str, limit: usize) -> String {
    format!(
        "max.message.bytes of topic {topic} is {limit}, so a large letter would be cut: kafka-configs.sh \
         --alter --entity-type topics --entity-name {topic} --add-config \
         max.message.bytes={LETTER_BYTES_MAX}"
    )
}
