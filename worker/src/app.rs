//! The worker's parts and how they start and stop.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use fred::clients::Client;
use fred::interfaces::ClientLike;
use jiff::Timestamp;
use ljwx_ledger::device_bindings::Bindings;
use ljwx_ledger::group::consumer::{self, Source, SourceConfig};
use ljwx_ledger::group::dead_letter_topic::DeadLetters;
use ljwx_ledger::group::monitor::GroupWatch;
use ljwx_ledger::ledger::{Kind, Ledger};
use ljwx_ledger::mysql::MySqlPool;
use ljwx_service::http::admin::Admin;
use ljwx_service::kafka::LETTER_BYTES_MAX;
use ljwx_service::kafka::publisher::{Publisher, PublisherLimits};
use ljwx_service::lifecycle::{Deadline, Step, Vital, within};
use ljwx_service::link;
use ljwx_service::telemetry::{Telemetry, host_name};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::batch::size::Adaptive;
use crate::batch::spans::SpanNames;
use crate::config::RunConfig;
use crate::dead_letter::Letters;
use crate::dead_letter::breaker::Breaker;
use crate::dead_letter::topic_check;
use crate::health::Health;
use crate::health::monitor::Watch;
use crate::mysql::Store;
use crate::mysql::group_control::Gate;
use crate::mysql::monthly_partitions;
use crate::mysql::newest_rows::Newest;
use crate::pipeline::flush::Flush;
use crate::pipeline::{Parts, Pipeline};
use crate::redis::repair::{self, Repair, Sentinel, Topic};
use crate::redis::{Latest, Writes};

/// Bounds of the producer of dead letters.
const LETTERS: PublisherLimits = PublisherLimits {
    message_timeout: Duration::from_secs(30),
    linger: Duration::from_millis(5),
    queue_kbytes: 16 * 1024,
    queue_records: 10_000,
    message_bytes_max: LETTER_BYTES_MAX,
};

/// Deliveries that wait for the buffer, at most.
const WAITING_MAX: usize = 4_096;

/// How often months are looked after.
const PARTITIONS_INTERVAL: Duration = Duration::from_secs(3600);

/// A worker that has joined its group.
pub struct App {
    config: RunConfig,
    pipeline: Pipeline,
    pool: MySqlPool,
    vital: Vital,
    background: CancellationToken,
}

impl App {
    /// Builds every part in the order of its needs.
    pub async fn build(
        config: &RunConfig,
        telemetry: &Telemetry,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let redis = (!config.no_redis).then(|| config.redis.link()).flatten();
        let (kafka, collector) = (Some(config.kafka.link()), config.telemetry.link());
        link::announce([kafka, config.mysql.link(), redis, collector]);
        let zone = &config.zone.zone;
        let pool = config.mysql.connect(zone).context("--mysql-url")?;
        let topic = config.kafka.readings_topic.clone();
        let owner = format!("{}:{}", host_name(), std::process::id());
        let ledger = Ledger::new(pool.clone(), Kind::Worker, &config.group, &topic, owner.clone());
        consumer::check_start(&config.kafka, &ledger).await?;
        let redis = if config.no_redis { None } else { Some(connect_redis(config).await?) };
        let publisher = Publisher::new(config.kafka.client_config("worker"), &LETTERS)
            .context("cannot create the producer; look at --kafka-set")?;
        let (vital, background) = (Vital::new(), CancellationToken::new());
        vital.spawn("the producer of dead letters", &background, publisher.clone().failed());
        let health = Health::new(config.member.group_protocol);
        let letters = DeadLetters::new(
            publisher,
            config.kafka.dead_letter_topic(&config.group),
            topic.clone(),
            config.group.clone(),
        );
        let newest = Newest::new(pool.clone());
        let writes = health.redis_writes();
        let latest =
            redis.clone().map(|client| show_latest(config, client, newest.clone(), writes.clone()));
        let (link, link_end) = repair::link();
        if let (Some(client), Some(latest)) = (&redis, &latest) {
            let repair = Repair {
                latest: Arc::clone(latest),
                newest,
                sentinel: Sentinel::new(client.clone(), pool.clone(), &config.group, owner, writes),
                topic: look_back(config),
                ledger: ledger.clone(),
                link: link_end,
            };
            vital.spawn("the repair of Redis", &background, repair.run(background.clone()));
        }
        let bindings = Bindings::new(pool.clone());
        let flush = Flush {
            store: Store::new(pool.clone(), ledger.clone()),
            latest,
            bindings: bindings.clone(),
            letters: Letters::new(letters, Breaker::new(config.breaker()), health.clone()),
            health: health.clone(),
            names: SpanNames { topic: topic.clone(), group: config.group.clone() },
            redis_misses: AtomicBool::new(false),
        };
        let source = SourceConfig {
            client: config.kafka.client_config(&format!("worker-{}", std::process::id())),
            group: config.group.clone(),
            topic,
            member: config.member.clone(),
            keeps_records: true,
            waiting_max: WAITING_MAX,
        };
        let source = Source::start(source, ledger.clone(), stop.clone())
            .context("cannot create the consumer; look at --kafka-set")?;
        let (gate, gate_end) = watch::channel(Gate::Unknown);
        let watch = Watch {
            group_watch: GroupWatch::new(&config.kafka, ledger, redis, bindings, "worker-watch")
                .context("cannot create the clients of the watch; look at --kafka-set")?,
            pool: pool.clone(),
            group: config.group.clone(),
            topic: config.kafka.readings_topic.clone(),
            health: health.clone(),
            gate,
        };
        vital.spawn("the watch", &background, watch.run(background.clone()));
        let (kafka, group) = (config.kafka.clone(), config.group.clone());
        tokio::spawn(topic_check::check(kafka, group, health.clone(), background.clone()));
        telemetry.summarise(background.clone());
        let months = keep_months(pool.clone(), config.clone(), background.clone());
        vital.spawn("the care for months", &background, months);
        let address = admin(&health, telemetry)
            .serve(&config.admin, health_route(health), &vital, &background)
            .await?;
        let version = env!("CARGO_PKG_VERSION");
        info!(version, admin = %address, group = config.group, "worker started");
        let pipeline = Pipeline::new(Parts {
            source,
            flush,
            repair: link,
            limits: config.limits(),
            adaptive: Adaptive::new(config.adaptive()),
            gate: gate_end,
        });
        Ok(Self { config: config.clone(), pipeline, pool, vital, background })
    }

    /// Works until `stop`, or until a part of it is lost, then drains.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let deadline = Deadline::new(self.config.lifecycle.drain_timeout, stop.clone());
        let end = self.vital.during(&stop, self.pipeline.run(&deadline, &stop)).await?;
        info!(?end, "worker stopped");
        self.background.cancel();
        // A connection that does not come back in time goes with the process.
        let _closed = deadline.within(Step::Close, self.pool.close()).await;
        Ok(())
    }
}

/// The topic once more, for what Redis missed.
fn look_back(config: &RunConfig) -> Topic {
    let client = config.kafka.client_config("worker-repair");
    Topic::new(client, &config.kafka.readings_topic, &config.group)
}

/// A Redis that is there has the first batch, too; one that is away is not waited for.
async fn connect_redis(config: &RunConfig) -> anyhow::Result<Client> {
    let client = config.redis.connect().context("--redis-url")?;
    let _connected = within(config.redis.timeout, client.wait_for_connect()).await;
    Ok(client)
}

fn show_latest(config: &RunConfig, client: Client, newest: Newest, writes: Writes) -> Arc<Latest> {
    Arc::new(Latest::new(client, newest, config.redis_devices_max, config.redis_ttl, writes))
}

fn admin(health: &Health, telemetry: &Telemetry) -> Admin {
    let (live, ready) = (health.clone(), health.clone());
    Admin::new(Arc::new(move || live.live()), Arc::new(move || ready.ready()), telemetry)
}

fn health_route(health: Health) -> Router {
    Router::new().route(
        "/api/batch_processor/health",
        get(async move || {
            let report = health.report(Timestamp::now().as_millisecond());
            let unhealthy = report.status == "unhealthy";
            let status = if unhealthy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
            (status, Json(report))
        }),
    )
}

async fn keep_months(pool: MySqlPool, config: RunConfig, stop: CancellationToken) {
    let mut interval = tokio::time::interval(PARTITIONS_INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = interval.tick() => {}
        }
        let today = config.zone.zone.to_datetime(Timestamp::now()).date();
        let maintained = monthly_partitions::maintain(&pool, today, config.retention_days);
        let kept = tokio::select! {
            () = stop.cancelled() => return,
            // Whatever keeps it waiting, a server that hangs included, is looked at anew then.
            kept = within(PARTITIONS_INTERVAL, maintained) => kept,
        };
        if let Some(Err(error)) = kept {
            warn!(%error, "months could not be looked after; p_future takes what they would");
        }
    }
}
