//! The gateway's settings.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use ljwx_service::config::{Problems, Validate, ZoneArgs, duration};
use ljwx_service::http::admin::AdminArgs;
use ljwx_service::kafka::producer::publisher::PublisherLimits;
use ljwx_service::kafka::{KafkaArgs, MESSAGE_BYTES_MAX};
use ljwx_service::lifecycle::LifecycleArgs;
use ljwx_service::telemetry::TelemetryArgs;

use crate::admission::kafka_gate::StallArgs;
use crate::admission::limits::ProtectionArgs;

/// Receives readings from watches, phones and other systems by HTTP and publishes them to Kafka. A
/// 200 means that Kafka has every reading of the body.
#[derive(Debug, Clone, Parser)]
#[command(name = "gateway", version = ljwx_service::VERSION)]
pub struct Config {
    /// Address that devices post to.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Settings of the admin port.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Settings of the connection to Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Zone of the devices' wall clocks.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Bounds of the public port.
    #[command(flatten)]
    pub protection: ProtectionArgs,
    /// Longest wait of a record for Kafka's confirmation; must end before the answer's time does.
    #[arg(long, env = "MESSAGE_TIMEOUT", default_value = "6s", value_parser = duration)]
    pub message_timeout: Duration,
    /// Longest wait of a record for more records of its batch to Kafka.
    #[arg(long, env = "LINGER", default_value = "10ms", value_parser = duration)]
    pub linger: Duration,
    /// Most memory of records waiting for Kafka, in KiB.
    #[arg(long, env = "QUEUE_KBYTES", default_value_t = 64 * 1024)]
    pub queue_kbytes: u32,
    /// Most records waiting for Kafka.
    #[arg(long, env = "QUEUE_RECORDS", default_value_t = 50_000)]
    pub queue_records: u32,
    /// Settings for the time in which Kafka acknowledges nothing.
    #[command(flatten)]
    pub stall: StallArgs,
    /// Time to serve on after SIGTERM, so that load balancers see /readyz fail first.
    #[arg(long, env = "DRAIN_DELAY", default_value = "1s", value_parser = duration)]
    pub drain_delay: Duration,
    /// Settings of the stop.
    #[command(flatten)]
    pub lifecycle: LifecycleArgs,
    /// Settings of logs, metrics and spans.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// Last part of `--drain-timeout`, after the requests: the producer flushes, then the spans.
pub(crate) const FLUSH_RESERVE: Duration = Duration::from_secs(5);

/// Shortest wait for Kafka's confirmation. librdkafka looks for expired records once a second, and
/// takes 0 ms for no limit.
const MESSAGE_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// Least places in the producer's queue: a body of 1,000 items may need two records for each.
const QUEUE_RECORDS_MIN: u32 = 2000;

/// Records of the largest size that the producer's queue must hold at least.
const QUEUE_LARGEST_RECORDS: usize = 4;

/// Room for the parts of a record beside the body: key, headers, framing.
const RECORD_OVERHEAD_BYTES: usize = 64 * 1024;

impl Config {
    /// Returns the limits of the producer.
    pub(crate) fn publisher_limits(&self) -> PublisherLimits {
        PublisherLimits {
            message_timeout: self.message_timeout,
            ack_stall: self.stall.ack_stall,
            linger: self.linger,
            queue_kbytes: self.queue_kbytes,
            queue_records: self.queue_records,
            message_bytes_max: MESSAGE_BYTES_MAX,
        }
    }

    /// Returns the most memory that the process can need, in bytes.
    pub(crate) fn memory_bound(&self) -> u64 {
        self.protection.memory_bound(self.queue_kbytes, self.queue_records)
    }

    /// Returns the largest record that a body may become, in bytes.
    pub(crate) fn record_bytes_max(&self) -> usize {
        self.protection.body_bytes_max + RECORD_OVERHEAD_BYTES
    }

    /// Adds the problems of the queue. A body finds places for all of its records or for none, so
    /// one for which there are never enough would be refused for ever.
    fn validate_queue(&self, problems: &mut Problems) {
        problems.require(self.queue_records >= QUEUE_RECORDS_MIN, || {
            format!("--queue-records must be at least {QUEUE_RECORDS_MIN}")
        });
        let least = (self.record_bytes_max() * QUEUE_LARGEST_RECORDS).div_ceil(1024);
        problems.require(self.queue_kbytes as usize >= least, || {
            format!(
                "--queue-kbytes must be at least {least}: {QUEUE_LARGEST_RECORDS} × the largest \
                 record"
            )
        });
    }
}

impl Validate for Config {
    fn validate(&self, problems: &mut Problems) {
        self.kafka.validate(problems);
        self.telemetry.validate(problems);
        self.admin.validate(problems);
        self.protection.validate(self.message_timeout, problems);
        self.stall.validate(problems);
        self.validate_queue(problems);
        problems.require(self.message_timeout >= MESSAGE_TIMEOUT_MIN, || {
            format!(
                "--message-timeout must be at least {} s: a record that waits for ever is never \
                 answered",
                MESSAGE_TIMEOUT_MIN.as_secs()
            )
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
        let needed = self.drain_delay + self.message_timeout + FLUSH_RESERVE;
        problems.require(self.lifecycle.drain_timeout >= needed, || {
            format!(
                "--drain-timeout must be at least {} s: --drain-delay, --message-timeout and {} s \
                 for what is flushed then, or the last requests are cut off",
                needed.as_secs_f64().ceil(),
                FLUSH_RESERVE.as_secs()
            )
        });
        let bound = self.memory_bound();
        problems.require(self.telemetry.memory_limit().is_none_or(|limit| bound <= limit), || {
            format!(
                "these settings allow {} MiB of memory, more than there is: lower --connections-max, \
                 --body-bytes-max, --inflight-bytes-max, --queue-kbytes or --queue-records, or raise \
                 the limit",
                bound / (1024 * 1024)
            )
        });
        problems.require(self.listen != self.admin.admin_listen || self.listen.port() == 0, || {
            "--listen and --admin-listen must differ".into()
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;
    use ljwx_service::config::{ConfigError, reference};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Config::command().debug_assert();
    }

    #[test]
    fn the_documented_settings_and_exit_codes_are_those_of_the_commands() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        reference::hold_documents::<Config>(&docs).unwrap();
    }

    #[test]
    fn the_defaults_fit_into_the_memory_that_is_documented() {
        let config =
            Config::parse_from(["gateway", "--kafka-brokers", "x:1", "--connections-max", "4096"]);
        // 48 base + 192 connections + 96 bodies + 32 work + 64 queue + 49 queue records.
        assert_eq!(config.memory_bound() / (1024 * 1024), 480);
    }

    /// Returns the problems of these arguments.
    fn problems(arguments: &[&str]) -> Vec<String> {
        let given = ["gateway", "--kafka-brokers", "x:1"];
        let arguments = given.iter().chain(arguments).map(Into::into).collect();
        match ljwx_service::config::parse::<Config>(arguments) {
            Ok(_) => Vec::new(),
            Err(ConfigError::Problems(problems)) => problems.list().to_vec(),
            Err(ConfigError::Clap(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn what_would_lose_readings_is_refused() {
        let problems = problems(&[
            "--answer-timeout",
            "5s",
            "--kafka-set",
            "acks=1",
            "--body-bytes-max",
            "99000000",
            "--ack-stall",
            "500ms",
            "--queue-records",
            "1999",
        ]);
        for setting in [
            "--answer-timeout",
            "--kafka-set acks",
            "--body-bytes-max",
            "--inflight-bytes-max",
            "--ack-stall",
            "--queue-records",
            "--queue-kbytes",
        ] {
            let listed = problems.iter().any(|problem| problem.contains(setting));
            assert!(listed, "{setting}: {problems:?}");
        }
    }

    #[test]
    fn no_record_waits_for_kafka_without_a_limit() {
        for (timeout, refused) in [("0s", true), ("999ms", true), ("1s", false)] {
            let problems = problems(&["--linger", "0s", "--message-timeout", timeout]);
            let named = |problem: &String| problem.starts_with("--message-timeout must be");
            assert_eq!(problems.iter().any(named), refused, "{timeout}: {problems:?}");
        }
    }
}
