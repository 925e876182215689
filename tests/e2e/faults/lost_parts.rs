//! A process that has lost a part of itself replaces the part and goes on.

use anyhow::{Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::support::SOON;

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_replaces_a_dead_letter_producer_that_can_publish_no_more() -> Result<()> {
    let world = World::shared("fatalletter").await?;
    world.migrate().await?;
    // Brokers that refuse one producer, as if the right to write were missing.
    let brokers = MockCluster::new(1)?;
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    brokers.request_errors(RDKafkaApiKey::InitProducerId, &[refusal]);
    let worker = world.worker().env("KAFKA_BROKERS", brokers.bootstrap_servers()).spawn()?;
    eventually(SOON, "the producer is replaced", || async {
        let code = "code=\"ClusterAuthorizationFailed\"";
        let made = worker.metric("dead_letter_producer_restarts_total", code).await?;
        Ok((made == 1.0).then_some(()))
    })
    .await?;
    ensure!(http::get(&worker.admin("/livez")).await?.status == 200, "the process stays");
    for line in ["Kafka producer failed permanently", "Kafka producer replaced"] {
        eventually(SOON, line, || async { Ok(worker.output().contains(line).then_some(())) })
            .await?;
    }
    worker.kill().await?;
    world.finish().await
}
