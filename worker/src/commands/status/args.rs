//! Settings of `worker status`.

use std::time::Duration;

use ljwx_ledger::mysql::MySqlArgs;
use ljwx_service::config::{Problems, ZoneArgs, duration};
use ljwx_service::kafka::KafkaArgs;
use ljwx_service::telemetry::TelemetryArgs;
use reqwest::Url;

/// Longest `--timeout`.
const TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// Settings of `worker status`.
#[derive(Debug, Clone, clap::Args)]
pub struct StatusArgs {
    /// The connection to Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Consumer group of the workers.
    #[arg(long, env = "WORKER_GROUP", default_value = "worker")]
    pub group: String,
    /// Consumer group of the alerters.
    #[arg(long, env = "ALERTER_GROUP", default_value = "alerter")]
    pub alerter_group: String,
    /// The connection to MySQL.
    #[command(flatten)]
    pub mysql: MySqlArgs,
    /// The time zone of the devices.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Admin ports of the replicas to ask, as host:port,host:port: gateways, workers and alerters.
    /// Unset: no replica is asked.
    #[arg(long, env = "STATUS_ADMIN", value_delimiter = ',')]
    pub admin: Vec<String>,
    /// Print one JSON document instead of tables.
    #[arg(long)]
    pub json: bool,
    /// Time limit of the command. MySQL and the group's members have a quarter of it, the dead
    /// letters the whole.
    #[arg(long, env = "STATUS_TIMEOUT", default_value = "1m", value_parser = duration)]
    pub timeout: Duration,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

impl StatusArgs {
    pub(crate) fn validate(&self, problems: &mut Problems) {
        self.kafka.validate(problems);
        self.mysql.validate(problems);
        self.telemetry.validate(problems);
        problems.check_group(&self.group, "WORKER_GROUP");
        problems.check_group(&self.alerter_group, "ALERTER_GROUP");
        for address in self.addresses() {
            problems.require(admin_url(address).is_some(), || {
                format!("--admin must be host:port, which {address} is not")
            });
        }
        problems.require(self.timeout <= TIMEOUT_MAX, || "--timeout must be at most 1h".into());
    }

    /// Returns the admin ports to ask. An empty variable names none.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.admin.iter().map(|address| address.trim()).filter(|address| !address.is_empty())
    }
}

/// Returns the address of an admin port, which may be given as a URL.
pub(super) fn admin_url(address: &str) -> Option<Url> {
    let is_url = address.contains("://");
    let url = if is_url { Url::parse(address) } else { Url::parse(&format!("http://{address}")) };
    url.ok().filter(|url| url.scheme() == "http" && url.has_host())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_port_is_named_as_prometheus_names_it() {
        for (address, url) in [
            ("worker-0:9090", Some("http://worker-0:9090/")),
            ("10.0.0.5:9090", Some("http://10.0.0.5:9090/")),
            ("[::1]:9090", Some("http://[::1]:9090/")),
            ("http://worker-0:9090", Some("http://worker-0:9090/")),
            ("https://worker-0:9090", None),
            ("worker 0", None),
        ] {
            assert_eq!(admin_url(address).as_ref().map(Url::as_str), url, "{address}");
        }
    }
}
