//! The worker's health names the fault, and its levels are as documented.
//!
//! The scenarios of the alert rules test further faults: an unreachable database makes the worker
//! unhealthy and never dead, an open dead-letter breaker makes it unhealthy, and a pause makes it
//! degraded.

use anyhow::{Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::fakes::tcp_proxy::Proxy;
use ljwx_tests::stack::wait::eventually;

use super::watched::{SOON, Watched, send};
use crate::support::{finish, world};

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
    let world = world("ophealth").await?;
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
    eventually(SOON, "the metric says so, too", || async {
        let shown = watched.worker.metric("worker_health", "=\"healthy\"").await?;
        Ok((shown == 1.0).then_some(()))
    })
    .await?;

    proxy.away();
    let degraded = status(&watched, "degraded").await?;
    ensure!(degraded.status == 200 && degraded.text.contains("redis"), "{}", degraded.text);
    for probe in ["/livez", "/readyz"] {
        let answer = http::get(&watched.worker.admin(probe)).await?;
        ensure!(answer.status == 200, "{probe}: {}", answer.text);
    }
    // Readings are stored before Redis is known to have failed, and whatever follows adds no line.
    let said = || watched.worker.output().matches("cannot write batches to Redis").count();
    let mut stored = degraded.json["processed_total"].as_i64();
    for _ in 0..2 {
        stored = eventually(SOON, "more is stored, and the log says why not in Redis", || async {
            let answer = http::get(&watched.worker.admin("/api/batch_processor/health")).await?;
            let now = answer.json["processed_total"].as_i64();
            Ok((now > stored && said() > 0).then_some(now))
        })
        .await?;
    }
    ensure!(said() == 1, "said {} times", said());

    proxy.back();
    status(&watched, "healthy").await?;
    drop(load);
    watched.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_drains_says_so_before_it_takes_nothing_more() -> Result<()> {
    let world = world("opdrain").await?;
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
    finish(world, [gateway]).await
}
