//! One device. A watch caches every reading before it sends, posts its whole cache, and clears the
//! cache on exactly 200. It retries after 1, 2 and 3 s, and then with its next reading. A phone
//! sends a reading once and forgets it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::body::{Flaw, TENANT, broken_body, phone_body, serial, watch_body, watch_item};
use super::report::Sent;
use super::settings::Settings;
use super::shared::Shared;
use super::vitals::Patient;

/// Readings that a watch keeps. Beyond them it drops the oldest.
const CACHE_MAX: usize = 100;

/// Pauses of a watch before it retries.
const RETRY_PAUSES: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(3)];

/// Attempts of a watch to send its cache at the end of a run.
const LAST_TRIES: usize = 10;

/// Chance per reading that a watch goes out of reach, and the most readings that it then stays so.
const OFFLINE_CHANCE: f64 = 0.005;
const OFFLINE_READINGS_MAX: u32 = 20;

/// Chance that an answer is lost on its way, so that the watch sends the same readings again.
const ANSWER_LOST_CHANCE: f64 = 0.005;

/// A reading that is not sent yet.
pub(super) struct Pending {
    pub(super) at: i64,
    pub(super) due: Option<Instant>,
    pub(super) flaw: Flaw,
    text: String,
}

/// A watch or a phone, and its wearer.
pub(super) struct Device {
    serial: String,
    user: i64,
    phone: bool,
    steady: bool,
    faulty_ratio: f64,
    random: SmallRng,
    patient: Patient,
    cache: VecDeque<Pending>,
    next: Duration,
    period: Duration,
    offline: u32,
}

impl Device {
    pub(super) fn new(number: u32, settings: &Settings) -> Self {
        let mut random = SmallRng::seed_from_u64(settings.seed ^ (u64::from(number) << 20));
        let drifts = number < settings.drifting;
        let period = settings.period();
        Self {
            serial: serial(&settings.serial_prefix, number as usize),
            user: TENANT + 1000 + i64::from(number),
            // The drifting devices are watches that stay in reach, so that their alerts can be
            // predicted.
            phone: !drifts && number % 5 == 4,
            steady: drifts,
            faulty_ratio: settings.faulty_ratio,
            patient: Patient::new(&mut random, drifts),
            random,
            cache: VecDeque::new(),
            // The starts are spread evenly, so that the rate is constant.
            next: period.mul_f64(f64::from(number) / f64::from(settings.devices)),
            period,
            offline: 0,
        }
    }

    /// Runs the device: measures when due, sends when in reach, and sends the remaining readings at
    /// the end.
    pub(super) async fn live(mut self, shared: Arc<Shared>) {
        loop {
            let due = shared.begin + self.next;
            if due >= shared.end || !shared.wait_until(due).await {
                break;
            }
            if self.phone {
                self.relay(due, &shared).await;
                continue;
            }
            self.measure_due(&shared).await;
            if self.in_reach(due) {
                self.upload(&shared).await;
            }
        }
        if self.offline > 0 {
            self.back_in_reach(Instant::now());
        }
        for _ in 0..LAST_TRIES {
            if self.cache.is_empty() || self.send_cache(&shared).await {
                break;
            }
            tokio::time::sleep(RETRY_PAUSES[0]).await;
        }
    }

    /// Measures all due readings into the cache.
    async fn measure_due(&mut self, shared: &Shared) {
        loop {
            let due = shared.begin + self.next;
            if due > Instant::now() || due >= shared.end || shared.stop.is_cancelled() {
                return;
            }
            let flaw = self.flaw();
            let (at, vitals) = (shared.epoch(due), self.patient.measure(&mut self.random));
            self.next += self.period;
            if flaw == Flaw::NotJson {
                self.send(broken_body(&self.serial).as_bytes(), &[(at, Some(due), flaw)], shared)
                    .await;
                continue;
            }
            let text = watch_item(&self.serial, self.user, at, &vitals, flaw);
            self.cache.push_back(Pending { at, due: Some(due), flaw, text });
            if self.cache.len() > CACHE_MAX {
                self.cache.pop_front();
                shared.report().dropped += 1;
            }
        }
    }

    fn flaw(&mut self) -> Flaw {
        let faulty = !self.steady && self.random.random_bool(self.faulty_ratio);
        if faulty { Flaw::any(&mut self.random) } else { Flaw::None }
    }

    fn in_reach(&mut self, due: Instant) -> bool {
        if self.offline > 0 {
            self.offline -= 1;
            if self.offline == 0 {
                self.back_in_reach(due);
            }
        } else if !self.steady && self.random.random_bool(OFFLINE_CHANCE) {
            self.offline = self.random.random_range(2..=OFFLINE_READINGS_MAX);
        }
        self.offline == 0
    }

    /// The latency of cached readings counts from now: they are late because the watch was out of
    /// reach.
    fn back_in_reach(&mut self, now: Instant) {
        self.cache.iter_mut().for_each(|pending| pending.due = pending.due.map(|_| now));
    }

    async fn upload(&mut self, shared: &Shared) {
        for pause in RETRY_PAUSES {
            if self.cache.is_empty() || self.send_cache(shared).await {
                return;
            }
            if !shared.wait_until(Instant::now() + pause).await {
                return;
            }
            self.measure_due(shared).await;
        }
        self.send_cache(shared).await;
    }

    /// Posts the whole cache; `true` on exactly 200. The real watch then also drops the readings
    /// measured meanwhile. They stay here, so that every reading is accounted for.
    async fn send_cache(&mut self, shared: &Shared) -> bool {
        let body = watch_body(self.cache.iter().map(|pending| pending.text.as_str()));
        let sent: Vec<Sent> =
            self.cache.iter().map(|pending| (pending.at, pending.due, pending.flaw)).collect();
        let taken = self.send(body.as_bytes(), &sent, shared).await;
        let lost = !self.steady && self.random.random_bool(ANSWER_LOST_CHANCE);
        if taken && !lost {
            self.cache.clear();
        } else if taken {
            // The next upload repeats these readings, whose answer has been counted.
            self.cache.iter_mut().for_each(|pending| pending.due = None);
        }
        taken
    }

    /// Sends a phone's reading once.
    async fn relay(&mut self, due: Instant, shared: &Shared) {
        let flaw = self.flaw();
        let (at, vitals) = (shared.epoch(due), self.patient.measure(&mut self.random));
        self.next += self.period;
        let body = if flaw == Flaw::NotJson {
            broken_body(&self.serial)
        } else {
            phone_body(&self.serial, at, &vitals, flaw)
        };
        self.send(body.as_bytes(), &[(at, Some(due), flaw)], shared).await;
    }

    async fn send(&self, body: &[u8], sent: &[Sent], shared: &Shared) -> bool {
        let answer = shared.pool.post(body).await;
        shared.report().note(&self.serial, sent, answer)
    }
}
