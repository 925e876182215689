//! A producer of transactions, as stream processors write them to a topic.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

/// The longest that Kafka may take for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A producer that writes one transaction after the other.
pub struct TransactionalProducer {
    producer: Arc<BaseProducer>,
    topic: String,
}

impl TransactionalProducer {
    /// Registers under a transactional id that no other producer uses.
    pub async fn start(brokers: &str, topic: &str, id: &str) -> anyhow::Result<Self> {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("transactional.id", id)
            .create()?;
        let started = Self { producer: Arc::new(producer), topic: topic.to_owned() };
        started.call(|producer| producer.init_transactions(ANSWER_WITHIN)).await?;
        Ok(started)
    }

    /// Begins a transaction and sends records to a partition. Consumers do not see them yet.
    pub async fn begin(&self, partition: i32, values: &[String]) -> anyhow::Result<()> {
        self.producer.begin_transaction()?;
        for value in values {
            let record =
                BaseRecord::<[u8], str>::to(&self.topic).partition(partition).payload(value);
            self.producer.send(record).map_err(|(error, _)| error)?;
        }
        self.call(|producer| producer.flush(ANSWER_WITHIN)).await
    }

    /// Commits the transaction: consumers see its records.
    pub async fn commit(&self) -> anyhow::Result<()> {
        self.call(|producer| producer.commit_transaction(ANSWER_WITHIN)).await
    }

    /// Aborts the transaction: consumers never see its records.
    pub async fn abort(&self) -> anyhow::Result<()> {
        self.call(|producer| producer.abort_transaction(ANSWER_WITHIN)).await
    }

    async fn call(
        &self,
        call: impl FnOnce(&BaseProducer) -> Result<(), KafkaError> + Send + 'static,
    ) -> anyhow::Result<()> {
        let producer = Arc::clone(&self.producer);
        Ok(tokio::task::spawn_blocking(move || call(&producer)).await??)
    }
}
