//! The environment that `deploy/stack` exports: the addresses of the real servers, the checkout,
//! and the command itself. Starting the services in it belongs to [`super::world`].

use std::path::PathBuf;

use anyhow::Context;

/// The addresses of the servers.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Kafka's bootstrap addresses.
    pub kafka_brokers: String,
    /// URL of a MySQL server and an existing database.
    pub mysql_url: String,
    /// URL of Redis.
    pub redis_url: String,
    /// The address to send spans to; `None` without Jaeger.
    pub otlp_endpoint: Option<String>,
    /// The address to read spans from; `None` without Jaeger.
    pub jaeger_url: Option<String>,
    /// The address of Prometheus; `None` without Prometheus.
    pub prometheus_url: Option<String>,
    /// The folder in which Prometheus looks for targets.
    pub prometheus_targets: Option<PathBuf>,
    /// Further environment variables of the services. They win over the addresses above.
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

/// Returns a variable that is set and not empty.
pub(super) fn optional(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns a variable that the stack must set.
pub(super) fn required(name: &str) -> anyhow::Result<String> {
    optional(name).with_context(|| {
        format!("{name} is not set: run this through the stack, as `deploy/stack run -- COMMAND`")
    })
}

/// Returns the folder of the checkout.
pub(crate) fn root() -> PathBuf {
    optional("STACK_ROOT").map_or_else(
        || {
            let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
            own.parent().map(Into::into).unwrap_or(own)
        },
        Into::into,
    )
}

/// Returns the path of the command that starts and stops the servers.
pub(super) fn stack_command() -> PathBuf {
    root().join("deploy/stack")
}
