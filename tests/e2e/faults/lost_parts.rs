//! A process that has lost a part of itself replaces the part and goes on. Another process takes
//! over the work of one that died.

use anyhow::{Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::stack::wait::eventually;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use crate::support::{AT, SOON, finish, pipeline, send, settled, world};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_replaces_a_dead_letter_producer_that_can_publish_no_more() -> Result<()> {
    let world = world("fatalletter").await?;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_refill_that_a_dead_worker_left_is_taken_over_after_its_lease() -> Result<()> {
    let (world, gateway, worker) = pipeline("refiller").await?;
    let device = world.device(1);
    send(&gateway, &device, AT, &[80]).await?;
    settled(&world).await?;
    let refilled = async || {
        eventually(SOON, "Redis has everything", || async {
            let complete = "SELECT refilled = generation FROM redis_generation";
            Ok((world.database.number(complete).await? == 1).then_some(()))
        })
        .await
    };
    refilled().await?;
    world.cache.evict(&device).await?;
    // Another worker noticed a loss, began to refill, and died.
    let died = "UPDATE redis_generation SET generation = generation + 1, refiller = 'dead', \
                refill_until = UTC_TIMESTAMP(3) + INTERVAL 8 SECOND";
    world.database.execute(died).await?;
    let until = world.database.row("SELECT refill_until FROM redis_generation").await?;
    let until = until.into_iter().flatten().next().unwrap_or_default();
    refilled().await?;
    let is_over = format!("SELECT UTC_TIMESTAMP(3) >= '{until}'");
    ensure!(world.database.number(&is_over).await? == 1, "the lease was not respected");
    let shown = world.cache.newest_time(&device).await?;
    ensure!(shown == Some(format!("{AT}:00")), "{shown:?}");
    finish(world, [gateway, worker]).await
}
