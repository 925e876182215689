//! Checks the group and its servers every few seconds, for the metrics. Notifies operators of what
//! concerns the whole group, and sends the heartbeats.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use jiff::Timestamp;
use ljwx_ledger::group::monitor::{GroupMonitor, INTERVAL, Observation};
use ljwx_service::config::{Problems, duration};
use ljwx_service::kafka::topic_ends::TopicWatermarks;
use ljwx_service::metrics::flag;
use metrics::gauge;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::alert_path::AlertPath;
use super::beats::Beats;
use super::device_records::DeviceRecords;
use super::readings_flow::ReadingsFlow;
use crate::metrics::{LAST_RECORD, NO_DATA_SUSPENDED};
use crate::notify::operator_events::LastingEvent;
use crate::notify::operator_events::webhook::web_address;
use crate::notify::outbox::{MeasuredOutbox, OutboxMeasurement};
use crate::pipeline::shared_state::SharedState;

/// Age from which a measurement of the outbox says nothing any more.
const MEASUREMENT_AGE_MAX: Duration = Duration::from_secs(30);

/// Time for which a notification may be due before the sender counts as late.
const LATE_AFTER: Duration = Duration::from_secs(120);

/// Time for which notifications must stay that late. An account that works again sends in it what
/// has waited.
const LATE_FOR: Duration = Duration::from_secs(30);

/// Settings of the monitor.
#[derive(Debug, Clone, Args)]
pub struct MonitorArgs {
    /// Time without a new record in the readings topic after which operators are notified that
    /// readings have stopped; 0s: never. Set it above the longest pause of a site whose devices are
    /// few.
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

/// Counts the time since the check before for missing data, if rules ask for it. Time counts for half
/// of their shortest window after the topic's last record, from whichever device. `ends` are those
/// that devices moved.
fn count_time(
    shared: &SharedState,
    last_record: Timestamp,
    found: &Observation<'_>,
    ends: &TopicWatermarks,
) {
    let now_ms = Timestamp::now().as_millisecond();
    let rules = shared.rules.borrow();
    let shortest = rules.as_ref().and_then(|rules| rules.absence_windows().first());
    let Some(shortest) = shortest else { return };
    let unseen_ms = (now_ms - last_record.as_millisecond() - shortest / 2).max(0);
    let partitions = ends.iter().map(|(partition, ends)| {
        (*partition, ends.high, found.kafka && found.seen.takes_records(*partition))
    });
    shared.counted_time.send_modify(|time| time.update(now_ms, unseen_ms, partitions));
}

/// Monitors the group, its servers and this replica.
pub struct AlerterMonitor {
    monitor: GroupMonitor,
    /// The last measurement of the outbox.
    outbox: MeasuredOutbox,
    shared: SharedState,
    records: DeviceRecords,
    readings: ReadingsFlow,
    /// Whether the time of the last record of a device is known of all partitions.
    knows_last: bool,
    beats: Option<Beats>,
    /// Whether this replica notifies operators of what concerns the whole group: one replica does.
    /// The others remember what lasts, as they may be the next to speak.
    is_speaker: bool,
    /// Since when notifications are sent late.
    late_since: Option<Instant>,
    /// Tenants whose alerts reached no one while this replica owed them a notification.
    owing: BTreeSet<i64>,
}

impl AlerterMonitor {
    /// Monitors by `monitor` and `outbox`.
    pub fn new(
        settings: &MonitorArgs,
        monitor: GroupMonitor,
        outbox: MeasuredOutbox,
        shared: SharedState,
    ) -> anyhow::Result<Self> {
        let url = settings.heartbeat_url.as_ref().and_then(web_address);
        Ok(Self {
            records: DeviceRecords::new(monitor.reader()),
            monitor,
            outbox,
            shared,
            readings: ReadingsFlow::new(settings.no_readings_after),
            knows_last: false,
            beats: url.map(Beats::new).transpose().context("HTTP client")?,
            is_speaker: false,
            late_since: None,
            owing: BTreeSet::new(),
        })
    }

    /// Monitors until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(INTERVAL);
        while stop.run_until_cancelled(interval.tick()).await.is_some() {
            let mut path = self.observe().await;
            self.report_readings();
            let outbox = self.outbox.borrow().clone();
            let outbox = outbox.filter(|outbox| outbox.at.elapsed() < MEASUREMENT_AGE_MAX);
            if let Some(outbox) = &outbox {
                path.critical_age = Some(outbox.critical_age);
                self.report_unreached(outbox);
                self.report_late(outbox);
            }
            if let Some(beats) = &mut self.beats {
                beats.turn(&path.check(), Instant::now());
            }
        }
    }

    /// Checks the group, and follows the ends of its topic. Returns the path of an alert without the
    /// outbox.
    async fn observe(&mut self) -> AlertPath {
        let Self { monitor, shared, records, readings, knows_last, .. } = self;
        let redis_accepts = !shared.subscription_refused.load(Ordering::Relaxed);
        let free = !shared.mysql_retry.is_retrying();
        let found = monitor.observe(free, redis_accepts).await;
        let seen = found.seen;
        // Before the ledger is known, offsets are not yet those of the ledger.
        let knows_ends = found.kafka && !found.lags.is_empty();
        if knows_ends {
            records.update(seen).await;
            readings.update(&records.ends(&seen.ends), Timestamp::now());
            if !*knows_last
                && readings.last_record().is_none()
                && let Some(last_ms) = records.last_ms(seen).await
            {
                *knows_last = seen.unanswered.is_empty();
                if let Some(last) = last_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok()) {
                    readings.set_last_record(last, Timestamp::now());
                }
            }
        }
        if let Some(last) = readings.last_record() {
            count_time(shared, last, &found, &records.ends(&seen.ends));
        }
        let stalled = found.lags.iter().map(|lag| lag.stalled_seconds).fold(0.0, f64::max);
        // The owner of the first partition. The ledger has one, however many replicas there are.
        let speaker = seen.ledger.first_key_value().map(|(_, (_, owner))| owner.as_str());
        self.is_speaker = speaker == Some(shared.ledger.owner());
        let answers = found.database && knows_ends && seen.unanswered.is_empty();
        let partitions = seen.partitions;
        if found.database && found.kafka {
            check_partitions(monitor, partitions, shared).await;
        }
        if let Some(last) = readings.last_record() {
            gauge!(LAST_RECORD).set(last.as_duration().as_secs_f64());
        }
        AlertPath {
            probes: shared.live().and_then(|()| shared.ready()),
            answers,
            readings_arrive: readings.arrive(),
            stalled: Duration::try_from_secs_f64(stalled).unwrap_or(Duration::MAX),
            critical_age: None,
            critical_owed: shared.owed.borrow().critical,
            accounts_fail: shared.accounts.all_fail(Instant::now()),
        }
    }

    /// Notifies operators if readings stop or resume.
    fn report_readings(&self) {
        let stopped = self.readings.stopped_since();
        let (count, since) = (stopped.is_some().into(), stopped.unwrap_or_else(Timestamp::now));
        let operators = &self.shared.operators;
        operators.lasting(LastingEvent::ReadingsStopped, count, since, self.is_speaker);
    }

    /// Notifies operators of tenants whose severe alerts reach no one. Every replica speaks of what
    /// it owes, and one of the notifications that were refused.
    fn report_unreached(&mut self, outbox: &OutboxMeasurement) {
        let mut unreached = self.shared.owed.borrow().unreached.clone();
        self.owing.extend(unreached.keys());
        for (customer_id, count) in &outbox.unrouted {
            *unreached.entry(*customer_id).or_default() += count;
        }
        let speaks = |customer_id: i64| self.is_speaker || self.owing.contains(&customer_id);
        self.shared.operators.unreached(&unreached, speaks);
        self.owing.retain(|customer_id| unreached.contains_key(customer_id));
    }

    /// Notifies operators if notifications are sent late, or on time again. Those that wait for the
    /// end of a silence of everything are not late.
    fn report_late(&mut self, outbox: &OutboxMeasurement) {
        let is_silent = self.shared.silences.covers_all(Timestamp::now().as_millisecond());
        let is_late = outbox.due_for > LATE_AFTER && !is_silent;
        self.late_since = is_late.then(|| self.late_since.unwrap_or(outbox.at));
        let lasts = |since: Instant| outbox.at.duration_since(since) >= LATE_FOR;
        let count = self.late_since.is_some_and(lasts).into();
        let now = Timestamp::now();
        let since = now.checked_sub(outbox.due_for).unwrap_or(now);
        let operators = &self.shared.operators;
        operators.lasting(LastingEvent::SenderLate, count, since, self.is_speaker);
    }
}

/// Finds out whether the topic has as many `partitions` as were accepted, so that missing data may be
/// evaluated. If the servers do not answer, the last finding stays.
async fn check_partitions(monitor: &GroupMonitor, partitions: usize, shared: &SharedState) {
    let Some(accepted) = monitor.has_accepted_partitions().await else { return };
    gauge!(NO_DATA_SUSPENDED).set(flag(!accepted));
    let before = shared.counted_time.borrow().has_accepted_partitions.unwrap_or(true);
    shared.counted_time.send_modify(|time| {
        time.has_accepted_partitions = Some(accepted);
        time.accepted_partitions = i32::try_from(partitions).ok().filter(|_| accepted);
    });
    if before && !accepted {
        warn!(
            remedy = "docs/commands.md, \"Add partitions\"",
            "topic has other partitions than were accepted, no missing data is evaluated"
        );
    } else if accepted && !before {
        info!("partitions accepted, missing data is evaluated again");
    }
}
