//! Looks at the servers every few seconds, for the health endpoint and the probes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use common::kafka::KafkaArgs;
use fred::clients::Client;
use fred::interfaces::ClientLike;
use rdkafka::consumer::{BaseConsumer, Consumer};
use sqlx::MySqlPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::control::{self, Gate};
use crate::health::{GroupTotals, Health};

/// How often the servers are looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// How long one of them may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// What is looked at.
pub struct Watch {
    pub pool: MySqlPool,
    pub redis: Option<Client>,
    pub kafka: KafkaArgs,
    pub group: String,
    pub health: Health,
    pub gate: watch::Sender<Gate>,
}

impl Watch {
    /// Looks until `stop`.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let consumer: Arc<BaseConsumer> =
            Arc::new(self.kafka.client_config("worker-watch").create()?);
        let mut interval = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = interval.tick() => {}
            }
            let ledger = tokio::time::timeout(ANSWER_TIMEOUT, self.ledger()).await;
            let ledger = ledger.ok().and_then(Result::ok);
            let high = high_watermarks(&consumer, &self.kafka.readings_topic).await;
            if let Some(high) = &high {
                self.look_at_gate(high.len()).await;
            }
            let queue_size = ledger.as_ref().zip(high).map(|((_, next), high)| lag(next, &high));
            let redis_ok = self.redis.as_ref().is_none_or(ClientLike::is_connected);
            self.health.observed(ledger.map(|(totals, _)| totals), queue_size, redis_ok);
        }
    }

    /// Where MySQL does not answer, what was said last still holds.
    async fn look_at_gate(&self, partitions: usize) {
        let asked = control::gate(&self.pool, &self.group, &self.kafka.readings_topic, partitions);
        if let Ok(Ok(gate)) = tokio::time::timeout(ANSWER_TIMEOUT, asked).await {
            self.health.gate(&gate);
            self.gate.send_if_modified(|known| {
                let changed = *known != gate;
                *known = gate;
                changed
            });
        }
    }

    async fn ledger(&self) -> Result<(GroupTotals, HashMap<i32, i64>), sqlx::Error> {
        let rows: Vec<(i32, i64, i64, i64, i64, i64, i64)> = sqlx::query_as(
            "SELECT `partition`, next_offset, `stored`, merged, dead_lettered, skipped_gap, rewound \
             FROM ingest_progress WHERE consumer_group = ? AND topic = ?",
        )
        .bind(&self.group)
        .bind(&self.kafka.readings_topic)
        .fetch_all(&self.pool)
        .await?;
        let mut totals = GroupTotals::default();
        let mut next = HashMap::new();
        for (partition, next_offset, stored, merged, dead_lettered, skipped_gap, rewound) in rows {
            next.insert(partition, next_offset);
            totals.stored += stored;
            totals.merged += merged;
            totals.dead_lettered += dead_lettered;
            totals.skipped_gap += skipped_gap;
            totals.rewound += rewound;
            totals.partitions += 1;
        }
        Ok((totals, next))
    }
}

/// First and next offset of every partition of the topic; `None` where Kafka does not answer.
async fn high_watermarks(
    consumer: &Arc<BaseConsumer>,
    topic: &str,
) -> Option<HashMap<i32, (i64, i64)>> {
    let consumer = Arc::clone(consumer);
    let topic = topic.to_owned();
    let found = tokio::task::spawn_blocking(move || {
        let metadata = consumer.fetch_metadata(Some(&topic), ANSWER_TIMEOUT).ok()?;
        let partitions = metadata.topics().first()?.partitions();
        partitions
            .iter()
            .map(|partition| {
                let watermarks = consumer.fetch_watermarks(&topic, partition.id(), ANSWER_TIMEOUT);
                watermarks.ok().map(|watermarks| (partition.id(), watermarks))
            })
            .collect()
    });
    found.await.ok().flatten()
}

/// Records behind the ledger; a partition without a row waits from its first record.
fn lag(next: &HashMap<i32, i64>, watermarks: &HashMap<i32, (i64, i64)>) -> i64 {
    watermarks
        .iter()
        .map(|(partition, (low, high))| (high - next.get(partition).unwrap_or(low)).max(0))
        .sum()
}
