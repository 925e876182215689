//! Decides whether an account may be used. The breaker is closed while the account works and open
//! while the account fails. After a wait, one message tries the account.
//!
//! Pure: time and randomness come as arguments. [`crate::notify::limits`] keeps a breaker for every
//! account.

use std::time::{Duration, Instant};

use ljwx_service::backoff::Backoff;

/// Uncertain failures in a row that open a closed breaker.
const UNCERTAIN_FAILURES_MAX: u32 = 5;

/// First wait after an uncertain failure.
const UNCERTAIN_WAIT_MIN: Duration = Duration::from_secs(5);

/// Longest wait after uncertain failures.
const UNCERTAIN_WAIT_MAX: Duration = Duration::from_secs(300);

/// Wait of other messages while one message tries the account.
const TRIAL_WAIT: Duration = Duration::from_secs(1);

/// Time after which a trial without an outcome is replaced by another.
const TRIAL_MAX: Duration = Duration::from_secs(60);

/// What an attempt shows about the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountHealth {
    /// The platform accepted the request, or failed it for a reason that is not the account's.
    Works,
    /// The account did not send and may send at the next attempt: no answer came, or a transient
    /// errcode.
    Uncertain,
    /// The account has reached a limit, which ends after this time.
    Limited(Duration),
    /// Only an operator can fix the account. It is tried again after this time.
    Broken(Duration),
}

/// The notifications that leave an account which does not send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// All of them: operators were notified of the account, or there is none.
    All,
    /// Critical ones: the account is at a limit, or did not answer a few times.
    Critical,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BreakerState {
    Closed,
    Open { until: Instant },
    Trial { until: Instant },
}

/// The breaker of one account.
#[derive(Debug)]
pub struct AccountBreaker {
    state: BreakerState,
    uncertain_failures: u32,
    backoff: Backoff,
    /// Whether the account has failed and has not worked since.
    pub is_failing: bool,
    /// Whether the account fails in such a way that operators are notified.
    pub is_broken: bool,
}

impl AccountBreaker {
    /// The breaker of an account whose state is unknown. Its first message is a trial, so that a
    /// wrong secret costs one request however many messages are pending.
    pub fn new(now: Instant) -> Self {
        Self {
            state: BreakerState::Open { until: now },
            uncertain_failures: 0,
            backoff: Backoff::new(UNCERTAIN_WAIT_MIN, UNCERTAIN_WAIT_MAX),
            is_failing: false,
            is_broken: false,
        }
    }

    /// Whether a message may be sent now. Otherwise returns how long the message should wait.
    pub fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        match self.state {
            BreakerState::Closed => Ok(()),
            BreakerState::Open { until } if now < until => Err(until - now),
            BreakerState::Trial { until } if now < until => Err(TRIAL_WAIT),
            BreakerState::Open { .. } | BreakerState::Trial { .. } => {
                self.state = BreakerState::Trial { until: now + TRIAL_MAX };
                Ok(())
            }
        }
    }

    /// Reverts an admission, because the message was not sent.
    pub fn abandon(&mut self, now: Instant) {
        if matches!(self.state, BreakerState::Trial { .. }) {
            self.state = BreakerState::Open { until: now };
        }
    }

    /// Records the result of an attempt. An attempt that began before the breaker opened cannot
    /// close the breaker.
    pub fn report(&mut self, health: AccountHealth, now: Instant, random: f64) {
        let open = matches!(self.state, BreakerState::Open { .. });
        match health {
            AccountHealth::Works | AccountHealth::Uncertain if open => {}
            AccountHealth::Works => self.close(),
            AccountHealth::Uncertain => {
                self.uncertain_failures += 1;
                if self.state == BreakerState::Closed
                    && self.uncertain_failures < UNCERTAIN_FAILURES_MAX
                {
                    return;
                }
                let wait = self.backoff.next(random);
                self.open(wait, self.uncertain_failures >= UNCERTAIN_FAILURES_MAX, now);
            }
            AccountHealth::Limited(wait) | AccountHealth::Broken(wait) => {
                self.uncertain_failures = 0;
                self.open(wait, matches!(health, AccountHealth::Broken(_)), now);
            }
        }
    }

    /// Whether the account takes no message at this time, also because one is trying it.
    pub fn is_paused(&self, now: Instant) -> bool {
        match self.state {
            BreakerState::Closed => false,
            BreakerState::Open { until } | BreakerState::Trial { until } => now < until,
        }
    }

    /// Returns what leaves the account at this time. Once a trial is due, nothing does: one message
    /// has to try the account.
    pub fn leaving(&self, now: Instant) -> Option<Leaving> {
        match self.state {
            _ if self.is_broken && self.is_paused(now) => Some(Leaving::All),
            BreakerState::Open { until } if now < until => Some(Leaving::Critical),
            _ => None,
        }
    }

    /// Makes a trial due, because the account's settings changed.
    pub fn renew(&mut self, now: Instant) {
        self.state = BreakerState::Open { until: now };
        self.uncertain_failures = 0;
        self.backoff.reset();
    }

    fn open(&mut self, wait: Duration, is_broken: bool, now: Instant) {
        let until = match self.state {
            BreakerState::Open { until } => until.max(now + wait),
            BreakerState::Closed | BreakerState::Trial { .. } => now + wait,
        };
        self.state = BreakerState::Open { until };
        self.is_failing = true;
        self.is_broken |= is_broken;
    }

    fn close(&mut self) {
        self.state = BreakerState::Closed;
        self.uncertain_failures = 0;
        self.backoff.reset();
        self.is_failing = false;
        self.is_broken = false;
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
