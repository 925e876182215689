//! The readings that the fleet has sent, the answers, and their latency.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::io;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Deserialize;
use tokio::time::Instant;

use super::body::Flaw;
use super::client::Response;
use crate::accounting::history::{Answered, History};

/// A reading in a body: its time, its planned time (unless it was answered before), its fault.
pub(super) type Sent = (i64, Option<Instant>, Flaw);

/// Longest latency that is recorded, in microseconds. Longer ones count as this.
const LATENCY_MAX: u64 = 600_000_000;

/// The report of a run.
#[derive(Debug)]
pub struct Report {
    /// Bodies sent.
    pub requests: u64,
    /// Readings in the bodies, repeats included.
    pub readings: u64,
    /// Readings in bodies answered with 200, repeats and rejects included.
    pub acknowledged: u64,
    /// Answers by status; 0 counts requests without an answer.
    pub statuses: BTreeMap<u16, u64>,
    /// Readings that a full cache dropped.
    pub dropped: u64,
    /// Time from plan to answer, in microseconds, of each reading answered with 200.
    pub latency: Histogram<u64>,
    /// Duration of the run.
    pub elapsed: Duration,
    /// The client's knowledge about each reading.
    pub history: History,
}

impl Default for Report {
    fn default() -> Self {
        let Ok(latency) = Histogram::new_with_max(LATENCY_MAX, 3) else {
            unreachable!("three digits up to ten minutes is a valid histogram")
        };
        Self {
            requests: 0,
            readings: 0,
            acknowledged: 0,
            statuses: BTreeMap::new(),
            dropped: 0,
            latency,
            elapsed: Duration::ZERO,
            history: History::default(),
        }
    }
}

#[derive(Deserialize)]
struct Body {
    details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    success: u64,
    duplicate: u64,
    error: u64,
}

impl Report {
    /// Records the answer to a body; `true` for exactly 200.
    pub(super) fn note(
        &mut self,
        serial: &str,
        sent: &[Sent],
        answer: io::Result<Response>,
    ) -> bool {
        let status = answer.as_ref().map_or(0, |response| response.status);
        self.requests += 1;
        self.readings += sent.len() as u64;
        *self.statuses.entry(status).or_default() += 1;
        let answered = match status {
            200 => Answered::Acknowledged,
            400..=499 => Answered::Refused,
            _ => Answered::Unknown,
        };
        let rejected = sent.iter().filter(|(_, _, flaw)| flaw.rejected()).count() as u64;
        let now = Instant::now();
        for (at, due, flaw) in sent {
            if !flaw.rejected() {
                self.history.note(serial, *at, answered);
            }
            if let Some(due) = due.filter(|_| answered == Answered::Acknowledged) {
                let micros = u64::try_from(now.duration_since(due).as_micros());
                self.latency.saturating_record(micros.unwrap_or(LATENCY_MAX).max(1));
            }
        }
        match answered {
            Answered::Acknowledged => {
                self.acknowledged += sent.len() as u64;
                self.history.note_rejected(rejected);
                let body = answer.map(|response| response.body).unwrap_or_default();
                self.compare(serial, sent.len() as u64, rejected, &body);
            }
            Answered::Unknown => self.history.note_rejected_unknown(rejected),
            Answered::Refused => {}
        }
        status == 200
    }

    fn compare(&mut self, serial: &str, sent: u64, rejected: u64, body: &[u8]) {
        let details = serde_json::from_slice::<Body>(body).ok().and_then(|body| body.details);
        let fits = details.as_ref().is_some_and(|details| {
            details.error == rejected && details.success + details.duplicate + rejected == sent
        });
        if !fits {
            let answer = String::from_utf8_lossy(body);
            let answer: String = answer.chars().take(300).collect();
            self.history.note_surprise(format!(
                "{serial} sent {sent} readings, {rejected} of them unacceptable, and got {answer}"
            ));
        }
    }

    /// Returns a percentile of the latency.
    pub fn latency_at(&self, percentile: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_percentile(percentile))
    }
}

impl Display for Report {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let seconds = self.elapsed.as_secs_f64().max(0.001);
        let (requests, readings, acknowledged) = (self.requests, self.readings, self.acknowledged);
        writeln!(
            formatter,
            "sent          {readings} readings in {requests} bodies, {:.0} readings/s, {:.0} bodies/s",
            readings as f64 / seconds,
            requests as f64 / seconds,
        )?;
        writeln!(formatter, "acknowledged  {acknowledged}")?;
        for (status, count) in &self.statuses {
            match status {
                0 => writeln!(formatter, "no answer     {count}")?,
                _ => writeln!(formatter, "status {status}    {count}")?,
            }
        }
        if self.dropped > 0 {
            writeln!(formatter, "dropped       {} by full caches", self.dropped)?;
        }
        let at = |percentile| self.latency_at(percentile).as_secs_f64() * 1000.0;
        write!(
            formatter,
            "latency       P50 {:.1} ms, P95 {:.1} ms, P99 {:.1} ms (from the planned time)",
            at(50.0),
            at(95.0),
            at(99.0)
        )
    }
}
