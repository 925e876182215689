//! The whole pipeline at a rate: the plan's figures, each from where it is true.

use std::time::Duration;

use super::table::Table;
use super::usage;
use crate::demo::Marker;
use crate::fake_wechat::FakeWechat;
use crate::fleet::{Fleet, Settings};
use crate::platform::{self, BLOOD_OXYGEN_LOW, HEART_RATE_HIGH, TEMPERATURE_HIGH};
use crate::process::Service;
use crate::verdict;
use crate::world::World;

/// How long the last readings may take to be stored.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// Fewest devices that the readings are of; a device measures once a second at most.
const DEVICES_MIN: u32 = 1000;

/// Runs the fleet and judges what came of it.
pub(super) async fn measure(rate: f64, length: Duration, table: &mut Table) -> anyhow::Result<()> {
    let devices = DEVICES_MIN.max(rate.ceil() as u32);
    println!("pipeline: {devices} devices, {rate} readings/s for {length:?}, spans of 1 % of them");
    let world = World::shared("bench").await?.with_partitions(12);
    world.migrate().await?;
    platform::seed(&world, &[HEART_RATE_HIGH, BLOOD_OXYGEN_LOW, TEMPERATURE_HIGH]).await?;
    let wechat = FakeWechat::start().await?;
    let sampled = |launch: crate::launch::Launch| launch.env("TRACE_SAMPLE_RATIO", "0.01");
    let gateway = sampled(world.gateway()).start().await?;
    let worker = sampled(world.worker()).start().await?;
    let alerter = sampled(world.alerter(&wechat)).start().await?;
    let fleet = Fleet::start(&Settings {
        url: gateway.url("/upload_health_data"),
        devices,
        rate,
        duration: length,
        serial_prefix: world.serial_prefix(),
        ..Settings::default()
    })
    .await?;
    let mut marker = Marker::start(&gateway, &world);
    let mut report = fleet.finish().await?;
    let unjudged = world.alerter_lag().await? as f64 / rate;
    let p95 = marker.at(95).unwrap_or(Duration::MAX);
    report.history.absorb(marker.finish().await);
    let verdict = verdict::of(&world, &report.history, SETTLED_WITHIN).await?;
    verdict.problems.iter().for_each(|problem| println!("  PROBLEM {problem}"));

    let seconds = report.elapsed.as_secs_f64();
    let ok = report.statuses.get(&200).copied().unwrap_or(0);
    let ledger = world.database.ledger(&world.worker_group).await?;
    let stored: i64 = ledger.iter().map(|row| row.stored).sum();
    let merged: i64 = ledger.iter().map(|row| row.merged).sum();
    let resent = (report.readings as i64
        - report.history.count(crate::history::Told::Acknowledged) as i64)
        .max(0);
    table.at_least(
        "pipeline, requests/s",
        report.requests as f64 / seconds,
        1400.0_f64.min(rate * 0.7),
        "/s",
    );
    table.at_least(
        "pipeline, records/s",
        (stored + merged) as f64 / seconds,
        2000.0_f64.min(rate) * 0.95,
        "/s",
    );
    table.at_most("pipeline, P95 from sending to the visible row", p95.as_secs_f64(), 1.0, " s");
    table.at_most("pipeline, P95 of the answer", report.latency_at(95.0).as_secs_f64(), 1.0, " s");
    let wait = p95_bucket(&worker, "batch_queue_wait_seconds", "statistic=\"oldest\"").await?;
    table.at_most("pipeline, P95 of the oldest reading's wait", wait, 1.0, " s");
    table.at_least(
        "pipeline, answers 200",
        ok as f64 / report.requests.max(1) as f64 * 100.0,
        99.9,
        " %",
    );
    let beyond = (merged - resent).max(0) as f64 / (stored + merged).max(1) as f64 * 100.0;
    table.at_most("pipeline, duplicates beyond what the fleet re-sent", beyond, 5.0, " %");
    table.at_most("pipeline, readings unaccounted for", verdict.problems.len() as f64, 0.0, "");
    table.fact("pipeline, the alerter's lag at the end", unjudged, " s");
    for service in [&gateway, &worker, &alerter] {
        table.fact(
            &format!("{}, resident memory", service.name()),
            usage::resident(service.pid()),
            " MiB",
        );
    }
    gateway.terminate().await?;
    worker.terminate().await?;
    alerter.terminate().await?;
    world.finish().await
}

/// The upper bound of the histogram bucket that the 95th percentile lies in, in seconds.
pub(super) async fn p95_bucket(service: &Service, name: &str, labels: &str) -> anyhow::Result<f64> {
    let text = crate::http::get(&service.admin("/metrics")).await?.text;
    let prefix = format!("{name}_bucket{{");
    let buckets: Vec<(f64, f64)> = text
        .lines()
        .filter(|line| line.starts_with(&prefix) && line.contains(labels))
        .filter_map(|line| {
            let (_, rest) = line.split_once("le=\"")?;
            let (bound, rest) = rest.split_once('"')?;
            let count = rest.rsplit_once(' ')?.1.parse().ok()?;
            Some((if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? }, count))
        })
        .collect();
    let all = buckets.iter().map(|(_, count)| *count).fold(0.0, f64::max);
    let found = buckets.iter().filter(|(_, count)| *count >= all * 0.95).map(|(bound, _)| *bound);
    Ok(found.fold(f64::INFINITY, f64::min))
}
