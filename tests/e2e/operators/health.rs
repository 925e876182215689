//! The worker's health names the fault, and its levels are as documented.
//!
//! The scenarios of the alert rules test further faults: an unreachable database makes the worker
//! unhealthy and never dead, an open dead-letter breaker makes it unhealthy, and a pause makes it
//! degraded.

use anyhow::{Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::fakes::tcp_proxy::Proxy;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;

use super::watched::{SOON, Watched, send};

async fn status(watched: &Watched, wanted: &str) -> Result<http::Answer> {
    eventually(SOON, &format!("the worker is {wanted}"), || async {
        let answer = http::get(&watched.worker.admin("/api/batch_processor/health")).await?;
        ensure!(answer.json["status"] == wanted, "{}", answer.text);
        Ok(Some(answer))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_redis_is_degraded_and_stores_all_the_same() -> Result<()> {
    let world = World::shared("ophealth").await?;
    world.migrate().await?;
    let redis = format!("{}/", world.stack.redis_url.trim_end_matches('/'));
    let proxy = Proxy::start(&redis).await?;
    let url = proxy.url(&redis)?;
    let watched = Watched::start_in(world, |launch| launch.env("REDIS_URL", &url)).await?;
    let load = watched.load();
    let healthy = status(&watched, "healthy").await?;
    ensure!(healthy.status == 200, "{}", healthy.text);
    for field in
        ["queue_size", "processed_total", "error_rate", "avg_batch_size", "throughput_per_second"]
    {
        ensure!(healthy.json[field].is_number(), "no {field}: {}", healthy.text);
    }
    ensure!(watched.worker.metric("worker_health", "healthy\"").await? >= 1.0);

    proxy.away();
    let degraded = status(&watched, "degraded").await?;
    ensure!(degraded.status == 200 && degraded.text.contains("redis"), "{}", degraded.text);
    for probe in ["/livez", "/readyz"] {
        let answer = http::get(&watched.worker.admin(probe)).await?;
        ensure!(answer.status == 200, "{probe}: {}", answer.text);
    }
    let before = degraded.json["processed_total"].as_i64();
    eventually(SOON, "readings are stored meanwhile", || async {
        let answer = http::get(&watched.worker.admin("/api/batch_processor/health")).await?;
        Ok((answer.json["processed_total"].as_i64() > before).then_some(()))
    })
    .await?;
    let said = watched.worker.output().matches("cannot write batches to Redis").count();
    ensure!(said == 1, "said {said} times");

    proxy.back();
    status(&watched, "healthy").await?;
    drop(load);
    watched.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_drains_says_so_before_it_takes_nothing_more() -> Result<()> {
    let world = World::shared("opdrain").await?;
    world.migrate().await?;
    let gateway = world.gateway().env("DRAIN_DELAY", "5s").start().await?;
    gateway.signal("TERM").await?;
    eventually(SOON, "it is not ready", || async {
        Ok((http::get(&gateway.admin("/readyz")).await?.status == 503).then_some(()))
    })
    .await?;
    let url = gateway.url("/upload_health_data");
    let taken = send(&url, &world.device(1), 70).await?;
    ensure!(taken == 200, "{taken}: whoever was sent here must still be served");
    ensure!(http::get(&gateway.admin("/livez")).await?.status == 200);
    gateway.terminate().await?;
    world.finish().await
}
