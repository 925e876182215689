//! A world of its own for each test on the servers that tests share: database, topics, consumer
//! groups, serial numbers and logs that no other test uses.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use anyhow::{Context, ensure};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use uuid::Uuid;

use crate::clients::mysql::Database;
use crate::clients::redis::Cache;
use crate::clients::{kafka, mysql};
use crate::fakes::wechat::{APP_SECRET, FakeWechat, TEMPLATE_ID};
use crate::stack::accounts::{Account, Accounts};
use crate::stack::environment::Stack;
use crate::stack::launch::{Launch, program_folder};
use crate::stack::own_server::OwnServer;
use crate::stack::process::tail;
use crate::stack::tls_stack::TlsStack;

/// Time zone of the simulated devices.
pub const TIME_ZONE: &str = "Asia/Shanghai";

/// Partitions of a world's topics. They are few because each costs the broker files and time.
const PARTITIONS: u32 = 4;

/// Held shared by tests that need the servers, exclusively by tests that stop them.
static SERVERS: RwLock<()> = RwLock::const_new(());

#[derive(Debug)]
enum Hold {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Exclusive { _guard: RwLockWriteGuard<'static, ()> },
}

/// The surroundings of a pipeline.
#[derive(Debug)]
pub struct World {
    /// The servers.
    pub stack: Stack,
    /// This world's database.
    pub database: Database,
    /// The accounts with which the programs use the database.
    pub accounts: Accounts,
    /// This world's Redis keys: those of its devices.
    pub cache: Cache,
    /// Topic of the readings.
    pub readings_topic: String,
    /// Topic of the rejects.
    pub rejects_topic: String,
    /// Consumer group of the workers.
    pub worker_group: String,
    /// Consumer group of the alerters.
    pub alerter_group: String,
    /// Folder of the services' logs.
    pub logs: PathBuf,
    /// Nothing of this world is older.
    pub created: SystemTime,
    id: String,
    partitions: u32,
    launched: AtomicUsize,
    finished: bool,
    // This field is last, so that all else of this world is gone before another world starts.
    _hold: Hold,
}

impl World {
    /// Creates a world beside others.
    pub async fn shared(name: &str) -> anyhow::Result<Self> {
        let hold = Hold::Shared { _guard: SERVERS.read().await };
        Self::new(name, Stack::from_env()?, hold).await
    }

    /// Creates a world beside others, with its database on a server of its own.
    pub async fn on(name: &str, server: &OwnServer) -> anyhow::Result<Self> {
        let hold = Hold::Shared { _guard: SERVERS.read().await };
        let stack = Stack { mysql_url: server.url().to_owned(), ..Stack::from_env()? };
        Self::new(name, stack, hold).await
    }

    /// Creates a world beside others, on servers of its own. Their start disturbs no exclusive
    /// world.
    pub async fn on_tls_stack(name: &str) -> anyhow::Result<(TlsStack, Self)> {
        let hold = Hold::Shared { _guard: SERVERS.read().await };
        let servers = TlsStack::start().await?;
        let world = Self::new(name, servers.stack()?, hold).await?;
        Ok((servers, world))
    }

    /// Creates a world whose test may stop the servers, or measures times. No other world exists
    /// meanwhile.
    pub async fn exclusive(name: &str) -> anyhow::Result<Self> {
        let hold = Hold::Exclusive { _guard: SERVERS.write().await };
        Self::new(name, Stack::from_env()?, hold).await
    }

    async fn new(name: &str, stack: Stack, hold: Hold) -> anyhow::Result<Self> {
        let id = Uuid::new_v4().simple().to_string()[..8].to_owned();
        let programs = program_folder()?;
        let logs = programs.parent().unwrap_or(&programs).join("logs").join(format!("{name}-{id}"));
        std::fs::create_dir_all(&logs).context("folder for logs")?;
        let database = Database::create(&stack.mysql_url, &format!("ljwx_{name}_{id}")).await?;
        let accounts = Accounts::create(&database, &id).await?;
        let cache = Cache::connect(&stack.redis_url).await?;
        Ok(Self {
            database,
            accounts,
            cache,
            readings_topic: format!("{name}.{id}.readings"),
            rejects_topic: format!("{name}.{id}.rejected"),
            worker_group: format!("worker-{id}"),
            alerter_group: format!("alerter-{id}"),
            logs,
            created: SystemTime::now(),
            id,
            partitions: PARTITIONS,
            launched: AtomicUsize::new(0),
            finished: false,
            stack,
            _hold: hold,
        })
    }

    /// Sets how many partitions `migrate` creates.
    #[must_use]
    pub const fn with_partitions(mut self, partitions: u32) -> Self {
        self.partitions = partitions;
        self
    }

    /// The number of partitions of each topic.
    pub const fn partitions(&self) -> usize {
        self.partitions as usize
    }

    /// The letters at the start of the serial numbers of this world's devices.
    pub fn serial_prefix(&self) -> String {
        let letters = self.id.bytes().take(7).map(|byte| char::from(b'A' + byte % 26));
        letters.collect()
    }

    /// Serial number of the `number`th device, as long as a real one.
    pub fn device(&self, number: usize) -> String {
        format!("{}{number:09}", self.serial_prefix())
    }

    /// Application id of this world's WeChat account, by which processes share tokens through
    /// Redis.
    pub fn app_id(&self) -> String {
        format!("wx{}", self.id)
    }

    /// Creates tables and topics.
    pub async fn migrate(&self) -> anyhow::Result<()> {
        let done = self.launch("worker", &["migrate"]).finish().await?;
        ensure!(done.code == Some(0), "worker migrate failed:\n{}", done.text);
        self.grant().await
    }

    /// Grants the rights on the tables that exist by now, as after `worker migrate`, or after the
    /// platform has created its tables.
    pub async fn grant(&self) -> anyhow::Result<()> {
        self.accounts.grant(&self.database).await
    }

    /// Returns a gateway to launch, on a port of its own.
    pub fn gateway(&self) -> Launch {
        let mut launch = self.launch("gateway", &[]);
        launch.listens = true;
        launch
    }

    /// Returns a worker to launch.
    pub fn worker(&self) -> Launch {
        self.launch("worker", &["run"])
            .env("WORKER_GROUP", &self.worker_group)
            .env("MAINTENANCE_MYSQL_URL", self.accounts.url(Account::Maintenance))
    }

    /// Returns an alerter to launch, which sends to `wechat`.
    pub fn alerter(&self, wechat: &FakeWechat) -> Launch {
        self.launch("alerter", &["run"])
            .env("WECHAT_API_URL", wechat.url())
            .env("WECOM_API_URL", wechat.url())
            .env("WECHAT_APP_ID", self.app_id())
            .env("WECHAT_APP_SECRET", APP_SECRET)
            .env("WECHAT_TEMPLATE_ID", TEMPLATE_ID)
            .env("WECHAT_USER_OPENID", crate::fakes::wechat::NURSE)
    }

    /// Returns any program of the workspace to launch, with this world's addresses and its own
    /// account in its environment.
    pub fn launch(&self, program: &'static str, arguments: &[&str]) -> Launch {
        let number = self.launched.fetch_add(1, Ordering::Relaxed);
        let name = format!("{program}-{number}");
        let mut launch = Launch {
            log: self.logs.join(format!("{name}.log")),
            name,
            program: program.into(),
            arguments: arguments.iter().map(Into::into).collect(),
            environment: Vec::new(),
            listens: false,
            at: None,
            open_files: None,
        }
        .env("KAFKA_BROKERS", &self.stack.kafka_brokers)
        .env("MYSQL_URL", self.accounts.url(Account::of(program, arguments)))
        .env("REDIS_URL", &self.stack.redis_url)
        .env("READINGS_TOPIC", &self.readings_topic)
        .env("REJECTS_TOPIC", &self.rejects_topic)
        .env("WORKER_GROUP", &self.worker_group)
        .env("ALERTER_GROUP", &self.alerter_group)
        .env("PARTITIONS", self.partitions.to_string())
        .env("TIME_ZONE", TIME_ZONE)
        .env("DEVELOPMENT", "true")
        .env("TRACE_SAMPLE_RATIO", "1.0")
        .env("LOG_FORMAT", "human");
        if let Some(endpoint) = &self.stack.otlp_endpoint {
            launch = launch.env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint);
        }
        for (name, value) in &self.stack.environment {
            launch = launch.env(name, value);
        }
        launch
    }

    /// Returns the number of readings records that no transaction of the workers has passed yet.
    pub async fn lag(&self) -> anyhow::Result<i64> {
        self.lag_of(&self.worker_group).await
    }

    /// Returns the number of readings records that no transaction of the alerters has passed yet.
    pub async fn alerter_lag(&self) -> anyhow::Result<i64> {
        self.lag_of(&self.alerter_group).await
    }

    async fn lag_of(&self, group: &str) -> anyhow::Result<i64> {
        let ledger = self.database.ledger(group).await?;
        let mut ends = kafka::watermarks(&self.stack.kafka_brokers, &self.readings_topic).await?;
        let base = self.database.number("SELECT MAX(base) FROM ingest_topic").await?;
        for end in &mut ends {
            (end.low, end.high) = (end.low + base, end.high + base);
        }
        Ok(mysql::lag(&ledger, &ends))
    }

    /// Removes this world from the servers. A failed test never calls this: its database and logs
    /// stay for a diagnosis.
    pub async fn finish(mut self) -> anyhow::Result<()> {
        self.finished = true;
        self.accounts.remove(&self.database).await?;
        self.database.remove().await?;
        self.cache.remove(&self.serial_prefix()).await?;
        self.cache.remove_sentinel(&self.worker_group).await?;
        kafka::remove_topics(&self.stack.kafka_brokers, &self.readings_topic).await?;
        kafka::remove_topics(&self.stack.kafka_brokers, &self.rejects_topic).await?;
        std::fs::remove_dir_all(&self.logs).context("folder of logs")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        eprintln!("database {} and logs in {} stay", self.database.name(), self.logs.display());
        let logs = std::fs::read_dir(&self.logs).into_iter().flatten().flatten();
        for log in logs {
            eprintln!("{}", tail(&log.path()));
        }
    }
}
