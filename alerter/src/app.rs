//! Builds, starts and stops the parts of the alerter.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use anyhow::Context;
use fred::clients::Client;
use jiff::Timestamp;
use ljwx_ledger::device_bindings::DeviceBindings;
use ljwx_ledger::group::consumer::{self, GroupConsumer};
use ljwx_ledger::group::dead_letter_topic::DeadLetterTopic;
use ljwx_ledger::group::monitor::GroupMonitor;
use ljwx_ledger::group::settings::{DeliveryMemory, GroupConsumerConfig};
use ljwx_ledger::ledger::{GroupKind, Ledger};
use ljwx_ledger::mysql::MySqlPool;
use ljwx_service::heartbeat::Heartbeat;
use ljwx_service::http::admin::{AdminServer, Probe};
use ljwx_service::kafka::topic_safety::watch as topic_watch;
use ljwx_service::lifecycle::{Deadline, EssentialTasks, ShutdownStep};
use ljwx_service::link;
use ljwx_service::telemetry::{Telemetry, host_name};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::RunConfig;
use crate::engine::no_data::counted_time::CountedTime;
use crate::health::monitor::{AlerterMonitor, MonitoredParts};
use crate::health::probes::{ActiveRules, alive, ready};
use crate::mysql::retry::MysqlRetry;
use crate::mysql::{old_alerts, suppressed_counts};
use crate::notify::device_message::DeviceMessageTable;
use crate::notify::limits::AccountLimits;
use crate::notify::operator_events::{OperatorEvent, OperatorEvents};
use crate::notify::outbox::{self, Outbox, OutboxMeasurement};
use crate::notify::recipients::Directory;
use crate::notify::sender::Sender;
use crate::notify::sender::routes::SenderRoutes;
use crate::notify::silences::ActiveSilences;
use crate::notify::wechat::Platforms;
use crate::pipeline::commit::BatchCommit;
use crate::pipeline::dead_letters::DeadLetters;
use crate::pipeline::owed::OwedMeasurement;
use crate::pipeline::waiting_partitions::HoldReasons;
use crate::pipeline::{DELIVERIES_MAX, Pipeline, PipelineParts};
use crate::rules::loading::change_listener::{self, RuleChanges};
use crate::rules::loading::reload::{OnShrunk, RuleReloader};
use crate::rules::loading::shrinkage::SourceGuard;
use crate::rules::loading::source::RuleSource;
use crate::rules::loading::source_file;

/// An alerter that is ready to join its group.
pub struct App {
    config: RunConfig,
    pool: MySqlPool,
    redis: Option<Client>,
    directory: Arc<Directory>,
    platforms: Platforms,
    rules: ActiveRules,
    /// Whether Redis rejects the subscription to rule changes.
    subscription_refused: Arc<AtomicBool>,
    silences: ActiveSilences,
    operators: OperatorEvents,
    /// The limits of the accounts.
    accounts: Arc<AccountLimits>,
    /// What this replica's episodes owe.
    owed: watch::Sender<OwedMeasurement>,
    /// The wall time that counts for missing data.
    counted_time: watch::Sender<CountedTime>,
    /// The liveness and the readiness probe.
    probes: [Probe; 2],
    mysql_retry: MysqlRetry,
    /// Why partitions wait for a dead letter, and for a held batch.
    hold_reasons: HoldReasons,
    /// The sender's retry, with the sender's heartbeat.
    sender_retry: MysqlRetry,
    deadline: Deadline,
    essential: EssentialTasks,
    admin_stop: CancellationToken,
}

impl App {
    /// Builds every part, in the order of their dependencies.
    pub async fn build(
        config: &RunConfig,
        telemetry: &Telemetry,
        stop: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let redis = config.redis().and_then(|redis| redis.link());
        let (kafka, collector) = (Some(config.kafka.link()), config.telemetry.link());
        link::announce([kafka, config.mysql.link(), redis, collector]);
        let pool = config.mysql.connect(&config.zone.zone).context("--mysql-url")?;
        let redis =
            config.redis().map(|redis| redis.connect()).transpose().context("--redis-url")?;
        let platforms = Platforms::new(&config.wechat, redis.clone())
            .context("cannot create the HTTP clients")?;
        let source = rule_source(config, &pool)?;
        let essential = EssentialTasks::new();
        let operators = config.operators.build(&essential, stop)?;
        let shrinkage = SourceGuard::new(config.rules.allow_no_rules);
        let reload =
            RuleReloader::new(source, pool.clone(), shrinkage, on_shrunk(operators.clone()));
        let RuleChanges { edits, refused } = changed_rules(config, &essential, stop)?;
        let rules = reload.start(config.rules.rules_interval, edits, &essential, stop);
        let silences = ActiveSilences::start(pool.clone(), &essential, stop);
        remove_old_rows(config, &pool, &essential, stop);
        let deadline = Deadline::new(config.lifecycle.drain_timeout, stop.clone());
        let mysql_retry = MysqlRetry::new(deadline.clone(), Heartbeat::new());
        let sender_retry = mysql_retry.with_heartbeat(Heartbeat::of("sender"));
        let admin_stop = CancellationToken::new();
        watch_topics(config, &essential, &admin_stop)?;
        let hold_reasons = HoldReasons::default();
        let ready = ready(
            rules.clone(),
            silences.clone(),
            mysql_retry.clone(),
            hold_reasons.clone(),
            stop.clone(),
        );
        let heartbeats = [mysql_retry.heartbeat().clone(), sender_retry.heartbeat().clone()];
        let loops = alive(heartbeats, stop.clone());
        let admin = AdminServer::new(Arc::clone(&loops), Arc::clone(&ready), telemetry);
        telemetry.summarise(admin_stop.clone());
        let address =
            admin.serve(&config.admin, axum::Router::new(), &essential, &admin_stop).await?;
        info!(version = ljwx_service::VERSION, admin = %address, wechat = %config.wechat.wechat_api_url,
            wecom = %config.wechat.wecom_api_url, "alerter started");
        Ok(Self {
            config: config.clone(),
            directory: Arc::new(Directory::new(pool.clone(), config.wechat.accounts())),
            platforms,
            pool,
            redis,
            rules,
            subscription_refused: refused,
            silences,
            operators,
            accounts: Arc::new(AccountLimits::new(config.limits.limits().account_per_second)),
            owed: watch::Sender::default(),
            counted_time: watch::Sender::default(),
            probes: [loops, ready],
            mysql_retry,
            hold_reasons,
            sender_retry,
            deadline,
            essential,
            admin_stop,
        })
    }

    /// Evaluates and notifies until `stop`, or until an essential task ends. Then leaves the group,
    /// and finishes the sends in progress.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let essential = self.essential.clone();
        // Boxed: a deeper nesting has a layout that the compiler cannot compute.
        essential.during(&stop, Box::pin(self.work(stop.clone()))).await
    }

    async fn work(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        consumer::check_start(&self.config.kafka, &self.ledger()).await?;
        let bindings = DeviceBindings::new(self.pool.clone());
        let (measurements, measured) = watch::channel(None);
        let monitor = self.monitor(bindings.clone(), measured)?.run(self.admin_stop.clone());
        self.essential.spawn("the server monitor", &self.admin_stop, monitor);
        let (outbox, accounts) = (Outbox::new(self.pool.clone()), Arc::clone(&self.accounts));
        let failing = move || accounts.failing(Instant::now());
        let depth = outbox::monitor(outbox, failing, measurements, self.admin_stop.clone());
        self.essential.spawn("the monitor of the outbox", &self.admin_stop, depth);
        // Without rules every reading would pass unevaluated. Without silences every alert would be
        // notified.
        let known = async {
            drop(self.rules.wait_for(Option::is_some).await);
            self.silences.known().await;
        };
        let known = self.sender_retry.heartbeat().during(known);
        tokio::select! {
            () = self.mysql_retry.heartbeat().during(known) => {}
            () = stop.cancelled() => return Ok(()),
        }
        let wake = Arc::new(Notify::new());
        let sender = self.sender(Arc::clone(&wake));
        let sending = self.essential.spawn("the sender", &stop, sender.run(stop.clone()));
        let pipeline = self.pipeline(wake, bindings, stop)?;
        let result = pipeline.run().await;
        if self.deadline.within(ShutdownStep::Close, sending).await.is_none() {
            warn!("notification still in flight at shutdown, its next owner sends it again");
        }
        self.admin_stop.cancel();
        result
    }

    fn sender(&self, wake: Arc<Notify>) -> Sender {
        Sender {
            outbox: Outbox::new(self.pool.clone()),
            routes: SenderRoutes {
                directory: Arc::clone(&self.directory),
                platforms: self.platforms.clone(),
            },
            device_messages: DeviceMessageTable::new(self.pool.clone()),
            gates: Arc::clone(&self.accounts),
            limits: self.config.limits.limits(),
            silences: self.silences.clone(),
            operators: self.operators.clone(),
            mysql_retry: self.sender_retry.clone(),
            wake,
        }
    }

    fn ledger(&self) -> Ledger {
        let topic = &self.config.kafka.readings_topic;
        Ledger::new(self.pool.clone(), GroupKind::Alerter, &self.config.group, topic, replica())
    }

    fn monitor(
        &self,
        bindings: DeviceBindings,
        outbox: watch::Receiver<Option<OutboxMeasurement>>,
    ) -> anyhow::Result<AlerterMonitor> {
        let (kafka, ledger, redis) = (&self.config.kafka, self.ledger(), self.redis.clone());
        let monitor = GroupMonitor::new(kafka, ledger, redis, bindings, "alerter-watch")
            .context("cannot create the clients of the watch; look at --kafka-set")?;
        let parts = MonitoredParts {
            monitor,
            replica: replica(),
            mysql_retry: self.mysql_retry.clone(),
            subscription_refused: Arc::clone(&self.subscription_refused),
            probes: self.probes.clone(),
            outbox,
            accounts: Arc::clone(&self.accounts),
            owed: self.owed.subscribe(),
            rules: self.rules.clone(),
            counted_time: self.counted_time.clone(),
            operators: self.operators.clone(),
        };
        AlerterMonitor::new(parts, &self.config.monitor)
    }

    fn dead_letters(&self) -> anyhow::Result<DeadLetters> {
        let (kafka, group) = (&self.config.kafka, &self.config.group);
        let (essential, stop) = (&self.essential, &self.admin_stop);
        let topic = DeadLetterTopic::start(kafka, "alerter", group, essential, stop)?;
        Ok(DeadLetters::new(topic, self.hold_reasons.clone()))
    }

    fn pipeline(
        &self,
        wake: Arc<Notify>,
        bindings: DeviceBindings,
        stop: CancellationToken,
    ) -> anyhow::Result<Pipeline> {
        let config = &self.config;
        let topic = config.kafka.readings_topic.clone();
        let ledger = self.ledger();
        let dead_letters = self.dead_letters()?;
        let memory = DeliveryMemory::within(config.telemetry.memory_limit());
        let source = GroupConsumerConfig {
            client: config.kafka.client_config("alerter"),
            group: config.group.clone(),
            topic: topic.clone(),
            member: config.member.clone(),
            waiting_max: DELIVERIES_MAX,
            memory,
        };
        let source = GroupConsumer::start(source, ledger.clone(), &self.essential, &stop)
            .context("cannot create the consumer; look at --kafka-set")?;
        Ok(Pipeline::new(PipelineParts {
            source,
            dead_letters,
            store: BatchCommit::new(self.pool.clone(), ledger),
            hold_reasons: self.hold_reasons.clone(),
            memory,
            bindings,
            directory: Arc::clone(&self.directory),
            accounts: Arc::clone(&self.accounts),
            owed: self.owed.clone(),
            counted_time: self.counted_time.subscribe(),
            rules: self.rules.clone(),
            silences: self.silences.clone(),
            mysql_retry: self.mysql_retry.clone(),
            stop,
            deadline: self.deadline.clone(),
            wake,
            topic,
            zone: config.zone.zone.clone(),
            devices: config.devices.limits(),
            operators: self.operators.clone(),
        }))
    }
}

/// Returns this replica's name in the ledger.
fn replica() -> String {
    format!("{}:{}", host_name(), std::process::id())
}

/// Returns the source of the rules. A file that is invalid at the start fails the start. A file
/// that becomes invalid later leaves the rules as they are.
fn rule_source(config: &RunConfig, pool: &MySqlPool) -> anyhow::Result<RuleSource> {
    let Some(path) = &config.rules.rules_file else { return Ok(RuleSource::Table(pool.clone())) };
    source_file::load(path).with_context(|| path.display().to_string())?;
    Ok(RuleSource::File(path.clone()))
}

/// Sends an operator event if a source of rules is not taken over.
fn on_shrunk(operators: OperatorEvents) -> OnShrunk {
    Box::new(move |text| {
        operators.notify(OperatorEvent::about("rules_shrunk", text, Timestamp::now()))
    })
}

/// Starts listening for changed rules, if Redis is used.
fn changed_rules(
    config: &RunConfig,
    essential: &EssentialTasks,
    stop: &CancellationToken,
) -> anyhow::Result<RuleChanges> {
    let Some(redis) = config.redis() else { return Ok(RuleChanges::default()) };
    change_listener::start(&redis, essential, stop).context("--redis-url")
}

/// Starts to remove rows past their retention, until `stop`.
fn remove_old_rows(
    config: &RunConfig,
    pool: &MySqlPool,
    essential: &EssentialTasks,
    stop: &CancellationToken,
) {
    let counts = suppressed_counts::remove_old(pool.clone(), stop.clone());
    essential.spawn("the removal of old counts", stop, counts);
    let notifications = outbox::remove_old(pool.clone(), stop.clone());
    essential.spawn("the removal of old notifications", stop, notifications);
    if let Some(days) = config.alert_retention_days {
        let alerts = old_alerts::remove_old(pool.clone(), days, stop.clone());
        essential.spawn("the removal of old alerts", stop, alerts);
    }
}

/// Watches the readings and the dead letters until `stop`, for the log and the metrics. Evaluation
/// continues with an unsafe topic, and the alerter stays ready: otherwise a rolling update would
/// stop.
fn watch_topics(
    config: &RunConfig,
    essential: &EssentialTasks,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let topics = topic_watch::of_group(&config.kafka, &config.group);
    topic_watch::start(&config.kafka, "alerter-check", topics, essential, stop)?;
    Ok(())
}
