//! Decides whether an account may be used. The breaker is closed while the account works and open
//! while the account fails. After a wait, one message tries the account.
//!
//! Pure: time and randomness come as arguments. [`crate::notify::limits`] keeps a breaker for every
//! account.

use std::time::{Duration, Instant};

use ljwx_service::backoff::Backoff;

/// Uncertain failures in a row that open a closed breaker.
const DOUBTS_MAX: u32 = 5;

/// First wait after an uncertain failure.
const DOUBT_WAIT_MIN: Duration = Duration::from_secs(5);

/// Longest wait after uncertain failures.
const DOUBT_WAIT_MAX: Duration = Duration::from_secs(300);

/// Wait of other messages while one message tries the account.
const TRIAL_WAIT: Duration = Duration::from_secs(1);

/// Time after which a trial without an outcome is replaced by another.
const TRIAL_MAX: Duration = Duration::from_secs(60);

/// What an attempt shows about the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// The platform accepted the request, or failed it for a reason that is not the account's.
    Works,
    /// The account did not send and may send at the next attempt: no answer came, or a transient
    /// errcode.
    Doubtful,
    /// The account has reached a limit, which ends after this time.
    Limited(Duration),
    /// Only an operator can fix the account. It is tried again after this time.
    Broken(Duration),
}

/// A change of the breaker that operators are notified of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The account stopped sending.
    Opened,
    /// The account sends again. It had failed since this time.
    Closed(Instant),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    Trial { until: Instant },
}

/// The breaker of one account.
#[derive(Debug)]
pub struct Breaker {
    state: State,
    doubts: u32,
    backoff: Backoff,
    failing_since: Option<Instant>,
    told: bool,
}

impl Breaker {
    /// The breaker of an account whose state is unknown. Its first message is a trial, so that a
    /// wrong secret costs one request however many messages are pending.
    pub fn new(now: Instant) -> Self {
        Self {
            state: State::Open { until: now },
            doubts: 0,
            backoff: Backoff::new(DOUBT_WAIT_MIN, DOUBT_WAIT_MAX),
            failing_since: None,
            told: false,
        }
    }

    /// Whether a message may be sent now. Otherwise returns how long the message should wait.
    pub fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        match self.state {
            State::Closed => Ok(()),
            State::Open { until } if now < until => Err(until - now),
            State::Trial { until } if now < until => Err(TRIAL_WAIT),
            State::Open { .. } | State::Trial { .. } => {
                self.state = State::Trial { until: now + TRIAL_MAX };
                Ok(())
            }
        }
    }

    /// Reverts an admission, because the message was not sent.
    pub fn abandon(&mut self, now: Instant) {
        if matches!(self.state, State::Trial { .. }) {
            self.state = State::Open { until: now };
        }
    }

    /// Records the result of an attempt. An attempt that began before the breaker opened cannot
    /// close the breaker.
    pub fn report(&mut self, health: Health, now: Instant, random: f64) -> Option<News> {
        let open = matches!(self.state, State::Open { .. });
        match health {
            Health::Works | Health::Doubtful if open => None,
            Health::Works => self.close(),
            Health::Doubtful => {
                self.doubts += 1;
                if self.state == State::Closed && self.doubts < DOUBTS_MAX {
                    return None;
                }
                let wait = self.backoff.next(random);
                self.open(wait, self.doubts >= DOUBTS_MAX, now)
            }
            Health::Limited(wait) | Health::Broken(wait) => {
                self.doubts = 0;
                self.open(wait, matches!(health, Health::Broken(_)), now)
            }
        }
    }

    /// Whether the account is paused at this time.
    pub fn rests(&self, now: Instant) -> bool {
        matches!(self.state, State::Open { until } if now < until)
    }

    /// Whether the account has failed and has not worked since.
    pub fn is_failing(&self) -> bool {
        self.failing_since.is_some()
    }

    fn open(&mut self, wait: Duration, tell: bool, now: Instant) -> Option<News> {
        let until = match self.state {
            State::Open { until } => until.max(now + wait),
            State::Closed | State::Trial { .. } => now + wait,
        };
        self.state = State::Open { until };
        self.failing_since.get_or_insert(now);
        let news = tell && !self.told;
        self.told |= tell;
        news.then_some(News::Opened)
    }

    fn close(&mut self) -> Option<News> {
        self.state = State::Closed;
        self.doubts = 0;
        self.backoff.reset();
        let since = self.failing_since.take();
        let told = std::mem::take(&mut self.told);
        since.filter(|_| told).map(News::Closed)
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
