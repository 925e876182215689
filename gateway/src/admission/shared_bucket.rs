//! Shares one token bucket among all requests of the process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::admission::token_bucket::TokenBucket;

/// A token bucket. Clones share its tokens.
#[derive(Debug, Clone)]
pub struct SharedBucket(Arc<Mutex<TokenBucket>>);

impl SharedBucket {
    /// Creates a full bucket of `burst` tokens, into which `per_second` tokens come back.
    pub fn new(per_second: u64, burst: u64) -> Self {
        Self(Arc::new(Mutex::new(TokenBucket::new(per_second, burst, Instant::now()))))
    }

    /// Takes `tokens` if any are left. The error is the wait until any are left.
    pub fn take(&self, tokens: u64) -> Result<(), Duration> {
        self.bucket().take(tokens, Instant::now())
    }

    /// Gives back tokens that were taken and not used.
    pub fn give_back(&self, tokens: u64) {
        self.bucket().give_back(tokens);
    }

    fn bucket(&self) -> MutexGuard<'_, TokenBucket> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
