//! Builds, starts and stops the parts of the alerter.

use std::sync::Arc;

use anyhow::Context;
use fred::clients::Client;
use jiff::Timestamp;
use ljwx_ledger::device_bindings::Bindings;
use ljwx_ledger::group::consumer::{self, Source};
use ljwx_ledger::group::monitor::{self, GroupWatch};
use ljwx_ledger::group::settings::SourceConfig;
use ljwx_ledger::ledger::{Kind, Ledger};
use ljwx_ledger::mysql::MySqlPool;
use ljwx_service::heartbeat::Pulse;
use ljwx_service::http::admin::{Admin, Check};
use ljwx_service::lifecycle::{Deadline, Step, Vital};
use ljwx_service::link;
use ljwx_service::telemetry::{Telemetry, host_name};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::RunConfig;
use crate::mysql::retry::Hold;
use crate::mysql::suppressed_counts;
use crate::notify::device_message::Table;
use crate::notify::limits::Gates;
use crate::notify::operator_events::{News, Operators};
use crate::notify::outbox::Outbox;
use crate::notify::recipients::Directory;
use crate::notify::rejected_rows::Refusals;
use crate::notify::sender::Sender;
use crate::notify::sender::routes::Routes;
use crate::notify::silences::Silences;
use crate::notify::wechat::Platforms;
use crate::pipeline::commit::Store;
use crate::pipeline::{DELIVERIES_MAX, Parts, Pipeline};
use crate::rules::index::RuleSet;
use crate::rules::loading::reload::{OnShrunk, Reload};
use crate::rules::loading::shrinkage::Shrinkage;
use crate::rules::loading::source::Source as RuleSource;
use crate::rules::loading::{change_listener, source_file};

/// The active rules; `None` until they have been read.
type Rules = watch::Receiver<Option<Arc<RuleSet>>>;

/// An alerter that is ready to join its group.
pub struct App {
    config: RunConfig,
    pool: MySqlPool,
    redis: Option<Client>,
    directory: Arc<Directory>,
    platforms: Platforms,
    rules: Rules,
    silences: Silences,
    operators: Operators,
    hold: Hold,
    deadline: Deadline,
    vital: Vital,
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
        let vital = Vital::new();
        let operators = config.operators.build()?;
        let shrinkage = Shrinkage::new(config.rules.allow_no_rules);
        let reload = Reload::new(source, pool.clone(), shrinkage, on_shrunk(operators.clone()));
        let rules =
            reload.start(config.rules.rules_interval, changed_rules(config, stop)?, &vital, stop);
        let silences = Silences::start(pool.clone(), &vital, stop);
        let removal = suppressed_counts::remove_old(pool.clone(), stop.clone());
        vital.spawn("the removal of old counts", stop, removal);
        let pulse = Pulse::new();
        let deadline = Deadline::new(config.lifecycle.drain_timeout, stop.clone());
        let hold = Hold::new(deadline.clone(), pulse.clone());
        let admin_stop = CancellationToken::new();
        let ready = ready(rules.clone(), silences.clone(), hold.clone(), stop.clone());
        let admin = Admin::new(Arc::new(move || pulse.check()), ready, telemetry);
        telemetry.summarise(admin_stop.clone());
        let address = admin.serve(&config.admin, axum::Router::new(), &vital, &admin_stop).await?;
        info!(version = env!("CARGO_PKG_VERSION"), admin = %address, wechat = %config.wechat.wechat_api_url,
            wecom = %config.wechat.wecom_api_url, "alerter started");
        Ok(Self {
            config: config.clone(),
            directory: Arc::new(Directory::new(pool.clone(), config.wechat.accounts())),
            platforms,
            pool,
            redis,
            rules,
            silences,
            operators,
            hold,
            deadline,
            vital,
            admin_stop,
        })
    }

    /// Evaluates and notifies until `stop`, or until an essential task ends. Then leaves the group,
    /// and finishes the sends in progress.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let vital = self.vital.clone();
        // Boxed: a deeper nesting has a layout that the compiler cannot compute.
        vital.during(&stop, Box::pin(self.work(stop.clone()))).await
    }

    async fn work(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        consumer::check_start(&self.config.kafka, &self.ledger()).await?;
        let bindings = Bindings::new(self.pool.clone());
        let group_watch = self.group_watch(bindings.clone())?;
        let watch = watch_servers(group_watch, self.hold.clone(), self.admin_stop.clone());
        self.vital.spawn("the watch", &self.admin_stop, watch);
        // Without rules every reading would pass unevaluated. Without silences every alert would be
        // notified.
        let known = async {
            drop(self.rules.wait_for(Option::is_some).await);
            self.silences.known().await;
        };
        tokio::select! {
            () = self.hold.pulse().during(known) => {}
            () = stop.cancelled() => return Ok(()),
        }
        let wake = Arc::new(Notify::new());
        let sender = self.sender(Arc::clone(&wake));
        let sending = self.vital.spawn("the sender", &stop, sender.run(stop.clone()));
        let pipeline = self.pipeline(wake, bindings, stop)?;
        let result = pipeline.run().await;
        if self.deadline.within(Step::Close, sending).await.is_none() {
            warn!("a notification was still being sent; it is sent again by its next owner");
        }
        self.admin_stop.cancel();
        result
    }

    fn sender(&self, wake: Arc<Notify>) -> Sender {
        let limits = self.config.limits.limits();
        Sender {
            outbox: Outbox::new(self.pool.clone()),
            routes: Routes {
                directory: Arc::clone(&self.directory),
                platforms: self.platforms.clone(),
            },
            watch: Table::new(self.pool.clone()),
            gates: Gates::new(limits.account_per_second),
            limits,
            operators: self.operators.clone(),
            hold: self.hold.clone(),
            wake,
            zone: self.config.zone.zone.clone(),
        }
    }

    fn ledger(&self) -> Ledger {
        let owner = format!("{}:{}", host_name(), std::process::id());
        let topic = &self.config.kafka.readings_topic;
        Ledger::new(self.pool.clone(), Kind::Alerter, &self.config.group, topic, owner)
    }

    fn group_watch(&self, bindings: Bindings) -> anyhow::Result<GroupWatch> {
        let (ledger, redis) = (self.ledger(), self.redis.clone());
        GroupWatch::new(&self.config.kafka, ledger, redis, bindings, "alerter-watch")
            .context("cannot create the clients of the watch; look at --kafka-set")
    }

    fn pipeline(
        &self,
        wake: Arc<Notify>,
        bindings: Bindings,
        stop: CancellationToken,
    ) -> anyhow::Result<Pipeline> {
        let config = &self.config;
        let topic = config.kafka.readings_topic.clone();
        let ledger = self.ledger();
        let source = SourceConfig {
            client: config.kafka.client_config("alerter"),
            group: config.group.clone(),
            topic: topic.clone(),
            member: config.member.clone(),
            keeps_records: false,
            waiting_max: DELIVERIES_MAX,
        };
        let source = Source::start(source, ledger.clone(), stop.clone())
            .context("cannot create the consumer; look at --kafka-set")?;
        Ok(Pipeline::new(Parts {
            source,
            store: Store::new(self.pool.clone(), ledger),
            bindings,
            directory: Arc::clone(&self.directory),
            rules: self.rules.clone(),
            silences: self.silences.clone(),
            hold: self.hold.clone(),
            stop,
            deadline: self.deadline.clone(),
            wake,
            refusals: Refusals::new(self.operators.clone()),
            topic,
            zone: config.zone.zone.clone(),
        }))
    }
}

/// Polls the servers every few seconds until `stop`, for the metrics.
async fn watch_servers(mut group_watch: GroupWatch, hold: Hold, stop: CancellationToken) {
    let mut interval = tokio::time::interval(monitor::INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = interval.tick() => {}
        }
        group_watch.look(!hold.is_holding()).await;
    }
}

/// Returns the source of the rules. A file that is invalid at the start fails the start. A file
/// that becomes invalid later leaves the rules as they are.
fn rule_source(config: &RunConfig, pool: &MySqlPool) -> anyhow::Result<RuleSource> {
    let Some(path) = &config.rules.rules_file else { return Ok(RuleSource::Table(pool.clone())) };
    source_file::load(path).with_context(|| path.display().to_string())?;
    Ok(RuleSource::File(path.clone()))
}

/// Sends an operator event if a source of rules is not taken over.
fn on_shrunk(operators: Operators) -> OnShrunk {
    Box::new(move |text| operators.tell(News::about("rules_shrunk", text, Timestamp::now())))
}

/// Returns a receiver that changes after each message about changed rules. Without Redis it never
/// changes.
fn changed_rules(
    config: &RunConfig,
    stop: &CancellationToken,
) -> anyhow::Result<watch::Receiver<()>> {
    let Some(redis) = config.redis() else { return Ok(watch::channel(()).1) };
    change_listener::start(&redis, stop.clone()).context("--redis-url")
}

fn ready(rules: Rules, silences: Silences, hold: Hold, stop: CancellationToken) -> Check {
    Arc::new(move || {
        if stop.is_cancelled() {
            return Err("draining".into());
        }
        if rules.borrow().is_none() {
            return Err("the rules could not be read yet".into());
        }
        if !silences.are_known() {
            return Err("the silences could not be read yet".into());
        }
        if hold.is_holding() {
            return Err("MySQL does not take alerts".into());
        }
        Ok(())
    })
}
