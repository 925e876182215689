//! Builds the parts of the worker, starts them and stops them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use fred::clients::Client;
use fred::interfaces::ClientLike;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ljwx_ledger::device_bindings::DeviceBindings;
use ljwx_ledger::group::consumer::{self, GroupConsumer};
use ljwx_ledger::group::dead_letter_topic::DeadLetterTopic;
use ljwx_ledger::group::monitor::GroupMonitor;
use ljwx_ledger::group::settings::{DeliveryMemory, GroupConsumerConfig};
use ljwx_ledger::ledger::{GroupKind, Ledger};
use ljwx_ledger::mysql::MySqlPool;
use ljwx_ledger::redis::RedisArgs;
use ljwx_service::http::admin::AdminServer;
use ljwx_service::kafka::topic_safety::watch as topic_watch;
use ljwx_service::lifecycle::{Deadline, EssentialTasks, ShutdownStep, within};
use ljwx_service::link;
use ljwx_service::telemetry::{Telemetry, host_name};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::batch::size::BatchSizer;
use crate::batch::spans::SpanNames;
use crate::config::RunConfig;
use crate::dead_letter::DeadLetterSender;
use crate::dead_letter::breaker::DeadLetterBreaker;
use crate::dead_letter::record_source::RecordSource;
use crate::health::monitor::ServerMonitor;
use crate::health::{Health, endpoint};
use crate::mysql::BatchWriter;
use crate::mysql::daily_weekly::retention;
use crate::mysql::group_control::ConsumptionState;
use crate::mysql::monthly_partitions;
use crate::mysql::newest_rows::NewestRows;
use crate::pipeline::flush::Flush;
use crate::pipeline::{Pipeline, PipelineParts};
use crate::redis::LatestHashes;
use crate::redis::repair::{self, GenerationCheck, ReadingsTopic, Repair};

/// Most deliveries that wait for the buffer.
const WAITING_MAX: usize = 4_096;

/// A worker with all its parts, ready to run.
pub struct App {
    config: RunConfig,
    pipeline: Pipeline,
    pool: MySqlPool,
    essential: EssentialTasks,
    background: CancellationToken,
}

impl App {
    /// Connects to the servers and builds the parts, each after those that it needs.
    pub async fn build(
        config: &RunConfig,
        telemetry: &Telemetry,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let parts = Connected::new(config).await?;
        let dead_letters = parts.dead_letters()?;
        let (latest, repair) = parts.redis();
        let flush = parts.flush(dead_letters, latest);
        let source = parts.source(stop)?;
        let consumption_state = parts.monitor()?;
        parts.maintain()?;
        parts.canary()?;
        telemetry.summarise(parts.background.clone());
        let (live, ready) = (parts.health.clone(), parts.health.clone());
        let address = AdminServer::new(
            Arc::new(move || live.live()),
            Arc::new(move || ready.ready()),
            telemetry,
        )
        .serve(
            &config.admin,
            endpoint::route(parts.health.clone()),
            &parts.essential,
            &parts.background,
        )
        .await?;
        let DeliveryMemory { fetched, waiting, pipeline } = config.delivery_memory();
        info!(
            version = ljwx_service::VERSION,
            admin = %address,
            group = config.group,
            delivery_memory_mib = (fetched + waiting + pipeline) / (1024 * 1024),
            "worker started"
        );
        let pipeline = Pipeline::new(PipelineParts {
            source,
            flush,
            repair,
            limits: config.limits(),
            adaptive: BatchSizer::new(config.adaptive()),
            batches_max: config.batches_max(),
            consumption_state,
        });
        let Connected { pool, essential, background, .. } = parts;
        Ok(Self { config: config.clone(), pipeline, pool, essential, background })
    }

    /// Runs the pipeline until `stop` or until an essential task ends, then drains.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let deadline = Deadline::new(self.config.lifecycle.drain_timeout, stop.clone());
        let end = self.essential.during(&stop, self.pipeline.run(&deadline, &stop)).await?;
        info!(?end, "worker stopped");
        self.background.cancel();
        // A connection that is not returned in time ends with the process.
        let _closed = deadline.within(ShutdownStep::Close, self.pool.close()).await;
        Ok(())
    }
}

/// The connections of the worker, and the state that its parts share.
struct Connected<'a> {
    config: &'a RunConfig,
    pool: MySqlPool,
    ledger: Ledger,
    /// Names this process in the ledger and in Redis.
    owner: String,
    redis: Option<Client>,
    bindings: DeviceBindings,
    health: Health,
    essential: EssentialTasks,
    background: CancellationToken,
}

impl<'a> Connected<'a> {
    async fn new(config: &'a RunConfig) -> anyhow::Result<Self> {
        let redis = config.used_redis().and_then(|redis| redis.link());
        let (kafka, collector) = (Some(config.kafka.link()), config.telemetry.link());
        let (mysql, months) = (config.mysql.link(), config.maintenance_link());
        link::announce([kafka, mysql, months, redis, collector]);
        warn_of_repeated_hour(&config.zone.zone, Timestamp::now());
        let pool = config.mysql.connect(&config.zone.zone).context("--mysql-url")?;
        let topic = &config.kafka.readings_topic;
        let owner = format!("{}:{}", host_name(), std::process::id());
        let ledger =
            Ledger::new(pool.clone(), GroupKind::Worker, &config.group, topic, owner.clone());
        consumer::check_start(&config.kafka, &ledger).await?;
        let redis = match config.used_redis() {
            Some(redis) => Some(connect_redis(&redis).await?),
            None => None,
        };
        Ok(Self {
            config,
            bindings: DeviceBindings::new(pool.clone()),
            pool,
            ledger,
            owner,
            redis,
            health: Health::new(config.member.group_protocol),
            essential: EssentialTasks::new(),
            background: CancellationToken::new(),
        })
    }

    fn dead_letters(&self) -> anyhow::Result<DeadLetterTopic> {
        let (kafka, group) = (&self.config.kafka, &self.config.group);
        DeadLetterTopic::start(kafka, "worker", group, &self.essential, &self.background)
    }

    /// Starts the repair of Redis. Returns the writer of the hashes, if the worker uses Redis, and
    /// the pipeline's handle of the repair.
    fn redis(&self) -> (Option<Arc<LatestHashes>>, repair::RepairHandle) {
        let config = self.config;
        let (link, link_end) = repair::link();
        let Some(client) = self.redis.clone() else { return (None, link) };
        let newest = NewestRows::new(self.pool.clone());
        let outcomes = self.health.redis();
        let latest = Arc::new(LatestHashes::new(
            client.clone(),
            newest.clone(),
            config.redis_devices_max,
            config.redis_ttl,
            outcomes.clone(),
        ));
        let owner = self.owner.clone();
        let client_config = config.kafka.client_config("worker-repair");
        let repair = Repair {
            latest: Arc::clone(&latest),
            newest,
            generation_check: GenerationCheck::new(
                client,
                self.pool.clone(),
                &config.group,
                owner,
                outcomes.writes.clone(),
            ),
            topic: ReadingsTopic::new(client_config, &config.kafka.readings_topic, &config.group),
            ledger: self.ledger.clone(),
            link: link_end,
        };
        self.essential.spawn(
            "the repair of Redis",
            &self.background,
            repair.run(self.background.clone()),
        );
        (Some(latest), link)
    }

    fn flush(&self, dead_letters: DeadLetterTopic, latest: Option<Arc<LatestHashes>>) -> Flush {
        let config = self.config;
        let (topic, group) = (config.kafka.readings_topic.clone(), config.group.clone());
        let client = config.kafka.client_config("worker-letters");
        let records = RecordSource::new(client, &topic, &group, self.ledger.clone());
        Flush {
            store: BatchWriter::new(self.pool.clone(), self.ledger.clone()),
            latest,
            bindings: self.bindings.clone(),
            dead_letter_sender: DeadLetterSender::new(
                dead_letters,
                records,
                DeadLetterBreaker::new(config.breaker()),
                self.health.clone(),
            ),
            health: self.health.clone(),
            names: SpanNames { topic, group },
            redis_outage_logged: AtomicBool::new(false),
        }
    }

    fn source(&self, stop: &CancellationToken) -> anyhow::Result<GroupConsumer> {
        let config = self.config;
        let source = GroupConsumerConfig {
            client: config.kafka.client_config(&format!("worker-{}", std::process::id())),
            group: config.group.clone(),
            topic: config.kafka.readings_topic.clone(),
            member: config.member.clone(),
            waiting_max: WAITING_MAX,
            memory: config.delivery_memory(),
        };
        GroupConsumer::start(source, self.ledger.clone(), &self.essential, stop)
            .context("cannot create the consumer; look at --kafka-set")
    }

    /// Starts the monitor of the servers and that of the topics. Returns the receiver of the group's
    /// consumption state.
    fn monitor(&self) -> anyhow::Result<watch::Receiver<ConsumptionState>> {
        let (config, background) = (self.config, &self.background);
        let (ledger, redis) = (self.ledger.clone(), self.redis.clone());
        let bindings = self.bindings.clone();
        let (consumption_state, receiver) = watch::channel(ConsumptionState::Unknown);
        let watch = ServerMonitor {
            group_watch: GroupMonitor::new(&config.kafka, ledger, redis, bindings, "worker-watch")
                .context("cannot create the clients of the watch; look at --kafka-set")?,
            pool: self.pool.clone(),
            group: config.group.clone(),
            topic: config.kafka.readings_topic.clone(),
            health: self.health.clone(),
            consumption_state,
        };
        self.essential.spawn("the server monitor", background, watch.run(background.clone()));
        self.watch_topics()?;
        Ok(receiver)
    }

    /// Watches the readings and the dead letters. Storing continues with unsafe topics.
    fn watch_topics(&self) -> anyhow::Result<()> {
        let kafka = &self.config.kafka;
        let topics = topic_watch::of_group(kafka, &self.config.group);
        let (essential, background) = (&self.essential, &self.background);
        let watched = topic_watch::start(kafka, "worker-check", topics, essential, background)?;
        self.health.watch_topics(watched);
        Ok(())
    }

    /// Starts the canary, if it has an address.
    fn canary(&self) -> anyhow::Result<()> {
        let (config, stop) = (self.config, &self.background);
        let (pool, zone) = (self.pool.clone(), config.zone.zone.clone());
        if let Some(canary) = config.canary.build(pool, zone, self.health.clone())? {
            self.essential.spawn("the canary", stop, canary.run(stop.clone()));
        }
        Ok(())
    }

    /// Starts the maintenance of the months and the removal of old documents, by an account of its own
    /// if there is one.
    fn maintain(&self) -> anyhow::Result<()> {
        let (config, stop) = (self.config, &self.background);
        let zone = config.zone.zone.clone();
        let pool = match config.maintenance_mysql() {
            Some(mysql) => mysql.connect(&zone).context("--maintenance-mysql-url")?,
            None => self.pool.clone(),
        };
        let days = config.retention_days;
        let months =
            monthly_partitions::maintain_loop(pool.clone(), zone.clone(), days, stop.clone());
        self.essential.spawn("the maintenance of monthly partitions", stop, months);
        if let Some(days) = config.daily_retention_days {
            let removal =
                retention::remove_old_days(pool.clone(), zone.clone(), days, stop.clone());
            self.essential.spawn("the removal of daily documents", stop, removal);
        }
        if let Some(days) = config.weekly_retention_days {
            let removal = retention::remove_old_weeks(pool, zone, days, stop.clone());
            self.essential.spawn("the removal of weekly documents", stop, removal);
        }
        Ok(())
    }
}

/// Connects to Redis and waits for the connection, so that Redis gets the first batch too. If Redis
/// is unreachable, the wait ends after `--redis-timeout`.
async fn connect_redis(redis: &RedisArgs) -> anyhow::Result<Client> {
    let client = redis.connect().context("--redis-url")?;
    let _connected = within(redis.timeout, client.wait_for_connect()).await;
    Ok(client)
}

/// Warns of a zone with daylight saving time. In the hour that repeats, two readings of a device may
/// have one wall clock time, and so one identity.
fn warn_of_repeated_hour(zone: &TimeZone, now: Timestamp) {
    if let Some(change) = zone.following(now).next() {
        let (zone, at) = (zone.iana_name().unwrap_or_default(), change.timestamp());
        warn!(zone, %at, "time zone changes its offset, readings of a repeated hour merge");
    }
}
