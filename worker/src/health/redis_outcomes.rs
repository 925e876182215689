//! Tracks whether Redis accepts what the worker sends. A reachable Redis may reject it: memory,
//! replicas, disk or permissions are missing, or it is no longer a primary.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The outcomes of writes and of messages. A Redis that rejects only messages has current hashes.
#[derive(Debug, Clone, Default)]
pub struct RedisOutcomes {
    /// Writes of hashes and of the generation's key.
    pub writes: RedisOutcome,
    /// Messages about changed hashes.
    pub messages: RedisOutcome,
}

impl RedisOutcomes {
    /// Returns whether Redis accepted the last write and the last message.
    pub fn are_accepted(&self) -> bool {
        self.writes.lock().is_none() && self.messages.lock().is_none()
    }

    /// Reports that Redis is unreachable, so that it is unknown what Redis accepts.
    pub fn unknown(&self) {
        self.writes.taken();
        self.messages.taken();
    }
}

/// The last outcome of one kind of commands, shared by the senders and the health endpoint.
#[derive(Debug, Clone, Default)]
pub struct RedisOutcome(Arc<Mutex<Option<Failure>>>);

#[derive(Debug)]
struct Failure {
    since: Instant,
    reason: String,
}

impl RedisOutcome {
    /// Reports that Redis accepted a command. Returns whether the one before had failed.
    pub fn taken(&self) -> bool {
        self.lock().take().is_some()
    }

    /// Reports that a command failed at `now`. Returns whether the one before had not.
    pub fn failed(&self, details: &str, now: Instant) -> bool {
        // Cut the position in the script, which the server adds: it is of no use to operators.
        let reason = details.split(" script:").next().unwrap_or_default().to_owned();
        let mut failure = self.lock();
        let since = failure.as_ref().map(|failure| failure.since);
        *failure = Some(Failure { since: since.unwrap_or(now), reason });
        since.is_none()
    }

    /// Returns for how long Redis has accepted no command of this kind, and the last error.
    pub fn failing_for(&self, now: Instant) -> Option<(Duration, String)> {
        let failure = self.lock();
        let Failure { since, reason } = failure.as_ref()?;
        Some((now.saturating_duration_since(*since), reason.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Failure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_lasts_from_the_first_failure_to_the_next_success() {
        let (writes, begin) = (RedisOutcome::default(), Instant::now());
        let after = |seconds| begin + Duration::from_secs(seconds);
        assert_eq!(writes.failing_for(begin), None);
        assert!(writes.failed("LOADING", begin), "the first");
        assert!(!writes.failed("OOM not allowed. script: abc, on @user_script:9.", after(40)));
        let failing_for = Some((Duration::from_secs(60), "OOM not allowed.".to_owned()));
        assert_eq!(writes.failing_for(after(60)), failing_for);
        assert!(writes.taken() && !writes.taken());
        assert!(writes.failed("OOM", after(70)));
        assert_eq!(writes.failing_for(after(71)), Some((Duration::from_secs(1), "OOM".to_owned())));
    }

    #[test]
    fn refused_messages_count_beside_accepted_writes() {
        let outcomes = RedisOutcomes::default();
        assert!(outcomes.are_accepted());
        outcomes.messages.failed("NOPERM", Instant::now());
        outcomes.writes.taken();
        assert!(!outcomes.are_accepted());
        outcomes.unknown();
        assert!(outcomes.are_accepted());
    }
}
