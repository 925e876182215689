//! The number of critical notifications that are due and reach nobody.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Critical notifications of this replica's partitions that are owed for another reason than a
/// silence. The pipeline measures them, and the heartbeats depend on them.
#[derive(Debug, Clone, Default)]
pub struct OwedCritical(Arc<AtomicU64>);

impl OwedCritical {
    /// Takes a new measurement.
    pub fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// Returns the last measurement. 0 before the first.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
