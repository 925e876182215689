//! Settings for the bounds of the public port, and the memory that they can need.

use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use ljwx_service::config::{Problems, duration};
use ljwx_service::http::{ConnectionLimits, HEADER_TIMEOUT, IDLE_TIMEOUT};
use rlimit::Resource;

use crate::admission::byte_budget::BodyBudget;
use crate::admission::pace::Pace;
use crate::admission::shared_bucket::SharedBucket;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Most connections by default.
const CONNECTIONS_MAX: usize = 4096;

/// Open files reserved for everything but the public port's connections.
const FILES_RESERVED: u64 = 512;

/// Memory of the process itself: code, threads, metrics, librdkafka's clients.
const MEMORY_BASE: u64 = 48 * MIB;

/// Memory of a connection's buffers, in the process and in the kernel.
const MEMORY_CONNECTION: u64 = 48 * KIB;

/// Memory of a body as a multiple of its bytes: the body, its parsed items, their records.
const MEMORY_BODY_TIMES: u64 = 3;

/// Most large bodies that are worked on at a time. The memory of that work is beside the budget.
pub const LARGE_BODIES_MAX: usize = 2;

/// Memory of the work on a body as a multiple of the largest one. A list of the shortest members of
/// an object takes 8 times their text, and as much again while the list grows.
const MEMORY_WORK_TIMES: u64 = 16;

/// Bodies of the largest size that the budget must hold at least.
const BODIES_AT_LEAST: usize = 8;

/// How much earlier than the answer a record's wait must end: librdkafka checks once a second.
const MESSAGE_MARGIN: Duration = Duration::from_secs(2);

/// Bounds of the public port.
#[derive(Debug, Clone, Args)]
pub struct ProtectionArgs {
    /// Most connections at a time; further ones wait. Unset: 4096, or fewer if the limit of open
    /// files requires it.
    #[arg(long, env = "CONNECTIONS_MAX")]
    pub connections_max: Option<usize>,
    /// Longest time of a request's head, from its first byte.
    #[arg(long, env = "HEADER_TIMEOUT", default_value = HEADER_TIMEOUT, value_parser = duration)]
    pub header_timeout: Duration,
    /// Longest wait of a connection for its next request; longer than a load balancer's keep-alive.
    #[arg(long, env = "IDLE_TIMEOUT", default_value = IDLE_TIMEOUT, value_parser = duration)]
    pub idle_timeout: Duration,
    /// Largest body, received and decompressed, in bytes; a watch's full cache takes 160 KB.
    #[arg(long, env = "BODY_BYTES_MAX", default_value_t = 1024 * 1024)]
    pub body_bytes_max: usize,
    /// Time that every body has to arrive, however slow its line is.
    #[arg(long, env = "BODY_GRACE", default_value = "10s", value_parser = duration)]
    pub body_grace: Duration,
    /// Bytes a second that a body must reach after its grace.
    #[arg(long, env = "BODY_RATE_MIN", default_value_t = 8192)]
    pub body_rate_min: u32,
    /// Longest pause of an arriving body.
    #[arg(long, env = "BODY_GAP", default_value = "10s", value_parser = duration)]
    pub body_gap: Duration,
    /// Bytes of all bodies held at a time, received and decompressed; beyond them requests get 503.
    #[arg(long, env = "INFLIGHT_BYTES_MAX", default_value_t = 32 * 1024 * 1024)]
    pub inflight_bytes_max: usize,
    /// Requests with a complete body at a time; further ones get 503.
    #[arg(long, env = "REQUESTS_MAX", default_value_t = 1000)]
    pub requests_max: usize,
    /// Longest time of an answer, from the body's last byte; watches give up after 10 s.
    #[arg(long, env = "ANSWER_TIMEOUT", default_value = "9s", value_parser = duration)]
    pub answer_timeout: Duration,
    /// Bytes of rejects that this gateway publishes a second in the long run; beyond them a body with
    /// rejects gets 503.
    #[arg(long, env = "REJECTS_BYTES_PER_S", default_value_t = MIB)]
    pub rejects_bytes_per_s: u64,
    /// Bytes of rejects that this gateway publishes at once after a quiet time.
    #[arg(long, env = "REJECTS_BURST_BYTES", default_value_t = 128 * MIB)]
    pub rejects_burst_bytes: u64,
    /// Networks whose trace headers are trusted on /v1/readings, as 10.0.0.0/8,…; none: no caller
    /// is trusted.
    #[arg(long, env = "TRACE_CALLERS", value_delimiter = ',')]
    pub trace_callers: Vec<IpNet>,
}

impl ProtectionArgs {
    /// Adds the problems of these settings.
    pub fn validate(&self, message_timeout: Duration, problems: &mut Problems) {
        let room = connections_that_fit();
        problems.require(self.connections_max.is_none_or(|max| max <= room), || {
            format!(
                "--connections-max must be at most {room}: the limit of open files (`ulimit -Hn`) \
                 has to leave {FILES_RESERVED} for the rest; raise it"
            )
        });
        problems.require(self.connections_max != Some(0) && room > 0, || {
            "--connections-max must be at least 1; raise the limit of open files".into()
        });
        problems.require(self.body_bytes_max >= 1024, || {
            "--body-bytes-max must be at least 1024".into()
        });
        let least = self.body_bytes_max.saturating_mul(BODIES_AT_LEAST);
        problems.require(self.inflight_bytes_max >= least, || {
            format!("--inflight-bytes-max must be at least {BODIES_AT_LEAST} × --body-bytes-max")
        });
        problems.require(self.body_rate_min >= 1, || "--body-rate-min must be at least 1".into());
        problems.require(self.requests_max >= 1, || "--requests-max must be at least 1".into());
        for (name, bytes) in [
            ("--rejects-bytes-per-s", self.rejects_bytes_per_s),
            ("--rejects-burst-bytes", self.rejects_burst_bytes),
        ] {
            problems.require(bytes >= 1, || {
                format!("{name} must be at least 1, or no body with a reject is ever acknowledged")
            });
        }
        for (name, time) in [
            ("--header-timeout", self.header_timeout),
            ("--idle-timeout", self.idle_timeout),
            ("--body-grace", self.body_grace),
            ("--body-gap", self.body_gap),
        ] {
            problems.require(!time.is_zero(), || format!("{name} must be above 0"));
        }
        problems.require(self.answer_timeout >= message_timeout + MESSAGE_MARGIN, || {
            "--answer-timeout must be longer than --message-timeout by 2 s at least: a request that \
             ends first leaves readings in Kafka that were never acknowledged"
                .into()
        });
    }

    /// Returns the bounds of connections.
    pub fn bounds(&self) -> ConnectionLimits {
        ConnectionLimits {
            connections_max: self.connections(),
            header_timeout: self.header_timeout,
            idle_timeout: self.idle_timeout,
        }
    }

    /// Returns the pace that a body must keep.
    pub fn pace(&self) -> Pace {
        Pace { grace: self.body_grace, rate_min: self.body_rate_min, gap: self.body_gap }
    }

    /// Creates an empty budget for all bodies.
    pub fn budget(&self) -> BodyBudget {
        BodyBudget::new(self.inflight_bytes_max)
    }

    /// Creates the rate of rejects, in bytes.
    pub fn rejects(&self) -> SharedBucket {
        SharedBucket::new(self.rejects_bytes_per_s, self.rejects_burst_bytes)
    }

    /// Returns the most memory that the process can need, in bytes, with a producer's queue of
    /// these limits.
    pub fn memory_bound(&self, queue_kbytes: u32, queue_records: u32) -> u64 {
        MEMORY_BASE
            + self.connections() as u64 * MEMORY_CONNECTION
            + self.inflight_bytes_max as u64 * MEMORY_BODY_TIMES
            + LARGE_BODIES_MAX as u64 * self.body_bytes_max as u64 * MEMORY_WORK_TIMES
            + u64::from(queue_kbytes) * KIB
            + u64::from(queue_records) * KIB
    }

    fn connections(&self) -> usize {
        self.connections_max.unwrap_or_else(|| connections_that_fit().min(CONNECTIONS_MAX))
    }
}

/// Returns the connections for which the hard limit of open files has room.
fn connections_that_fit() -> usize {
    let hard = Resource::NOFILE.get_hard().unwrap_or(FILES_RESERVED);
    usize::try_from(hard.saturating_sub(FILES_RESERVED)).unwrap_or(usize::MAX)
}
