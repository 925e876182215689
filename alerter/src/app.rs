//! Builds, starts and stops the parts of the alerter.

use std::sync::Arc;
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
use ljwx_ledger::redis::RedisArgs;
use ljwx_service::heartbeat::Heartbeat;
use ljwx_service::http::admin::AdminServer;
use ljwx_service::kafka::topic_safety::watch as topic_watch;
use ljwx_service::lifecycle::{Deadline, EssentialTasks, ShutdownStep};
use ljwx_service::link;
use ljwx_service::telemetry::{Telemetry, host_name};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::RunConfig;
use crate::engine::Engine;
use crate::health::monitor::AlerterMonitor;
use crate::mysql::retry::MysqlRetry;
use crate::mysql::{old_alerts, suppressed_counts};
use crate::notify::device_message;
use crate::notify::limits::AccountLimits;
use crate::notify::operator_events::OperatorEvent;
use crate::notify::outbox::{self, MeasuredOutbox, Outbox};
use crate::notify::recipients::Directory;
use crate::notify::sender::Sender;
use crate::notify::silences::ActiveSilences;
use crate::notify::wechat::Platforms;
use crate::pipeline::dead_letters::DeadLetters;
use crate::pipeline::shared_state::SharedState;
use crate::pipeline::waiting_partitions::HoldReasons;
use crate::pipeline::{DELIVERIES_MAX, Pipeline};
use crate::rules::loading::change_listener;
use crate::rules::loading::reload::RuleReloader;
use crate::rules::loading::shrinkage::SourceGuard;
use crate::rules::loading::source::{self, RuleSource};

/// An alerter that is ready to join its group.
pub struct App {
    config: RunConfig,
    redis: Option<Client>,
    platforms: Platforms,
    shared: SharedState,
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
        let redis = config.redis.args();
        let (kafka, collector) = (Some(config.kafka.link()), config.telemetry.link());
        let redis_link = redis.as_ref().and_then(RedisArgs::link);
        link::announce([kafka, config.mysql.link(), redis_link, collector]);
        let pool = config.mysql.connect(&config.zone.zone).context("--mysql-url")?;
        let client = redis.as_ref().map(RedisArgs::connect).transpose().context("--redis-url")?;
        let platforms = Platforms::new(&config.wechat, client.clone())
            .context("cannot create the HTTP clients")?;
        let source = rule_source(config, &pool)?;
        let essential = EssentialTasks::new();
        let operators = config.operators.build(&essential, stop)?;
        let (edit, edits) = watch::channel(());
        let subscription_refused = Arc::default();
        if let Some(redis) = &redis {
            let refused = Arc::clone(&subscription_refused);
            change_listener::start(redis, edit, refused, &essential, stop)
                .context("--redis-url")?;
        }
        let shrinkage = SourceGuard::new(config.allow_no_rules);
        let operator_events = operators.clone();
        let on_shrunk = Box::new(move |text| {
            operator_events.notify(OperatorEvent::about("rules_shrunk", text, Timestamp::now()));
        });
        let rules = RuleReloader::new(source, pool.clone(), shrinkage, on_shrunk);
        let deadline = Deadline::new(config.lifecycle.drain_timeout, stop.clone());
        let mysql_retry = MysqlRetry::new(deadline.clone(), Heartbeat::new());
        let (group, topic) = (&config.group, &config.kafka.readings_topic);
        let owner = format!("{}:{}", host_name(), std::process::id());
        let shared = SharedState {
            ledger: Ledger::new(pool.clone(), GroupKind::Alerter, group, topic, owner),
            rules: rules.start(config.rules_interval, edits, &essential, stop),
            subscription_refused,
            silences: ActiveSilences::start(pool.clone(), &essential, stop),
            bindings: DeviceBindings::new(pool.clone()),
            directory: Arc::new(Directory::new(pool, config.wechat.accounts())),
            accounts: Arc::new(AccountLimits::new(config.account_messages_per_second)),
            operators,
            sender_retry: mysql_retry.with_heartbeat(Heartbeat::of("sender")),
            mysql_retry,
            hold_reasons: HoldReasons::default(),
            owed: watch::Sender::default(),
            counted_time: watch::Sender::default(),
            wake: Arc::default(),
            stop: stop.clone(),
            deadline,
        };
        let admin_stop = CancellationToken::new();
        telemetry.summarise(admin_stop.clone());
        let (live, ready) = (shared.clone(), shared.clone());
        let (live, ready) = (Arc::new(move || live.live()), Arc::new(move || ready.ready()));
        let admin = AdminServer::new(live, ready, telemetry);
        let address =
            admin.serve(&config.admin, axum::Router::new(), &essential, &admin_stop).await?;
        info!(version = ljwx_service::VERSION, admin = %address, wechat = %config.wechat.wechat_api_url,
            wecom = %config.wechat.wecom_api_url, "alerter started");
        Ok(Self { config: config.clone(), redis: client, platforms, shared, essential, admin_stop })
    }

    /// Evaluates and notifies until the process has to end, or until an essential task ends. Then
    /// leaves the group, and finishes the sends in progress.
    pub async fn run(self) -> anyhow::Result<()> {
        let (essential, stop) = (self.essential.clone(), self.shared.stop.clone());
        // Boxed: a deeper nesting has a layout that the compiler cannot compute.
        essential.during(&stop, Box::pin(self.work())).await
    }

    async fn work(mut self) -> anyhow::Result<()> {
        self.remove_old_rows();
        // Evaluation continues with an unsafe topic, and the alerter stays ready: otherwise a rolling
        // update would stop.
        let topics = topic_watch::of_group(&self.config.kafka, &self.config.group);
        let (kafka, admin_stop) = (&self.config.kafka, &self.admin_stop);
        topic_watch::start(kafka, "alerter-check", topics, &self.essential, admin_stop)?;
        consumer::check_start(kafka, &self.shared.ledger).await?;
        let (measurements, measured) = watch::channel(None);
        let monitor = self.monitor(measured)?.run(self.admin_stop.clone());
        self.essential.spawn("the server monitor", &self.admin_stop, monitor);
        let accounts = Arc::clone(&self.shared.accounts);
        let failing = move || accounts.failing(Instant::now());
        let outbox = Outbox { pool: self.shared.ledger.pool().clone() };
        let depth = outbox::monitor(outbox, failing, measurements, self.admin_stop.clone());
        self.essential.spawn("the monitor of the outbox", &self.admin_stop, depth);
        let SharedState { rules, silences, mysql_retry, sender_retry, stop, .. } = &mut self.shared;
        // Without rules every reading would pass unevaluated. Without silences every alert would be
        // notified.
        let known = async {
            drop(rules.wait_for(Option::is_some).await);
            silences.known().await;
        };
        let known = sender_retry.heartbeat().during(known);
        tokio::select! {
            () = mysql_retry.heartbeat().during(known) => {}
            () = stop.cancelled() => return Ok(()),
        }
        let stop = stop.clone();
        let sending = self.essential.spawn("the sender", &stop, self.sender().run(stop.clone()));
        let result = self.pipeline()?.run().await;
        if self.shared.deadline.within(ShutdownStep::Close, sending).await.is_none() {
            warn!("notification still in flight at shutdown, its next owner sends it again");
        }
        self.admin_stop.cancel();
        result
    }

    fn sender(&self) -> Sender {
        let pool = self.shared.ledger.pool();
        Sender {
            outbox: Outbox { pool: pool.clone() },
            directory: Arc::clone(&self.shared.directory),
            platforms: self.platforms.clone(),
            device_messages: device_message::columns(pool.clone()),
            accounts: Arc::clone(&self.shared.accounts),
            recipient_per_minute: self.config.recipient_messages_per_minute,
            silences: self.shared.silences.clone(),
            operators: self.shared.operators.clone(),
            mysql_retry: self.shared.sender_retry.clone(),
            wake: Arc::clone(&self.shared.wake),
        }
    }

    fn monitor(&self, outbox: MeasuredOutbox) -> anyhow::Result<AlerterMonitor> {
        let Self { config, shared, .. } = self;
        let (ledger, redis) = (shared.ledger.clone(), self.redis.clone());
        let bindings = shared.bindings.clone();
        let monitor = GroupMonitor::new(&config.kafka, ledger, redis, bindings, "alerter-watch")
            .context("cannot create the clients of the watch; look at --kafka-set")?;
        AlerterMonitor::new(&config.monitor, monitor, outbox, shared.clone())
    }

    fn pipeline(&self) -> anyhow::Result<Pipeline> {
        let Self { config, shared, essential, .. } = self;
        let (kafka, group) = (&config.kafka, &config.group);
        let letters = DeadLetterTopic::start(kafka, "alerter", group, essential, &self.admin_stop)?;
        let dead_letters = DeadLetters::new(letters, shared.hold_reasons.clone());
        let memory = DeliveryMemory::within(config.telemetry.memory_limit());
        let source = GroupConsumerConfig {
            client: kafka.client_config("alerter"),
            group: group.clone(),
            topic: kafka.readings_topic.clone(),
            member: config.member.clone(),
            waiting_max: DELIVERIES_MAX,
            memory,
        };
        let source = GroupConsumer::start(source, shared.ledger.clone(), essential, &shared.stop)
            .context("cannot create the consumer; look at --kafka-set")?;
        let engine = Engine::new(config.zone.zone.clone(), config.device_limits());
        Ok(Pipeline::new(source, dead_letters, engine, memory, shared.clone()))
    }

    /// Starts to remove rows past their retention, until the process has to end.
    fn remove_old_rows(&self) {
        let Self { essential, shared: SharedState { stop, .. }, .. } = self;
        let pool = self.shared.ledger.pool();
        let counts = suppressed_counts::remove_old(pool.clone(), stop.clone());
        essential.spawn("the removal of old counts", stop, counts);
        let notifications = outbox::remove_old(pool.clone(), stop.clone());
        essential.spawn("the removal of old notifications", stop, notifications);
        if let Some(days) = self.config.alert_retention_days {
            let alerts = old_alerts::remove_old(pool.clone(), days, stop.clone());
            essential.spawn("the removal of old alerts", stop, alerts);
        }
    }
}

/// Returns the source of the rules. A file that is invalid at the start fails the start. A file
/// that becomes invalid later leaves the rules as they are.
fn rule_source(config: &RunConfig, pool: &MySqlPool) -> anyhow::Result<RuleSource> {
    let Some(path) = &config.rules_file else { return Ok(RuleSource::Table(pool.clone())) };
    source::load_file(path).with_context(|| path.display().to_string())?;
    Ok(RuleSource::File(path.clone()))
}
