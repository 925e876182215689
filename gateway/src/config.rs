//! The gateway's settings.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use common::admin::AdminArgs;
use common::config::{Problems, Validate, ZoneArgs, duration};
use common::kafka::{KafkaArgs, MESSAGE_BYTES_MAX};
use common::lifecycle::LifecycleArgs;
use common::publisher::PublisherLimits;
use common::telemetry::TelemetryArgs;

/// Takes readings from watches, phones and other systems by HTTP and publishes them to Kafka. A 200
/// means that Kafka has every reading of the body.
#[derive(Debug, Clone, Parser)]
#[command(name = "gateway", version)]
pub struct Config {
    /// Address devices post to.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// The operators' port.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// The connection to Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// The devices' zone.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Largest body, in bytes; a watch's full cache takes 160 KB.
    #[arg(long, env = "BODY_BYTES_MAX", default_value_t = 1024 * 1024)]
    pub body_bytes_max: usize,
    /// Requests in progress at a time; further ones get 503.
    #[arg(long, env = "REQUESTS_MAX", default_value_t = 1000)]
    pub requests_max: usize,
    /// How long a request may take in all; watches give up after 10 s.
    #[arg(long, env = "REQUEST_TIMEOUT", default_value = "9s", value_parser = duration)]
    pub request_timeout: Duration,
    /// How long a record may wait for Kafka's confirmation; must end before the request does.
    #[arg(long, env = "MESSAGE_TIMEOUT", default_value = "6s", value_parser = duration)]
    pub message_timeout: Duration,
    /// How long a record waits for company in its batch to Kafka.
    #[arg(long, env = "LINGER", default_value = "2ms", value_parser = duration)]
    pub linger: Duration,
    /// Most memory of records that wait for Kafka, in KiB.
    #[arg(long, env = "QUEUE_KBYTES", default_value_t = 128 * 1024)]
    pub queue_kbytes: u32,
    /// Most records that wait for Kafka.
    #[arg(long, env = "QUEUE_RECORDS", default_value_t = 100_000)]
    pub queue_records: u32,
    /// How long Kafka may be unreachable before /readyz says so.
    #[arg(long, env = "READY_GRACE", default_value = "5s", value_parser = duration)]
    pub ready_grace: Duration,
    /// How long to go on serving after SIGTERM, so that load balancers see /readyz turn first.
    #[arg(long, env = "DRAIN_DELAY", default_value = "1s", value_parser = duration)]
    pub drain_delay: Duration,
    /// How to stop.
    #[command(flatten)]
    pub lifecycle: LifecycleArgs,
    /// Logs and spans.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// Share of a record that is not the body: key, headers, framing.
const RECORD_OVERHEAD_BYTES: usize = 64 * 1024;

impl Config {
    /// Bounds of the producer.
    pub(crate) fn publisher_limits(&self) -> PublisherLimits {
        PublisherLimits {
            message_timeout: self.message_timeout,
            linger: self.linger,
            queue_kbytes: self.queue_kbytes,
            queue_records: self.queue_records,
            message_bytes_max: MESSAGE_BYTES_MAX,
        }
    }

    /// The largest record that a body may become.
    pub(crate) fn record_bytes_max(&self) -> usize {
        self.body_bytes_max + RECORD_OVERHEAD_BYTES
    }
}

impl Validate for Config {
    fn validate(&self, problems: &mut Problems) {
        self.kafka.validate(problems);
        self.telemetry.validate(problems);
        problems.require(self.request_timeout > self.message_timeout, || {
            "--request-timeout must be longer than --message-timeout: a request that ends first \
             leaves readings in Kafka that were never acknowledged"
                .into()
        });
        problems.require(self.linger * 10 <= self.message_timeout, || {
            "--linger must be at most a tenth of --message-timeout".into()
        });
        problems.require(self.record_bytes_max() <= MESSAGE_BYTES_MAX, || {
            format!(
                "--body-bytes-max must be at most {}: whatever is accepted must fit into a record",
                MESSAGE_BYTES_MAX - RECORD_OVERHEAD_BYTES
            )
        });
        problems.require(self.body_bytes_max >= 1024, || {
            "--body-bytes-max must be at least 1024".into()
        });
        problems.require(self.requests_max >= 1, || "--requests-max must be at least 1".into());
        problems.require(self.lifecycle.drain_timeout > self.drain_delay + self.message_timeout, || {
            "--drain-timeout must be longer than --drain-delay and --message-timeout together, or \
             the last requests are cut off"
                .into()
        });
        problems.require(self.listen != self.admin.admin_listen || self.listen.port() == 0, || {
            "--listen and --admin-listen must differ".into()
        });
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Config::command().debug_assert();
    }

    #[test]
    fn what_would_lose_readings_is_refused() {
        let arguments = [
            "gateway",
            "--kafka-brokers",
            "x:1",
            "--request-timeout",
            "5s",
            "--kafka-set",
            "acks=1",
            "--body-bytes-max",
            "99000000",
        ];
        let refused = common::config::parse::<Config>(arguments.iter().map(Into::into).collect());
        let Err(common::config::Refusal::Problems(problems)) = refused else { panic!() };
        for setting in ["--request-timeout", "--kafka-set acks", "--body-bytes-max"] {
            let listed = problems.list().iter().any(|problem| problem.contains(setting));
            assert!(listed, "{setting}: {problems:?}");
        }
    }
}
