//! Measures the gateway under a closed loop of 64 connections, in turn with its ceiling.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ceiling::LINGER;
use crate::accounting::verdict::wall_time;
use crate::bench::table::{Table, median};
use crate::fleet::{Pool, Target};
use crate::stack::launch::Launch;
use crate::stack::process::Service;
use crate::stack::world::World;

/// Connections, each with one request at a time.
const CONNECTIONS: usize = 64;

/// Length of one measurement.
const LENGTH: Duration = Duration::from_secs(8);

/// Time before a measurement that does not count.
const WARM_UP: Duration = Duration::from_secs(2);

/// Bodies, each of a different device.
const DEVICES: usize = 1000;

/// The least share of the ceiling.
const RATIO_MIN: f64 = 0.6;

/// The figures of one measurement.
pub(crate) struct Rate {
    pub(crate) requests: f64,
    p50: Duration,
    p99: Duration,
}

/// Measures gateway and ceiling in turn.
pub(crate) async fn measure(rounds: usize, table: &mut Table) -> anyhow::Result<()> {
    println!("gateway: single readings of watches, {CONNECTIONS} connections, acks=all");
    let world = World::shared("bench").await?.with_partitions(12);
    world.migrate().await?;
    let bodies = bodies(&world);
    let (mut ratios, mut ours, mut ceilings, mut p99s) = (vec![], vec![], vec![], vec![]);
    for round in 1..=rounds {
        let ceiling = run(bare(&world).start().await?, &bodies).await?;
        let gateway = closed_loop(world.gateway()).env("TRACE_SAMPLE_RATIO", "0");
        let gateway = run(gateway.start().await?, &bodies).await?;
        println!(
            "  round {round}: bare {:.0}/s (P50 {:?}, P99 {:?}), gateway {:.0}/s (P50 {:?}, P99 {:?})",
            ceiling.requests, ceiling.p50, ceiling.p99, gateway.requests, gateway.p50, gateway.p99
        );
        ratios.push(gateway.requests / ceiling.requests);
        ours.push(gateway.requests);
        ceilings.push(ceiling.requests);
        p99s.push(gateway.p99.as_secs_f64() * 1000.0);
    }
    table.at_least("gateway, requests/s over bare axum + producer", median(ratios), RATIO_MIN, "");
    table.fact("gateway, requests/s", median(ours), "/s");
    table.fact("gateway's ceiling, requests/s", median(ceilings), "/s");
    table.fact("gateway, P99 at 64 connections", median(p99s), " ms");
    world.finish().await
}

fn bare(world: &World) -> Launch {
    let mut launch = world.launch("bench", &["bare"]);
    launch.listens = true;
    launch
}

/// Gives the gateway the settings that a closed loop needs.
pub(crate) fn closed_loop(gateway: Launch) -> Launch {
    gateway.env("LINGER", format!("{}ms", LINGER.as_millis()))
}

/// Returns a body of each device.
pub(crate) fn bodies(world: &World) -> Arc<Vec<Vec<u8>>> {
    Arc::new((0..DEVICES).map(|n| body(&world.device(n))).collect())
}

/// Loads a server for a while, then ends it.
pub(crate) async fn run(service: Service, bodies: &Arc<Vec<Vec<u8>>>) -> anyhow::Result<Rate> {
    let target = Target::resolve(&service.url("/upload_health_data")).await?;
    let pool = Arc::new(Pool::new(target, CONNECTIONS));
    let from = Instant::now() + WARM_UP;
    let until = from + LENGTH;
    let mut tasks = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let (pool, bodies) = (Arc::clone(&pool), Arc::clone(bodies));
        tasks.spawn(async move { connection_loop(&pool, &bodies, connection, from, until).await });
    }
    let mut latency = Histogram::<u64>::new(3)?;
    while let Some(ended) = tasks.join_next().await {
        latency.add(ended??)?;
    }
    service.terminate().await?;
    let at = |quantile| Duration::from_micros(latency.value_at_quantile(quantile));
    Ok(Rate { requests: latency.len() as f64 / LENGTH.as_secs_f64(), p50: at(0.5), p99: at(0.99) })
}

async fn connection_loop(
    pool: &Pool,
    bodies: &[Vec<u8>],
    connection: usize,
    from: Instant,
    until: Instant,
) -> anyhow::Result<Histogram<u64>> {
    let mut latency = Histogram::<u64>::new(3)?;
    let mut next = connection;
    while Instant::now() < until {
        let sent = Instant::now();
        let answer = pool.post(&bodies[next % bodies.len()]).await?;
        ensure!(answer.status == 200, "status {}", answer.status);
        if sent >= from {
            latency.record(sent.elapsed().as_micros() as u64)?;
        }
        next += CONNECTIONS;
    }
    Ok(latency)
}

/// Returns a body as a watch sends it: 22 keys, numbers as strings, documents that are `"null"`.
fn body(device: &str) -> Vec<u8> {
    let time = wall_time(jiff::Timestamp::now().as_second());
    format!(
        "{{\"data\":{{\"deviceSn\":\"{device}\",\"customerId\":\"1900000000000000001\",\
         \"orgId\":\"1900000000000000002\",\"userId\":\"1900000000000000003\",\"heart_rate\":84,\
         \"blood_oxygen\":97,\"body_temperature\":\"36.5\",\"step\":1280,\"distance\":\"820.0\",\
         \"calorie\":\"41230.0\",\"latitude\":\"22.540368\",\"longitude\":\"114.015090\",\
         \"altitude\":\"0\",\"stress\":0,\"upload_method\":\"wifi\",\"blood_pressure_systolic\":125,\
         \"blood_pressure_diastolic\":86,\"sleepData\":\"null\",\"exerciseDailyData\":\
         \"{{\\\"code\\\":0,\\\"data\\\":[{{\\\"strengthTimes\\\":2,\\\"totalTime\\\":5}}],\
         \\\"name\\\":\\\"daily\\\",\\\"type\\\":\\\"history\\\"}}\",\"exerciseWeekData\":\"null\",\
         \"scientificSleepData\":\"null\",\"workoutData\":\"null\",\"timestamp\":\"{time}\"}}}}"
    )
    .into_bytes()
}
