//! Bounds the connections of a port, and names the metrics that count them.
//!
//! Leaves the clocks to `timed` and the accepting to `server`.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, counter};
use tokio::sync::Semaphore;

/// Most connections of the admin port.
const ADMIN_CONNECTIONS_MAX: usize = 64;

/// Default of [`ConnectionLimits::header_timeout`], as a setting.
pub const HEADER_TIMEOUT: &str = "10s";

/// Default of [`ConnectionLimits::idle_timeout`], as a setting: longer than the keep-alive of load balancers.
pub const IDLE_TIMEOUT: &str = "75s";

/// Bounds of a port's connections.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Most open connections. Further ones wait in the kernel.
    pub connections_max: usize,
    /// Longest time for a head, from its first byte to its end. The first head's time starts with
    /// the connection.
    pub header_timeout: Duration,
    /// Longest time between an answer and the first byte of the next head.
    pub idle_timeout: Duration,
}

impl ConnectionLimits {
    /// Bounds of the admin port.
    pub const ADMIN: Self = Self {
        connections_max: ADMIN_CONNECTIONS_MAX,
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(75),
    };
}

/// Names of the metrics for the connections of a port.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionMetrics {
    /// Gauge by `state`: head, request, idle.
    pub connections: &'static str,
    /// Counter by `reason`, one of [`REFUSED_REASONS`].
    pub refused: &'static str,
}

/// Reasons why a connection is closed without the answer of a route.
pub const REFUSED_REASONS: &[&str] =
    &["header_timeout", "write_timeout", "head_too_large", "no_http"];

/// State shared by all connections of a port.
#[derive(Debug)]
pub(super) struct PortState {
    pub(super) bounds: ConnectionLimits,
    pub(super) permits: Arc<Semaphore>,
    pub(super) states: [Gauge; 3],
    pub(super) refused: Option<&'static str>,
}

impl PortState {
    pub(super) fn refused(&self, reason: &'static str) -> Counter {
        self.refused.map_or_else(Counter::noop, |name| counter!(name, "reason" => reason))
    }

    /// Whether more than four fifths of the connections are in use. Then each answer closes its
    /// connection.
    pub(super) fn is_crowded(&self) -> bool {
        self.permits.available_permits() * 5 < self.bounds.connections_max
    }
}
