//! Checks the servers that a consumer group depends on and the group's lag, and exports both as
//! metrics.
//!
//! Returns what it found and leaves the consequences to the callers. Every replica checks all
//! partitions, so a partition without an owner is seen too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fred::clients::Client;
use jiff::Timestamp;
use metrics::gauge;
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use tokio::time::timeout;

use super::lag::{GroupState, Lag, StallClock, more_replicas_help};
use crate::device_bindings::DeviceBindings;
use crate::ledger::{Ledger, LedgerRow, accepted_partitions};
use crate::metrics::{
    DEPENDENCY_UP, LAG_RECORDS, LAG_SECONDS, LEDGER_IMBALANCE, MORE_REPLICAS_HELP,
    RETENTION_LEFT_SECONDS, STALLED_SECONDS, TOPIC_PARTITIONS,
};
use crate::{mysql, redis};
use ljwx_service::kafka::KafkaArgs;
use ljwx_service::kafka::topic_ends::TopicEnds;
use ljwx_service::kafka::topic_reader::TopicReader;
use ljwx_service::kafka::topic_settings::topic_settings;
use ljwx_service::metrics::flag;

/// Interval of the checks.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// Longest wait for the answer of one server.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Interval of the queries for the topic's settings.
const SETTINGS_INTERVAL: Duration = Duration::from_secs(60);

/// The result of one check.
#[derive(Debug)]
pub struct Observation<'a> {
    /// Whether MySQL answered.
    pub database: bool,
    /// Whether Kafka answered, for one partition at least.
    pub kafka: bool,
    /// Whether Redis answers, or is not used.
    pub redis: bool,
    /// The last answers of MySQL and Kafka. While MySQL is unreachable no position moves. While
    /// Kafka is unreachable pending records still grow older.
    pub seen: &'a GroupState,
    /// The lag of each partition. Empty until the ledger has been read once: without the ledger the
    /// whole topic would count as lag.
    pub lags: Vec<Lag>,
}

/// Monitors one group.
pub struct GroupMonitor {
    ledger: Ledger,
    redis: Option<Client>,
    bindings: DeviceBindings,
    reader: Arc<TopicReader>,
    admin: AdminClient<DefaultClientContext>,
    settings_at: Option<Instant>,
    seen: GroupState,
    knows_ledger: bool,
    progress: StallClock,
}

impl GroupMonitor {
    /// Creates a monitor that connects on its first check. The brokers log it as `client_id`.
    pub fn new(
        kafka: &KafkaArgs,
        ledger: Ledger,
        redis: Option<Client>,
        bindings: DeviceBindings,
        client_id: &str,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            ledger,
            redis,
            bindings,
            reader: Arc::new(TopicReader::of_single_records(kafka, client_id)?),
            admin: kafka.client_config(client_id).create()?,
            settings_at: None,
            seen: GroupState::default(),
            knows_ledger: false,
            progress: StallClock::default(),
        })
    }

    /// Returns the reader of the topic and the topic's name, for use between two checks.
    pub fn reader(&self) -> (Arc<TopicReader>, &str) {
        (Arc::clone(&self.reader), self.ledger.topic())
    }

    /// Checks once and exports the result. `free` means that nothing but work slows this replica
    /// down, and `redis_accepts` that Redis accepted this replica's last commands.
    pub async fn observe(&mut self, free: bool, redis_accepts: bool) -> Observation<'_> {
        let ledger = timeout(ANSWER_TIMEOUT, self.entries()).await.ok().and_then(Result::ok);
        if ledger.is_some() {
            // These metrics are for people only. A server that has just returned the ledger is
            // reachable.
            let pool = self.ledger.pool();
            let observed = async {
                mysql::observe(pool).await?;
                mysql::observe_clock(pool).await
            };
            drop(timeout(ANSWER_TIMEOUT, observed).await);
        }
        let ends = self.ends().await;
        let kafka = ends.as_ref().is_some_and(|ends| !ends.known.is_empty());
        let database = ledger.is_some();
        let redis = match &self.redis {
            Some(client) => {
                timeout(ANSWER_TIMEOUT, redis::answers(client)).await.unwrap_or_default()
            }
            None => true,
        };
        let redis_up = redis && redis_accepts;
        for (dependency, up) in [("mysql", database), ("kafka", kafka), ("redis", redis_up)] {
            gauge!(DEPENDENCY_UP, "dependency" => dependency).set(flag(up));
        }
        self.bindings.export();
        if let Some(ledger) = ledger {
            self.seen.ledger = ledger;
            self.knows_ledger = true;
        }
        if let Some(ends) = ends {
            self.seen.update_ends(ends);
            if self.knows_ledger {
                self.update_oldest().await;
            }
            self.update_settings().await;
        }
        let now_ms = Timestamp::now().as_millisecond();
        let lags = if self.knows_ledger {
            self.progress.lags(&self.seen, now_ms, Instant::now())
        } else {
            Vec::new()
        };
        let observation = Observation { database, kafka, redis, seen: &self.seen, lags };
        export(self.ledger.group(), &observation, free);
        observation
    }

    /// Returns the rows of the ledger, and gives the reader the base of its offsets.
    async fn entries(&self) -> anyhow::Result<BTreeMap<i32, (LedgerRow, String)>> {
        let base = self.ledger.accepted().await?.base;
        self.reader.count_from(self.ledger.topic(), base);
        Ok(self.ledger.entries().await?)
    }

    async fn ends(&self) -> Option<TopicEnds> {
        let (reader, topic) = (Arc::clone(&self.reader), self.ledger.topic().to_owned());
        let asked = tokio::task::spawn_blocking(move || reader.known_ends(&topic, ANSWER_TIMEOUT));
        asked.await.ok()?.ok()?
    }

    /// Reads the ages of the oldest records. If Kafka does not answer in time, keeps the last known
    /// times: they can only have grown older.
    async fn update_oldest(&mut self) {
        let waiting = self.seen.waiting();
        self.seen.oldest_ms.retain(|partition, _| waiting.contains_key(partition));
        let starts = waiting.iter().map(|(partition, rest)| (*partition, rest.start)).collect();
        let times = self.times(starts).await;
        for (partition, time) in times {
            if let Some(ms) = time {
                self.seen.oldest_ms.insert(partition, ms);
            } else if let Some(rest) = waiting.get(&partition) {
                self.seen.void.insert(partition, rest.clone());
            }
        }
    }

    /// Updates how many in-sync replicas a write needs, and how long the topic's records are kept:
    /// for a time, and as long as a size lasts. The last answer is reused for a while.
    async fn update_settings(&mut self) {
        if self.settings_at.is_some_and(|at| at.elapsed() < SETTINGS_INTERVAL) {
            return;
        }
        let asked = topic_settings(&self.admin, self.ledger.topic(), ANSWER_TIMEOUT).await;
        let Ok(Some(settings)) = asked else { return };
        let number = |name: &str| settings.get(name)?.parse::<i64>().ok();
        let insync_min = number("min.insync.replicas");
        self.seen.insync_min = insync_min.and_then(|count| usize::try_from(count).ok());
        let Some(time) = number("retention.ms") else { return };
        self.seen.retention_ms = (time >= 0).then_some(time);
        let by_size = number("retention.bytes").is_some_and(|bytes| bytes >= 0);
        let first_ms = if by_size { self.first_times().await } else { Some(BTreeMap::new()) };
        // Without an answer the next check asks again.
        let Some(first_ms) = first_ms else { return };
        self.seen.first_ms = first_ms;
        self.settings_at = Some(Instant::now());
    }

    /// Returns whether the topic has as many partitions as were accepted. `None`: not known.
    pub async fn has_accepted_partitions(&self) -> Option<bool> {
        let found = i64::try_from(self.seen.partitions).ok().filter(|found| *found > 0)?;
        let accepted = accepted_partitions(self.ledger.pool(), self.ledger.topic());
        let accepted = timeout(ANSWER_TIMEOUT, accepted).await.ok()?.ok()?;
        Some(accepted.is_none_or(|accepted| accepted == found))
    }

    /// Reads the ages of the first records of partitions that have lost records already. Another
    /// partition is not full yet, so its first record is no measure. `None` means that an answer is
    /// missing.
    async fn first_times(&self) -> Option<BTreeMap<i32, i64>> {
        // Without the ledger the base is not known.
        if !self.knows_ledger {
            return None;
        }
        let base = self.reader.base(self.ledger.topic());
        let ends = self.seen.ends.iter();
        let trimmed = ends.filter(|(_, ends)| ends.low > base && ends.low < ends.high);
        let offsets: BTreeMap<i32, i64> =
            trimmed.map(|(number, ends)| (*number, ends.low)).collect();
        let count = offsets.len();
        let times = self.times(offsets).await;
        if times.len() < count {
            return None;
        }
        Some(times.into_iter().filter_map(|(number, time)| Some((number, time?))).collect())
    }

    /// Reads the Kafka record times of the records at these offsets, by partition. `None` if no
    /// record follows. Leaves out partitions without an answer.
    async fn times(&self, offsets: BTreeMap<i32, i64>) -> BTreeMap<i32, Option<i64>> {
        if offsets.is_empty() {
            return BTreeMap::new();
        }
        let (reader, topic) = (Arc::clone(&self.reader), self.ledger.topic().to_owned());
        let asked =
            tokio::task::spawn_blocking(move || reader.times(&topic, &offsets, ANSWER_TIMEOUT));
        asked.await.ok().and_then(Result::ok).unwrap_or_default()
    }
}

fn export(group: &str, observation: &Observation<'_>, free: bool) {
    let group = || group.to_owned();
    if observation.seen.partitions > 0 {
        gauge!(TOPIC_PARTITIONS).set(observation.seen.partitions as f64);
    }
    for lag in &observation.lags {
        let set = |name: &'static str, value: f64| {
            let partition = lag.partition.to_string();
            gauge!(name, "group" => group(), "partition" => partition).set(value);
        };
        set(LAG_RECORDS, lag.records as f64);
        set(LAG_SECONDS, lag.seconds);
        set(STALLED_SECONDS, lag.stalled_seconds);
        set(RETENTION_LEFT_SECONDS, lag.retention_left_seconds.unwrap_or(f64::INFINITY));
    }
    let imbalance = observation.seen.ledger.values().map(|(entry, _)| entry.difference().abs());
    gauge!(LEDGER_IMBALANCE, "group" => group()).set(imbalance.sum::<i64>() as f64);
    let helps = free && more_replicas_help(observation.seen, &observation.lags);
    gauge!(MORE_REPLICAS_HELP, "group" => group()).set(flag(helps));
}
