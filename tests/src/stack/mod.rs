//! The real servers that tests and demo run against, as `deploy/stack` exports them, and taking
//! one of them away for a while.

pub mod certificates;
pub mod launch;
pub mod own_server;
pub mod process;
pub mod tls_stack;
pub mod wait;
pub mod world;

use std::path::PathBuf;

use anyhow::{Context, ensure};

/// Where the servers are.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Kafka's bootstrap addresses.
    pub kafka_brokers: String,
    /// URL of a MySQL server and a database that exists.
    pub mysql_url: String,
    /// URL of Redis.
    pub redis_url: String,
    /// Where spans go; none: there is no Jaeger.
    pub otlp_endpoint: Option<String>,
    /// Where spans can be read.
    pub jaeger_url: Option<String>,
    /// Where Prometheus answers; none: there is none.
    pub prometheus_url: Option<String>,
    /// The folder in which it looks for what to scrape.
    pub prometheus_targets: Option<PathBuf>,
    /// What services need in their environment besides, or in place of the addresses above.
    pub environment: Vec<(String, String)>,
}

impl Stack {
    /// Reads the addresses from the environment.
    pub fn from_env() -> anyhow::Result<Self> {
        Ok(Self {
            kafka_brokers: required("KAFKA_BROKERS")?,
            mysql_url: required("MYSQL_URL")?,
            redis_url: required("REDIS_URL")?,
            otlp_endpoint: optional("OTEL_EXPORTER_OTLP_ENDPOINT"),
            jaeger_url: optional("JAEGER_URL"),
            prometheus_url: optional("PROMETHEUS_URL"),
            prometheus_targets: optional("PROMETHEUS_TARGETS").map(Into::into),
            environment: Vec::new(),
        })
    }
}

fn optional(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn required(name: &str) -> anyhow::Result<String> {
    optional(name).with_context(|| {
        format!("{name} is not set: run this through the stack, as `deploy/stack run -- COMMAND`")
    })
}

/// A server that can be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// The only broker.
    Kafka,
    /// The store: MariaDB, or what `STACK_DATABASE` says.
    Database,
    /// The cache.
    Redis,
}

impl Server {
    /// What `deploy/stack` calls it.
    fn name(self) -> String {
        match self {
            Self::Kafka => "kafka".into(),
            Self::Database => optional("STACK_DATABASE").unwrap_or_else(|| "mariadb".into()),
            Self::Redis => "redis".into(),
        }
    }

    /// Stops it in an orderly way.
    pub async fn stop(self) -> anyhow::Result<Outage> {
        self.away("stop").await
    }

    /// Kills it with SIGKILL.
    pub async fn kill(self) -> anyhow::Result<Outage> {
        self.away("kill").await
    }

    /// Stops its process without a word to anybody, as a machine does that hangs.
    pub fn freeze(self) -> anyhow::Result<Frozen> {
        let folder = PathBuf::from(required("STACK_DIR")?);
        let pid = std::fs::read_to_string(folder.join("pids").join(self.name()))?;
        let frozen = Frozen(pid.trim().to_owned());
        frozen.signal("STOP")?;
        Ok(frozen)
    }

    async fn away(self, how: &str) -> anyhow::Result<Outage> {
        // First the guard: a command that half worked must be undone too.
        let outage = Outage { server: self, over: false };
        run(how, self).await?;
        Ok(outage)
    }
}

/// A server is away until this ends, at the latest when it is dropped.
#[derive(Debug)]
#[must_use = "the server comes back when this is dropped"]
pub struct Outage {
    server: Server,
    over: bool,
}

impl Outage {
    /// Starts the server again, on its old port with its old data, and waits until it answers.
    pub async fn end(mut self) -> anyhow::Result<()> {
        run("start", self.server).await?;
        self.over = true;
        Ok(())
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        if !self.over {
            // A failed test must not take the others down with it.
            let started = std::process::Command::new(stack_command())
                .args(["start", self.server.name().as_str()])
                .status();
            if let Err(error) = started {
                eprintln!("{} stays down: {error}", self.server.name());
            }
        }
    }
}

/// A server that does nothing until this is dropped.
#[derive(Debug)]
#[must_use = "the server goes on when this is dropped"]
pub struct Frozen(String);

impl Frozen {
    fn signal(&self, signal: &str) -> anyhow::Result<()> {
        // At once, and also where the test has failed.
        let sent = std::process::Command::new("sh")
            .args(["-c", "kill -\"$0\" \"$1\"", signal, &self.0])
            .status()?;
        ensure!(sent.success(), "SIG{signal} could not be sent to {}", self.0);
        Ok(())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Err(error) = self.signal("CONT") {
            eprintln!("a server stays frozen: {error}");
        }
    }
}

/// The folder of the checkout.
pub(crate) fn root() -> PathBuf {
    optional("STACK_ROOT").map_or_else(
        || {
            let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
            own.parent().map(Into::into).unwrap_or(own)
        },
        Into::into,
    )
}

pub(crate) fn stack_command() -> PathBuf {
    root().join("deploy/stack")
}

async fn run(command: &str, server: Server) -> anyhow::Result<()> {
    let output = tokio::process::Command::new(stack_command())
        .args([command, server.name().as_str()])
        .output()
        .await
        .with_context(|| format!("{} could not be run", stack_command().display()))?;
    ensure!(
        output.status.success(),
        "deploy/stack {command} {} failed: {}",
        server.name(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
