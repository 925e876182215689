//! Checks the group and its servers every few seconds, for the metrics. Notifies operators of what
//! concerns the whole group, and sends the heartbeats.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use jiff::Timestamp;
use ljwx_ledger::group::monitor::{GroupMonitor, INTERVAL};
use ljwx_service::config::{Problems, duration};
use ljwx_service::http::admin::Probe;
use metrics::gauge;
use secrecy::SecretString;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::alert_path::AlertPath;
use super::beats::Beats;
use super::readings_flow::{KafkaQuestion, ReadingsFlow};
use crate::metrics::LAST_RECORD;
use crate::mysql::retry::MysqlRetry;
use crate::notify::limits::AccountLimits;
use crate::notify::operator_events::webhook::web_address;
use crate::notify::operator_events::{LastingEvent, OperatorEvents};
use crate::notify::outbox::OutboxMeasurement;
use crate::pipeline::owed::OwedMeasurement;

/// Age from which a measurement of the outbox says nothing any more.
const MEASUREMENT_AGE_MAX: Duration = Duration::from_secs(30);

/// Time for which a notification may be due before the sender counts as late.
const LATE_AFTER: Duration = Duration::from_secs(120);

/// Time below which a sender that was late is on time again. A backlog near the limit must not send
/// event after event.
const ON_TIME_BELOW: Duration = Duration::from_secs(60);

/// Settings of the monitor.
#[derive(Debug, Clone, Args)]
pub struct MonitorArgs {
    /// Time without a new record in the readings topic after which operators hear that readings
    /// have stopped, if more than one a minute arrived in the hour before; 0s: never.
    #[arg(long, env = "NO_READINGS_AFTER", default_value = "5m", value_parser = duration)]
    pub no_readings_after: Duration,
    /// Address of an outside monitor, which stands elsewhere and pages if heartbeats stop: http:// or
    /// https://. It gets a GET every 60 s while an alert that arises now would reach people; none:
    /// no heartbeats. Each replica should have an address of its own.
    #[arg(long, env = "HEARTBEAT_URL", hide_env_values = true)]
    pub heartbeat_url: Option<SecretString>,
}

impl MonitorArgs {
    /// Adds what is wrong with the settings to `problems`.
    pub fn validate(&self, problems: &mut Problems) {
        let url = self.heartbeat_url.as_ref();
        problems.require(url.is_none_or(|url| web_address(url).is_some()), || {
            "--heartbeat-url must be an address such as https://host/path".into()
        });
    }
}

/// The parts of the alerter that are monitored.
pub struct MonitoredParts {
    /// The monitor of the group and its servers.
    pub monitor: GroupMonitor,
    /// This replica's name in the ledger.
    pub replica: String,
    /// The main loop's retry.
    pub mysql_retry: MysqlRetry,
    /// Whether Redis rejects the subscription to rule changes.
    pub subscription_refused: Arc<AtomicBool>,
    /// The check of the loops.
    pub loops: Probe,
    /// The last measurement of the outbox.
    pub outbox: watch::Receiver<Option<OutboxMeasurement>>,
    /// The accounts of the sender.
    pub accounts: Arc<AccountLimits>,
    /// What this replica's episodes owe.
    pub owed: watch::Receiver<OwedMeasurement>,
    /// The channel to the operators.
    pub operators: OperatorEvents,
}

/// What one check found about the group.
struct GroupCheck {
    /// Whether MySQL and Kafka answer, and the position and the end of every partition are known.
    answers: bool,
    /// The sum of the ends of all partitions, if Kafka answers.
    readings_end: Option<i64>,
    /// Longest time for which a partition has had lag without progress.
    stalled: Duration,
    /// Whether this replica notifies operators of what concerns the whole group: one replica does.
    is_speaker: bool,
}

/// Monitors the group, its servers and this replica.
pub struct AlerterMonitor {
    parts: MonitoredParts,
    readings: ReadingsFlow,
    beats: Option<Beats>,
    /// Whether notifications are sent late.
    is_late: bool,
}

impl AlerterMonitor {
    /// Monitors `parts`.
    pub fn new(parts: MonitoredParts, settings: &MonitorArgs) -> anyhow::Result<Self> {
        let url = settings.heartbeat_url.as_ref().and_then(web_address);
        let beats = url.map(Beats::new).transpose().context("HTTP client")?;
        let readings = ReadingsFlow::new(settings.no_readings_after);
        Ok(Self { parts, readings, beats, is_late: false })
    }

    /// Monitors until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = interval.tick() => {}
            }
            let group = self.observe().await;
            if let Some(end) = group.readings_end {
                self.follow_readings(end).await;
            }
            let outbox = self.parts.outbox.borrow().clone();
            let outbox = outbox.filter(|outbox| outbox.at.elapsed() < MEASUREMENT_AGE_MAX);
            if let Some(outbox) = &outbox {
                self.report_unreached(group.is_speaker, outbox);
            }
            if group.is_speaker {
                self.notify_operators(outbox.as_ref());
            }
            let path = self.path(&group, outbox.as_ref());
            if let Some(beats) = &mut self.beats {
                beats.turn(&path.check());
            }
        }
    }

    async fn observe(&mut self) -> GroupCheck {
        let parts = &mut self.parts;
        let redis_accepts = !parts.subscription_refused.load(Ordering::Relaxed);
        let free = !parts.mysql_retry.is_retrying();
        let found = parts.monitor.observe(free, redis_accepts).await;
        let ends = found.seen.ends.values();
        let knows_all = !found.lags.is_empty() && found.lags.len() == found.seen.partitions;
        let stalled = found.lags.iter().map(|lag| lag.stalled_seconds).fold(0.0, f64::max);
        // The owner of the first partition. The ledger has one, however many replicas there are.
        let speaker = found.seen.ledger.first_key_value().map(|(_, (_, owner))| owner);
        GroupCheck {
            answers: found.database && found.kafka && knows_all,
            // Before the ledger is known, offsets are not yet those of the ledger.
            readings_end: (found.kafka && !found.lags.is_empty())
                .then(|| ends.map(|ends| ends.high).sum()),
            stalled: Duration::try_from_secs_f64(stalled).unwrap_or(Duration::MAX),
            is_speaker: speaker.is_some_and(|owner| *owner == parts.replica),
        }
    }

    /// Passes the topic's end on, and asks Kafka what the decision about it needs.
    async fn follow_readings(&mut self, end: i64) {
        let monitor = &self.parts.monitor;
        match self.readings.update(end, Timestamp::now()) {
            Some(KafkaQuestion::LastRecord) => {
                if let Some(last_ms) = monitor.last_record_ms().await {
                    let last = last_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
                    self.readings.set_last_record(last, Timestamp::now());
                }
            }
            Some(KafkaQuestion::RecordsSince(at)) => {
                if let Some(count) = monitor.records_since(at.as_millisecond()).await {
                    self.readings.set_records(count);
                }
            }
            None => {}
        }
        if let Some(last) = self.readings.last_record() {
            gauge!(LAST_RECORD).set(last.as_duration().as_secs_f64());
        }
    }

    /// Notifies operators of tenants whose severe alerts reach no one. Every replica knows of its own
    /// episodes; one replica adds the notifications that were refused.
    fn report_unreached(&self, is_speaker: bool, outbox: &OutboxMeasurement) {
        let mut unreached = self.parts.owed.borrow().unreached.clone();
        for (customer_id, count) in outbox.unrouted.iter().filter(|_| is_speaker) {
            *unreached.entry(*customer_id).or_default() += count;
        }
        self.parts.operators.lasting_of_tenants(LastingEvent::NoRecipientReached, &unreached);
    }

    /// Notifies operators of what concerns the whole group.
    fn notify_operators(&mut self, outbox: Option<&OutboxMeasurement>) {
        let operators = &self.parts.operators;
        let now = Timestamp::now();
        let stopped = self.readings.stopped_since();
        let (count, since) = (u64::from(stopped.is_some()), stopped.unwrap_or(now));
        operators.lasting(LastingEvent::ReadingsStopped, None, count, since);
        let Some(outbox) = outbox else { return };
        self.is_late = outbox.due_for > if self.is_late { ON_TIME_BELOW } else { LATE_AFTER };
        let count = if self.is_late { outbox.due } else { 0 };
        let since = now.checked_sub(outbox.due_for).unwrap_or(now);
        operators.lasting(LastingEvent::SenderLate, None, count, since);
    }

    fn path(&self, group: &GroupCheck, outbox: Option<&OutboxMeasurement>) -> AlertPath {
        AlertPath {
            loops: (self.parts.loops)(),
            answers: group.answers,
            readings_stopped: self.readings.stopped_since().is_some(),
            stalled: group.stalled,
            critical_age: outbox.map(|outbox| outbox.critical_age),
            critical_owed: self.parts.owed.borrow().critical,
            accounts_fail: self.parts.accounts.all_fail(),
        }
    }
}
