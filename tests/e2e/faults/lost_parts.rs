//! A process that has lost a part of itself ends, so that its supervisor starts a new one.

use anyhow::{Result, ensure};
use ljwx_tests::stack::world::World;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_can_publish_no_more_ends_gateway_and_worker_with_1() -> Result<()> {
    let world = World::shared("fatal").await?;
    world.migrate().await?;
    // Brokers that only refuse producers, as if the right to write were missing.
    let brokers = MockCluster::new(1)?;
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    brokers.request_errors(RDKafkaApiKey::InitProducerId, &[refusal; 2]);
    for launch in [world.gateway(), world.worker()] {
        let ended = launch
            .env("KAFKA_BROKERS", brokers.bootstrap_servers())
            .env("LISTEN", "127.0.0.1:0")
            .env("ADMIN_LISTEN", "127.0.0.1:0")
            .finish()
            .await?;
        ensure!(ended.code == Some(1), "{:?}:\n{}", ended.code, ended.text);
        ensure!(ended.text.contains("Kafka producer failed permanently"), "{}", ended.text);
    }
    world.finish().await
}
