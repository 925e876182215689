//! Keeps the log short while Kafka is away: a client reports the same error many times a second.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;

use super::error_label;

/// The least time between two lines about errors with the same code.
const INTERVAL: Duration = Duration::from_secs(60);

/// The codes of a client's errors, each with the time of its last line.
#[derive(Debug, Default)]
pub struct ErrorLog(Mutex<HashMap<String, Instant>>);

impl ErrorLog {
    /// Whether an error is logged now: none with its code was logged in the last minute.
    pub fn admits(&self, error: &KafkaError) -> bool {
        self.admits_at(error_label(error.rdkafka_error_code()), Instant::now())
    }

    fn admits_at(&self, code: String, now: Instant) -> bool {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = logged.get(&code).is_none_or(|at| now.duration_since(*at) >= INTERVAL);
        if is_due {
            logged.insert(code, now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_is_logged_once_a_minute() {
        let (log, begin) = (ErrorLog::default(), Instant::now());
        let admits =
            |code: &str, second| log.admits_at(code.into(), begin + Duration::from_secs(second));
        assert!(admits("AllBrokersDown", 0));
        assert!(!admits("AllBrokersDown", 59));
        assert!(admits("BrokerTransportFailure", 59));
        assert!(admits("AllBrokersDown", 60));
        assert!(!admits("AllBrokersDown", 61));
    }
}
