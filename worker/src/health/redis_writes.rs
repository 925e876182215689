//! Tracks whether Redis accepts writes. A reachable Redis may reject them: memory, replicas or disk
//! are missing, or it is no longer a primary.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fred::error::Error;

/// The result of the last writes, shared by the writers and the health endpoint.
#[derive(Debug, Clone, Default)]
pub struct RedisWriteHealth(Arc<Mutex<Option<WriteFailure>>>);

#[derive(Debug)]
struct WriteFailure {
    since: Instant,
    reason: String,
}

impl RedisWriteHealth {
    /// Reports that Redis accepted a write.
    pub fn taken(&self) {
        *self.lock() = None;
    }

    /// Reports that a write to Redis failed at `now`.
    pub fn failed(&self, error: &Error, now: Instant) {
        // Cut the position in the script, which the server adds: it is of no use to operators.
        let reason = error.details().split(" script:").next().unwrap_or_default().to_owned();
        let mut failure = self.lock();
        let since = failure.as_ref().map_or(now, |failure| failure.since);
        *failure = Some(WriteFailure { since, reason });
    }

    /// Reports that Redis is unreachable, so that it is unknown whether Redis accepts writes.
    pub fn unknown(&self) {
        *self.lock() = None;
    }

    /// Returns for how long Redis has accepted no write, and the last error.
    pub fn failing_for(&self, now: Instant) -> Option<(Duration, String)> {
        let failure = self.lock();
        let WriteFailure { since, reason } = failure.as_ref()?;
        Some((now.saturating_duration_since(*since), reason.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Option<WriteFailure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use fred::error::ErrorKind;

    use super::*;

    #[test]
    fn a_refusal_lasts_from_the_first_failure_to_the_next_write() {
        let (writes, begin) = (RedisWriteHealth::default(), Instant::now());
        let after = |seconds| begin + Duration::from_secs(seconds);
        let error = |text: &'static str| Error::new(ErrorKind::Unknown, text);
        assert_eq!(writes.failing_for(begin), None);
        writes.failed(&error("LOADING"), begin);
        writes.failed(&error("OOM not allowed. script: abc, on @user_script:9."), after(40));
        let failing_for = Some((Duration::from_secs(60), "OOM not allowed.".to_owned()));
        assert_eq!(writes.failing_for(after(60)), failing_for);
        writes.taken();
        writes.failed(&error("OOM"), after(70));
        assert_eq!(writes.failing_for(after(71)), Some((Duration::from_secs(1), "OOM".to_owned())));
    }
}
