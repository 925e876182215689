//! Measures the end-to-end time: sends a reading of each probe device once a second, and queries
//! its row until the row exists.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::accounting::history::{Answered, History};
use crate::accounting::verdict::wall_time;
use crate::clients::http;
use crate::clients::mysql::Database;
use crate::stack::process::Service;
use crate::stack::wait::eventually;
use crate::stack::world::World;

/// Number of the first device that belongs to no patient.
const DEVICE: usize = 900_000_000;

/// Time between two readings of a probe device: two within a second would have one identity.
const PERIOD: Duration = Duration::from_secs(1);

/// A row that takes longer counts with this time.
const PATIENCE: Duration = Duration::from_secs(30);

type Samples = Arc<Mutex<VecDeque<Duration>>>;

/// The running measurement.
pub(crate) struct Marker {
    samples: Samples,
    stop: CancellationToken,
    probes: Vec<JoinHandle<History>>,
}

impl Marker {
    /// Starts to send and query with `devices` probe devices, spread over the second. The latest
    /// `samples_max` samples count.
    pub(crate) fn start(
        gateway: &Service,
        world: &World,
        devices: usize,
        samples_max: usize,
    ) -> Self {
        let samples = Samples::default();
        let stop = CancellationToken::new();
        let probe = |number: usize| Probe {
            url: gateway.url("/upload_health_data"),
            device: world.device(DEVICE + number),
            database: world.database.clone(),
            samples: Arc::clone(&samples),
            samples_max,
        };
        let first = Instant::now();
        let probes = (0..devices)
            .map(|number| {
                let begin = first + PERIOD * number as u32 / devices as u32;
                tokio::spawn(probe(number).run(begin, stop.clone()))
            })
            .collect();
        Self { samples, stop, probes }
    }

    /// Returns the time from sending to the visible row at a percentile of the latest samples.
    pub(crate) fn at(&self, percentile: usize) -> Option<Duration> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<_> = samples.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get((sorted.len() * percentile / 100).min(sorted.len().saturating_sub(1))).copied()
    }

    /// Returns the number of samples.
    pub(crate) fn count(&self) -> usize {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Drops the samples so far: those of a warm-up.
    pub(crate) fn forget(&self) {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Ends the measurement and returns the senders' history.
    pub(crate) async fn finish(&mut self) -> History {
        self.stop.cancel();
        let mut history = History::default();
        for probe in self.probes.drain(..) {
            history.absorb(probe.await.unwrap_or_default());
        }
        history
    }
}

struct Probe {
    url: String,
    device: String,
    database: Database,
    samples: Samples,
    samples_max: usize,
}

impl Probe {
    async fn run(self, begin: Instant, stop: CancellationToken) -> History {
        let mut tick = tokio::time::interval_at(begin, PERIOD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let probe = Arc::new(self);
        let mut under_way = JoinSet::new();
        let mut history = History::default();
        let mut last = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = tick.tick() => {}
            }
            let at = jiff::Timestamp::now().as_second();
            if at > last {
                last = at;
                let probe = Arc::clone(&probe);
                under_way.spawn(async move { (at, probe.sample(at).await) });
            }
            while let Some(Ok((at, answered))) = under_way.try_join_next() {
                history.note(&probe.device, at, answered);
            }
        }
        while let Some(ended) = under_way.join_next().await {
            if let Ok((at, answered)) = ended {
                history.note(&probe.device, at, answered);
            }
        }
        history
    }

    /// Sends a reading and waits for its row. The time counts from before the request, so it is a
    /// little longer than from the receipt.
    async fn sample(&self, at: i64) -> Answered {
        let sent = Instant::now();
        if self.send(at).await.is_err() {
            return Answered::Unknown;
        }
        let query = format!(
            "SELECT COUNT(*) FROM t_user_health_data WHERE device_sn = '{}' AND timestamp = '{}'",
            self.device,
            wall_time(at)
        );
        let visible = eventually(PATIENCE, "the row", || async {
            Ok((self.database.number(&query).await? == 1).then_some(()))
        });
        let took = visible.await.map_or(PATIENCE, |()| sent.elapsed());
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back(took);
        if samples.len() > self.samples_max {
            samples.pop_front();
        }
        Answered::Acknowledged
    }

    async fn send(&self, at: i64) -> anyhow::Result<()> {
        let (device, time) = (&self.device, wall_time(at));
        let body = format!(
            "{{\"data\":{{\"deviceSn\":\"{device}\",\"heart_rate\":72,\"blood_oxygen\":98,\
             \"timestamp\":\"{time}\"}}}}"
        );
        let answer = http::post(&self.url, body).await?;
        ensure!(answer.status == 200, "{}", answer.status);
        Ok(())
    }
}
