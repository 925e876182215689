//! Checks that the topics exist and accept every record that the gateway may publish.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ljwx_service::kafka::KafkaArgs;
use tracing::{info, warn};

/// Wait before a failed check is repeated.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The problem that the last check found. `None` once the topics are as required.
#[derive(Debug, Clone)]
pub struct TopicsReadiness(Arc<Mutex<Option<String>>>);

impl TopicsReadiness {
    /// Returns the reason why the gateway must not accept readings yet.
    pub fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, reason: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}

/// Checks in the background until the topics are as required, and logs each new problem.
pub fn check(kafka: KafkaArgs, record_bytes: usize) -> TopicsReadiness {
    let checked = TopicsReadiness(Arc::new(Mutex::new(Some("topics not checked yet".into()))));
    let result = checked.clone();
    tokio::spawn(async move {
        let mut logged = None;
        loop {
            let reason =
                check_once(&kafka, record_bytes).await.err().map(|error| format!("{error:#}"));
            result.set(reason.clone());
            match reason {
                None => return info!("topic check passed"),
                Some(reason) if logged.as_ref() != Some(&reason) => {
                    warn!(
                        reason,
                        "topic check failed, gateway not ready; run `worker migrate` or fix the topic"
                    );
                    logged = Some(reason);
                }
                Some(_) => {}
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    });
    checked
}

async fn check_once(kafka: &KafkaArgs, record_bytes: usize) -> anyhow::Result<()> {
    let topics = [&kafka.readings_topic, &kafka.rejects_topic];
    let question = kafka.clone();
    let counts = tokio::task::spawn_blocking(move || {
        [&question.readings_topic, &question.rejects_topic].map(|topic| question.partitions(topic))
    })
    .await?;
    for (topic, count) in topics.iter().zip(counts) {
        anyhow::ensure!(count?.is_some(), "topic {topic} does not exist");
    }
    let limits = kafka.record_bytes_max("gateway-check", &topics.map(String::as_str)).await?;
    for (topic, limit) in topics.iter().zip(limits) {
        anyhow::ensure!(
            limit >= record_bytes,
            "max.message.bytes of topic {topic} is {limit}, but a body may become a record of \
             {record_bytes}"
        );
    }
    Ok(())
}
