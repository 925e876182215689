//! Decides which requests pass while Kafka acknowledges nothing, and whether the gateway is ready
//! then. Pure.

use std::time::{Duration, Instant};

/// Pause between the end of a request and the next probe.
const PROBE_PAUSE: Duration = Duration::from_secs(2);

/// Time without a request after which a stalled gateway is ready again. A gateway that a balancer
/// took out must get the request that heals it. No probe holds back the next one longer.
const QUIET: Duration = Duration::from_secs(10);

/// The requests so far. A request that passes while Kafka is stalled is a probe.
#[derive(Debug)]
pub struct Probing {
    /// When the last request came, or ended in vain if that was later.
    last: Instant,
    next_probe: Instant,
    /// Whether the last request ended a quiet time, and its probe has not ended in vain.
    was_quiet: bool,
}

impl Probing {
    /// Starts with an open gate.
    pub fn new(now: Instant) -> Self {
        Self { last: now, next_probe: now, was_quiet: false }
    }

    /// Decides whether a request passes. Kafka has been stalled `since`, if it is.
    pub fn passes(&mut self, now: Instant, since: Option<Instant>) -> bool {
        let Some(since) = since else {
            *self = Self::new(now);
            return true;
        };
        self.was_quiet |= self.is_quiet(now);
        self.last = now;
        let is_probe = now >= self.next_probe.max(since + PROBE_PAUSE);
        if is_probe {
            self.next_probe = now + QUIET;
        }
        is_probe
    }

    /// Notes that a request that had passed has ended and Kafka is stalled.
    pub fn ended_in_vain(&mut self, now: Instant) {
        *self = Self { last: now, next_probe: now + PROBE_PAUSE, was_quiet: false };
    }

    /// Whether the gateway is ready though Kafka has been stalled `since`. The first `grace` does
    /// not count.
    pub fn is_ready(&self, now: Instant, since: Instant, grace: Duration) -> bool {
        now < since + grace || self.was_quiet || self.is_quiet(now)
    }

    fn is_quiet(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= QUIET
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    #[test]
    fn one_request_at_a_time_tries_a_stalled_kafka() {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let mut probing = Probing::new(start);
        let stalled = Some(at(10));
        for (second, since, expected) in [
            (9, None, true),
            (11, stalled, false),
            (12, stalled, true),
            (13, stalled, false),
            // The probe of second 12 has still not ended.
            (21, stalled, false),
            (22, stalled, true),
        ] {
            assert_eq!(probing.passes(at(second), since), expected, "in second {second}");
        }
        probing.ended_in_vain(at(25));
        for (second, since, expected) in
            [(26, stalled, false), (27, stalled, true), (28, None, true)]
        {
            assert_eq!(probing.passes(at(second), since), expected, "in second {second}");
        }
        assert!(!probing.passes(at(29), Some(at(29))), "a new stall");
        assert!(probing.passes(at(31), Some(at(29))));
    }

    #[test]
    fn a_stalled_gateway_is_ready_in_its_grace_and_after_a_quiet_time_until_a_probe_fails() {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let mut probing = Probing::new(start);
        let ready = |probing: &Probing, second: u64| probing.is_ready(at(second), at(10), GRACE);
        assert!(probing.passes(at(12), Some(at(10))));
        assert!(ready(&probing, 14), "within the grace");
        probing.ended_in_vain(at(15));
        assert!(!ready(&probing, 15) && !ready(&probing, 24), "requests have come");
        assert!(ready(&probing, 25), "quiet for 10 s");
        assert!(probing.passes(at(26), Some(at(10))));
        assert!(!probing.passes(at(27), Some(at(10))));
        assert!(ready(&probing, 31), "the probe is not over");
        probing.ended_in_vain(at(32));
        assert!(!ready(&probing, 32), "the probe was in vain");
    }
}
