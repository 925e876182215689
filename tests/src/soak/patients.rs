//! Patients with a known course: each sends readings that breach the rule now and then, in order,
//! and sends every reading until it is acknowledged. So every episode that people must hear of is
//! known. The many other devices belong to [`crate::fleet`].

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::notifications::Episode;
use super::stage::Stage;
use crate::accounting::history::{Answered, History};
use crate::accounting::verdict::wall_time;
use crate::clients::http;
use crate::fleet::TENANT;
use crate::stack::wait::pass;

/// Number of patients.
const PATIENTS: usize = 20;

/// Number of the first device that belongs to no device of the fleet.
const DEVICE: usize = 900_000_000;

/// Time between two readings of a patient.
const PERIOD: Duration = Duration::from_secs(5);

/// Readings of one breach, and readings between two.
const BREACH: RangeInclusive<u32> = 1..=4;
const CALM: RangeInclusive<u32> = 2..=12;

/// Most readings of a body; the oldest go first.
const BODY_READINGS_MAX: usize = 100;

/// Pause before a retry at the end of the run, and the longest until all are acknowledged.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
const LAST_WITHIN: Duration = Duration::from_secs(120);

/// What the patients have sent, and what must follow.
#[derive(Debug, Default)]
pub(super) struct Course {
    pub(super) history: History,
    pub(super) episodes: Vec<Episode>,
    /// Readings that the gateway has not acknowledged in the end.
    pub(super) unsent: Vec<String>,
}

/// The running patients.
pub(super) struct Patients {
    stop: CancellationToken,
    patients: JoinSet<Course>,
}

impl Patients {
    /// Starts all patients.
    pub(super) fn start(stage: &Stage, seed: u64) -> Self {
        let stop = CancellationToken::new();
        let mut patients = JoinSet::new();
        for number in 0..PATIENTS {
            let patient = Patient::new(
                stage.upload_url(),
                stage.world.device(DEVICE + number),
                seed.wrapping_add(number as u64),
            );
            patients.spawn(patient.live(stop.clone()));
        }
        Self { stop, patients }
    }

    /// Ends every breach and returns the course of all patients.
    pub(super) async fn finish(mut self) -> anyhow::Result<Course> {
        self.stop.cancel();
        let mut all = Course::default();
        while let Some(course) = self.patients.join_next().await {
            let course = course?;
            all.history.absorb(course.history);
            all.episodes.extend(course.episodes);
            all.unsent.extend(course.unsent);
        }
        Ok(all)
    }
}

struct Patient {
    url: String,
    device: String,
    random: StdRng,
    breaching: bool,
    /// Readings until the breach begins or ends.
    left: u32,
    opened: Option<i64>,
    last: i64,
    unsent: VecDeque<(i64, u32)>,
    course: Course,
}

impl Patient {
    fn new(url: String, device: String, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        Self {
            url,
            device,
            left: random.random_range(CALM),
            random,
            breaching: false,
            opened: None,
            last: 0,
            unsent: VecDeque::new(),
            course: Course::default(),
        }
    }

    async fn live(mut self, stop: CancellationToken) -> Course {
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = tick.tick() => {}
            }
            self.turn();
            self.measure(jiff::Timestamp::now().as_second());
            self.send().await;
        }
        self.breaching = false;
        self.measure(jiff::Timestamp::now().as_second());
        let end = Instant::now() + LAST_WITHIN;
        while !self.unsent.is_empty() && Instant::now() < end {
            if !self.send().await {
                pass(RETRY_PAUSE).await;
            }
        }
        let named = |(at, _): &(i64, u32)| format!("{} at {}", self.device, wall_time(*at));
        self.course.unsent = self.unsent.iter().map(named).collect();
        self.course
    }

    /// Begins or ends a breach when it is due.
    fn turn(&mut self) {
        if self.left == 0 {
            self.breaching = !self.breaching;
            self.left = self.random.random_range(if self.breaching { BREACH } else { CALM });
        }
        self.left -= 1;
    }

    /// Measures a reading, a second after the last one at the earliest.
    fn measure(&mut self, now: i64) {
        let at = now.max(self.last + 1);
        self.last = at;
        if self.breaching {
            self.opened.get_or_insert(at);
        } else if let Some(opened) = self.opened.take() {
            let device = self.device.clone();
            self.course.episodes.push(Episode { device, opened, ended: at });
        }
        let heart_rate = self.random.random_range(if self.breaching { 130..180 } else { 60..100 });
        self.unsent.push_back((at, heart_rate));
    }

    /// Sends the oldest readings; `true` once they are acknowledged.
    async fn send(&mut self) -> bool {
        let count = self.unsent.len().min(BODY_READINGS_MAX);
        let item = |(at, heart_rate): &(i64, u32)| {
            json!({
                "deviceSn": self.device, "customerId": TENANT.to_string(),
                "timestamp": wall_time(*at), "heart_rate": heart_rate,
            })
        };
        let items: Vec<Value> = self.unsent.iter().take(count).map(item).collect();
        let answer = http::post(&self.url, json!({ "data": items }).to_string()).await;
        let acknowledged = answer.is_ok_and(|answer| answer.status == 200);
        let answered = if acknowledged { Answered::Acknowledged } else { Answered::Unknown };
        for (at, _) in self.unsent.iter().take(count) {
            self.course.history.note(&self.device, *at, answered);
        }
        if acknowledged {
            self.unsent.drain(..count);
        }
        acknowledged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_breach_is_an_episode_from_its_first_reading_to_the_next_calm_one() {
        let mut patient = Patient::new(String::new(), "a".to_owned(), 7);
        for at in 1..=200 {
            patient.turn();
            patient.measure(at);
        }
        patient.breaching = false;
        patient.measure(201);
        let episodes = &patient.course.episodes;
        assert!(episodes.len() > 10, "{episodes:?}");
        for (at, heart_rate) in &patient.unsent {
            let within = |one: &Episode| one.opened <= *at && *at < one.ended;
            assert_eq!(episodes.iter().any(within), *heart_rate > 120, "{at}: {episodes:?}");
        }
    }

    #[test]
    fn two_readings_never_have_one_time() {
        let mut patient = Patient::new(String::new(), "a".to_owned(), 7);
        [5, 5, 3, 9].into_iter().for_each(|now| patient.measure(now));
        let times: Vec<_> = patient.unsent.iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [5, 6, 7, 9]);
    }
}
