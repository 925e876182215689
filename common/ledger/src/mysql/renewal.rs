//! Decides which connections of a pool are too old to be used.
//!
//! After a failover the former primary keeps its connections: writers get only refusals on them, and
//! readers get old rows. One refusal therefore ends the use of every connection opened before it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The last refusal of a server that accepts no writes, shared by the connections of a pool.
#[derive(Debug, Clone, Default)]
pub(super) struct Renewal(Arc<Mutex<Option<Instant>>>);

impl Renewal {
    /// Ends the use of every connection that is open now.
    pub(super) fn begin(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Returns whether a connection that was opened `age` ago is used further.
    pub(super) fn keeps(&self, age: Duration) -> bool {
        let refused = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refused.is_none_or(|at| age < at.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_ends_the_use_of_older_connections_only() {
        let renewal = Renewal::default();
        let opened = Instant::now();
        assert!(renewal.keeps(opened.elapsed()), "no server has refused anything");
        renewal.begin();
        assert!(!renewal.keeps(opened.elapsed()));
        assert!(!renewal.keeps(Duration::from_secs(60)));
        assert!(renewal.keeps(Duration::ZERO), "opened after the refusal");
    }
}
