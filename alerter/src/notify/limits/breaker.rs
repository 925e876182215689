//! Whether an account may be used: closed while it works, open while it does not, and after a while
//! one message tries it.
//!
//! Pure: time and chance come as arguments. [`crate::notify::limits`] keeps one for every account.

use std::time::{Duration, Instant};

use ljwx_service::backoff::Backoff;

/// Doubtful attempts in a row that open it.
const DOUBTS_MAX: u32 = 5;

/// First wait of a doubtful account.
const DOUBT_WAIT_MIN: Duration = Duration::from_secs(5);

/// Longest wait of a doubtful account.
const DOUBT_WAIT_MAX: Duration = Duration::from_secs(300);

/// How long what comes while an account is tried waits for the outcome.
const TRIAL_WAIT: Duration = Duration::from_secs(1);

/// How long a trial may go without an outcome before another begins.
const TRIAL_MAX: Duration = Duration::from_secs(60);

/// What an attempt says about the account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// The platform serves it.
    Works,
    /// It did not send and may do so the next moment: no answer came, or one that may pass.
    Doubtful,
    /// It has reached a limit, which passes after this time.
    Limited(Duration),
    /// Only an operator can mend it; it is tried again after this time.
    Broken(Duration),
}

/// What operators are to hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// It does not send any more.
    Opened,
    /// It sends again, after not having done so since then.
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
    /// The breaker of an account of which nothing is known: its first message is a trial, so that a
    /// wrong secret costs one request however much waits.
    pub fn new(now: Instant) -> Self {
        Self {
            state: State::Open { until: now },
            doubts: 0,
            backoff: Backoff::new(DOUBT_WAIT_MIN, DOUBT_WAIT_MAX),
            failing_since: None,
            told: false,
        }
    }

    /// Whether a message may be sent now; else how long it had better wait.
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

    /// Takes back that a message was let through: it was not sent.
    pub fn abandon(&mut self, now: Instant) {
        if matches!(self.state, State::Trial { .. }) {
            self.state = State::Open { until: now };
        }
    }

    /// Notes what an attempt came to. What was on its way when the breaker opened changes nothing.
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

    /// Whether it is left alone at this time.
    pub fn rests(&self, now: Instant) -> bool {
        matches!(self.state, State::Open { until } if now < until)
    }

    /// Whether it has failed and not worked since.
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
