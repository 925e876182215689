//! One run: fleet and probes against gateway, worker and alerter, on its own topics and tables.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::breaches::Breaches;
use super::settings::{PARTITIONS, Settings};
use crate::accounting::history::Answered;
use crate::accounting::verdict;
use crate::bench::alerter::messages;
use crate::bench::histogram::Buckets;
use crate::bench::series::Series;
use crate::bench::table::quantile;
use crate::bench::usage;
use crate::demo::Marker;
use crate::fakes::platform::{self, BLOOD_OXYGEN_LOW, HEART_RATE_HIGH, TEMPERATURE_HIGH};
use crate::fakes::wechat::FakeWechat;
use crate::fleet::{self, Fleet, Report};
use crate::stack::launch::Launch;
use crate::stack::process::Service;
use crate::stack::wait::pass;
use crate::stack::world::World;

/// The longest until the last readings are stored.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// Devices whose rows are queried, each once a second.
const PROBE_DEVICES: usize = 20;

/// Samples kept: more than those of any run.
const SAMPLES_MAX: usize = 1_000_000;

/// Processor use of the system: its services and servers, without load and probes.
pub(super) const ALL: &str = "processor, services and servers";

const WAIT: &str = "batch_queue_wait_seconds";
const OLDEST: &str = "statistic=\"oldest\"";

/// The services under load.
struct Services {
    gateway: Service,
    worker: Service,
    alerter: Service,
}

impl Services {
    async fn start(world: &World, wechat: &FakeWechat) -> anyhow::Result<Self> {
        // A world's services record every trace. These record as many as by default.
        let plain = |launch: Launch| launch.env("TRACE_SAMPLE_RATIO", "0.01").start();
        Ok(Self {
            gateway: plain(world.gateway()).await?,
            worker: plain(world.worker()).await?,
            alerter: plain(world.alerter(wechat)).await?,
        })
    }

    /// Returns the processor seconds so far of everything that runs.
    fn processors(&self) -> BTreeMap<&'static str, f64> {
        let seconds = |pid: Option<u32>| pid.and_then(usage::cpu).unwrap_or(0.0);
        BTreeMap::from([
            ("gateway", seconds(self.gateway.pid())),
            ("worker", seconds(self.worker.pid())),
            ("alerter", seconds(self.alerter.pid())),
            ("Kafka", seconds(usage::server(&["kafka"]))),
            ("database", seconds(usage::server(&["mariadb", "mysql"]))),
            ("Redis", seconds(usage::server(&["redis"]))),
            ("Jaeger", seconds(usage::server(&["jaeger"]))),
            (LOAD, seconds(Some(std::process::id()))),
        ])
    }
}

/// The load generator, which is this process: fleet, probes and the fake WeChat.
const LOAD: &str = "load";

/// All counts at one moment.
struct Look {
    at: Instant,
    processors: BTreeMap<&'static str, f64>,
    waits: Buckets,
    batches: f64,
    /// Stored and merged readings.
    records: (i64, i64),
    requests: u64,
    accepted: u64,
    latency: Histogram<u64>,
}

impl Look {
    async fn now(world: &World, services: &Services, fleet: &Fleet) -> anyhow::Result<Self> {
        let ledger = world.database.ledger(&world.worker_group).await?;
        let sum =
            |count: fn(&crate::clients::mysql::LedgerRow) -> i64| ledger.iter().map(count).sum();
        let (requests, accepted, latency) = fleet.progress(|report: &Report| {
            let accepted = report.statuses.get(&200).copied().unwrap_or(0);
            (report.requests, accepted, report.latency.clone())
        });
        Ok(Self {
            at: Instant::now(),
            processors: services.processors(),
            waits: Buckets::of(&services.worker, WAIT, OLDEST).await?,
            batches: services.worker.metric("batches_total", "").await?,
            records: (sum(|row| row.stored), sum(|row| row.merged)),
            requests,
            accepted,
            latency,
        })
    }
}

/// Makes one run and adds the figures.
pub(super) async fn run(settings: &Settings, series: &mut Series) -> anyhow::Result<()> {
    let world = World::shared("bench").await?.with_partitions(PARTITIONS);
    world.migrate().await?;
    platform::seed(&world, &[HEART_RATE_HIGH, BLOOD_OXYGEN_LOW, TEMPERATURE_HIGH]).await?;
    messages::seed(&world).await?;
    let wechat = FakeWechat::start().await?;
    let services = Services::start(&world, &wechat).await?;
    let fleet = Fleet::start(&fleet::Settings {
        url: services.gateway.url("/upload_health_data"),
        devices: settings.devices(),
        rate: settings.rate,
        duration: settings.warm_up + settings.duration,
        serial_prefix: world.serial_prefix(),
        ..fleet::Settings::default()
    })
    .await?;
    let mut marker = Marker::start(&services.gateway, &world, PROBE_DEVICES, SAMPLES_MAX);
    pass(settings.warm_up).await;
    marker.forget();
    let first = Look::now(&world, &services, &fleet).await?;
    let breaches = Breaches::upload(&world, &services.gateway, &wechat, settings.duration).await;
    let last = Look::now(&world, &services, &fleet).await?;
    let alerter_lag = world.alerter_lag().await? as f64 / settings.rate;
    probes(&marker, series);
    let report = fleet.finish().await?;
    let (seconds, mut history) = breaches.finish(&world, &wechat).await?;
    notified(&seconds, series);
    history.absorb(marker.finish().await);
    history.absorb(report.history.clone());
    let verdict = verdict::of(&world, &history, SETTLED_WITHIN).await?;
    verdict.problems.iter().for_each(|problem| println!("  PROBLEM {problem}"));
    series.push("readings unaccounted for".into(), "", verdict.problems.len() as f64);
    series.push("the alerter's lag at the end".into(), " s", alerter_lag);
    flow(&first, &last, series)?;
    duplicates(&world, &report, series).await?;
    processors(&first, &last, series);
    for service in [&services.gateway, &services.worker, &services.alerter] {
        let kind = service.name().split('-').next().unwrap_or_default();
        series.push(format!("{kind}, memory"), " MiB", usage::resident(service));
    }
    let Services { gateway, worker, alerter } = services;
    gateway.terminate().await?;
    worker.terminate().await?;
    alerter.terminate().await?;
    world.finish().await
}

fn probes(marker: &Marker, series: &mut Series) {
    for percentile in [95, 99] {
        let seconds = marker.at(percentile).unwrap_or(Duration::MAX).as_secs_f64();
        println!("  P{percentile} from sending to the visible row: {seconds:.3} s");
        series.push(format!("P{percentile} from sending to the visible row"), " s", seconds);
    }
    series.push("probes".into(), "", marker.count() as f64);
}

/// Adds the time from breaches to WeChat.
fn notified(seconds: &[f64], series: &mut Series) {
    series.push("breaches".into(), "", seconds.len() as f64);
    series.push("median from a breach to WeChat".into(), " s", quantile(seconds, 0.5));
    series.push("P95 from a breach to WeChat".into(), " s", quantile(seconds, 0.95));
}

/// Adds the figures of the flow between two moments.
fn flow(first: &Look, last: &Look, series: &mut Series) -> anyhow::Result<()> {
    let seconds = (last.at - first.at).as_secs_f64();
    let requests = last.requests - first.requests;
    let records = last.records.0 + last.records.1 - first.records.0 - first.records.1;
    let accepted = (last.accepted - first.accepted) as f64;
    let mut answers = last.latency.clone();
    answers.subtract(&first.latency)?;
    let waits = last.waits.since(&first.waits);
    series.push("requests/s".into(), "/s", requests as f64 / seconds);
    series.push("records/s".into(), "/s", records as f64 / seconds);
    series.push("batches/s".into(), "/s", (last.batches - first.batches) / seconds);
    series.push("answers 200".into(), " %", accepted / requests.max(1) as f64 * 100.0);
    let answer = answers.value_at_quantile(0.95) as f64 / 1e6;
    series.push("P95 of the answer".into(), " s", answer);
    series.push("P95 of the oldest reading's wait".into(), " s", waits.quantile(0.95));
    Ok(())
}

/// Adds the share of merged readings in the whole run that the fleet did not send twice itself.
async fn duplicates(world: &World, report: &Report, series: &mut Series) -> anyhow::Result<()> {
    let ledger = world.database.ledger(&world.worker_group).await?;
    let stored: i64 = ledger.iter().map(|row| row.stored).sum();
    let merged: i64 = ledger.iter().map(|row| row.merged).sum();
    let known = report.history.count(Answered::Acknowledged) as i64;
    let resent = (report.readings as i64 - known).max(0);
    let beyond = (merged - resent).max(0) as f64 / (stored + merged).max(1) as f64 * 100.0;
    series.push("duplicates beyond what the fleet re-sent".into(), " %", beyond);
    Ok(())
}

/// Adds the shares of a core used between two moments.
fn processors(first: &Look, last: &Look, series: &mut Series) {
    let seconds = (last.at - first.at).as_secs_f64();
    let mut all = 0.0;
    for (name, used) in &last.processors {
        let share = (used - first.processors[name]) / seconds * 100.0;
        series.push(format!("processor, {name}"), " %", share);
        if *name != LOAD {
            all += share;
        }
    }
    println!("  {ALL}: {all:.0} % of a core");
    series.push(ALL.into(), " %", all);
}
