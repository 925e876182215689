//! Bounds the connections of a port, and names the metrics that count them.
//!
//! Leaves the clocks to `timed` and the accepting to `server`.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, counter};
use tokio::sync::Semaphore;

/// Connections of the operators' port.
const OPERATORS_CONNECTIONS_MAX: usize = 64;

/// Default of [`Bounds::header_timeout`], as a setting.
pub const HEADER_TIMEOUT: &str = "10s";

/// Default of [`Bounds::idle_timeout`], as a setting: longer than balancers keep theirs.
pub const IDLE_TIMEOUT: &str = "75s";

/// Bounds of a port's connections.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How many there may be; further ones wait in the kernel.
    pub connections_max: usize,
    /// For a head, from its first byte (the first one: from the connection) to its end.
    pub header_timeout: Duration,
    /// Between an answer and the next head's first byte.
    pub idle_timeout: Duration,
}

impl Bounds {
    /// Those of the operators' port.
    pub const OPERATORS: Self = Self {
        connections_max: OPERATORS_CONNECTIONS_MAX,
        header_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(75),
    };
}

/// Names of the metrics of a port's connections.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// Gauge by `state`: head, request, idle.
    pub connections: &'static str,
    /// Counter by `reason`: see [`REFUSED_REASONS`].
    pub refused: &'static str,
}

/// Why a connection is closed without an answer of ours.
pub const REFUSED_REASONS: &[&str] =
    &["header_timeout", "write_timeout", "head_too_large", "no_http"];

/// What all connections of a port share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) bounds: Bounds,
    pub(super) permits: Arc<Semaphore>,
    pub(super) states: [Gauge; 3],
    pub(super) refused: Option<&'static str>,
}

impl Shared {
    pub(super) fn refused(&self, reason: &'static str) -> Counter {
        self.refused.map_or_else(Counter::noop, |name| counter!(name, "reason" => reason))
    }

    /// Whether so many connections are open that each answer should end its own.
    pub(super) fn is_crowded(&self) -> bool {
        self.permits.available_permits() * 5 < self.bounds.connections_max
    }
}
