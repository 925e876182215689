//! Aggregates single episodes into the figures of each rule and tenant.
//!
//! Pure. Episodes come device by device, and those of a device in the order of their openings.

use std::collections::{BTreeMap, HashMap};

use jiff::civil::Date;
use serde::Serialize;
use sqlx::FromRow;

use super::percentiles::Percentiles;
use crate::engine::episode::notify_history::NotifyHistory;
use crate::rules::Rule;

/// Largest share of the period in which a device of a healthy rule has an open episode.
const OPEN_SHARE_MAX: f64 = 0.8;

/// Most episodes that a device of a healthy rule has in a day.
const EPISODES_A_DAY_MAX: u64 = 50;

/// An episode as the tables hold it. Times are in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpisodeHistory {
    /// The rule.
    pub rule_id: i64,
    /// The tenant.
    pub customer_id: i64,
    /// The platform's word for the kind of alert.
    pub alert_type: String,
    /// The device.
    pub device_sn: String,
    /// Event time of the opening.
    pub opened_at: i64,
    /// Day of the opening on the devices' wall clock.
    pub opened_on: Date,
    /// Event time of the end. `None` also if the episode is over and the time of its end is
    /// unknown.
    pub over_at: Option<i64>,
    /// Whether the episode is open.
    pub is_open: bool,
    /// Whether anyone received a notification of the episode.
    pub is_notified: bool,
    /// Time at which its first notification was recorded.
    pub recorded_at: Option<i64>,
    /// Time at which a notification was first received.
    pub delivered_at: Option<i64>,
}

/// The figures of one rule and tenant. Times are in milliseconds. `None`: there is nothing to
/// measure.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RuleSummary {
    /// The rule. 0: notifications that belong to no single existing alert.
    pub rule_id: i64,
    /// The tenant.
    pub customer_id: i64,
    /// The platform's word for the kind of alert.
    pub alert_type: String,
    /// Episodes that opened in the period.
    pub episodes: u64,
    /// Of these, episodes that someone was notified of.
    pub notified: u64,
    /// Of these, episodes that ended.
    pub ended: u64,
    /// Open episodes, including those that opened before the period.
    pub open: u64,
    /// Median duration of the episodes that ended.
    pub lasted_p50_ms: Option<i64>,
    /// Median time from the event to the first delivery.
    pub event_to_delivery_p50_ms: Option<i64>,
    /// 95th percentile of the time from the event to the first delivery.
    pub event_to_delivery_p95_ms: Option<i64>,
    /// Median time from the recording of the first notification to the first delivery.
    pub recorded_to_delivery_p50_ms: Option<i64>,
    /// 95th percentile of the time from the recording to the first delivery.
    pub recorded_to_delivery_p95_ms: Option<i64>,
    /// Whether these times cover only a part of the episodes, because there are many.
    pub sampled: bool,
    /// Number of times that a device began to flap. `None` if the rule no longer exists.
    pub flaps: Option<u64>,
    /// Suppressed notifications, by reason.
    pub suppressed: BTreeMap<String, i64>,
    /// Recorded notifications, by outcome.
    pub notifications: Vec<NotificationGroup>,
}

/// Notifications with the same outcome.
#[derive(Debug, Clone, PartialEq, Eq, FromRow, Serialize)]
pub struct NotificationGroup {
    /// The channel.
    pub channel: String,
    /// The outcome: a state of the outbox, or `attempt_failed` for single attempts.
    pub outcome: String,
    /// The channel's last errcode. `None`: no answer, or no call.
    pub errcode: Option<i64>,
    /// Number of notifications.
    pub notifications: i64,
}

/// A rule that fires all day on some devices of a tenant, so that people ignore it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AllDay {
    /// The rule.
    pub rule_id: i64,
    /// The tenant.
    pub customer_id: i64,
    /// Number of devices.
    pub devices: u64,
    /// The device on which the rule is noisiest.
    pub device_sn: String,
    /// Share of the period in which an episode was open on that device, 0 to 1.
    pub open_share: f64,
    /// Most episodes of one day on that device.
    pub episodes_a_day: u64,
}

impl AllDay {
    /// Returns the greater ratio to the two limits. Above 1 a limit is exceeded.
    fn loudness(&self) -> f64 {
        let of_a_day = self.episodes_a_day as f64 / EPISODES_A_DAY_MAX as f64;
        of_a_day.max(self.open_share / OPEN_SHARE_MAX)
    }
}

/// The aggregation over all episodes of a rule and a tenant.
#[derive(Debug, Default)]
pub struct RuleStats {
    /// The figures.
    pub line: RuleSummary,
    /// Set if the rule fires all day.
    pub all_day: Option<AllDay>,
    /// Durations of the episodes that ended.
    lasted: Percentiles,
    /// Times from the opening to the first delivery.
    since_event: Percentiles,
    /// Times from the recording of the first notification to the first delivery.
    since_recorded: Percentiles,
}

/// The figures of the present device.
#[derive(Debug, Default)]
struct DeviceStats {
    device_sn: String,
    open_ms: i64,
    day: Option<Date>,
    of_day: u64,
    episodes_a_day: u64,
    past: NotifyHistory,
}

/// The aggregation over all episodes of a period.
#[derive(Debug)]
pub struct Aggregation<'a> {
    from_ms: i64,
    to_ms: i64,
    rules: &'a HashMap<i64, &'a Rule>,
    tallies: Vec<RuleStats>,
    device: DeviceStats,
}

impl<'a> Aggregation<'a> {
    /// An aggregation over `from_ms..to_ms`. The policies of `rules`, by id, define flapping.
    pub fn new(from_ms: i64, to_ms: i64, rules: &'a HashMap<i64, &'a Rule>) -> Self {
        Self { from_ms, to_ms, rules, tallies: Vec::new(), device: DeviceStats::default() }
    }

    /// Adds one episode, which may have opened before the period.
    pub fn take(&mut self, history: &EpisodeHistory) {
        self.turn_to(history);
        let opened_in_span = (self.from_ms..self.to_ms).contains(&history.opened_at);
        let open_ms = self.open_ms(history);
        let device = &mut self.device;
        let Some(tally) = self.tallies.last_mut() else { return };
        device.open_ms += open_ms;
        tally.line.open += u64::from(history.is_open);
        if !opened_in_span {
            return;
        }
        tally.count(history);
        device.count(history.opened_on);
        let rule = self.rules.get(&history.rule_id);
        if let (Some(rule), Some(flaps)) = (rule, &mut tally.line.flaps) {
            let flapped = device.past.is_flapping();
            device.past.opens(&rule.policy, history.opened_at);
            *flaps += u64::from(device.past.is_flapping() && !flapped);
        }
    }

    /// Returns the figures of each rule and tenant.
    pub fn finish(mut self) -> Vec<RuleStats> {
        self.close_device();
        self.tallies.iter_mut().for_each(RuleStats::complete);
        self.tallies
    }

    fn turn_to(&mut self, history: &EpisodeHistory) {
        let EpisodeHistory { rule_id, customer_id, .. } = *history;
        let same_rule = self.tallies.last().is_some_and(|last| {
            (last.line.rule_id, last.line.customer_id) == (rule_id, customer_id)
        });
        if same_rule && self.device.device_sn == history.device_sn {
            return;
        }
        self.close_device();
        self.device.device_sn.clone_from(&history.device_sn);
        if !same_rule {
            let alert_type = history.alert_type.clone();
            let flaps = self.rules.contains_key(&rule_id).then_some(0);
            let line =
                RuleSummary { rule_id, customer_id, alert_type, flaps, ..RuleSummary::default() };
            self.tallies.push(RuleStats { line, ..RuleStats::default() });
        }
    }

    fn close_device(&mut self) {
        let device = std::mem::take(&mut self.device);
        let Some(RuleStats { line, all_day, .. }) = self.tallies.last_mut() else { return };
        let mut loud = AllDay {
            rule_id: line.rule_id,
            customer_id: line.customer_id,
            devices: 1,
            device_sn: device.device_sn,
            open_share: device.open_ms as f64 / (self.to_ms - self.from_ms).max(1) as f64,
            episodes_a_day: device.episodes_a_day,
        };
        if loud.loudness() <= 1.0 {
            return;
        }
        if let Some(mut other) = all_day.take() {
            loud.devices += other.devices;
            if other.loudness() >= loud.loudness() {
                other.devices = loud.devices;
                loud = other;
            }
        }
        *all_day = Some(loud);
    }

    /// Returns how long the episode was open within the period.
    fn open_ms(&self, history: &EpisodeHistory) -> i64 {
        let until = history.over_at.or(history.is_open.then_some(self.to_ms));
        let until = until.map_or(self.from_ms, |until| until.min(self.to_ms));
        (until - history.opened_at.max(self.from_ms)).max(0)
    }
}

impl RuleStats {
    fn count(&mut self, history: &EpisodeHistory) {
        self.line.episodes += 1;
        self.line.notified += u64::from(history.is_notified);
        self.line.ended += u64::from(!history.is_open);
        if let Some(over_at) = history.over_at {
            self.lasted.add(over_at - history.opened_at);
        }
        if let Some(delivered_at) = history.delivered_at {
            // A device's clock may be ahead of the server's.
            self.since_event.add((delivered_at - history.opened_at).max(0));
            if let Some(recorded_at) = history.recorded_at {
                self.since_recorded.add((delivered_at - recorded_at).max(0));
            }
        }
    }

    /// Sets the figures that take all episodes.
    fn complete(&mut self) {
        let line = &mut self.line;
        [line.lasted_p50_ms] = self.lasted.percentiles([50]);
        [line.event_to_delivery_p50_ms, line.event_to_delivery_p95_ms] =
            self.since_event.percentiles([50, 95]);
        [line.recorded_to_delivery_p50_ms, line.recorded_to_delivery_p95_ms] =
            self.since_recorded.percentiles([50, 95]);
        line.sampled = self.lasted.is_partial() || self.since_event.is_partial();
    }
}

impl DeviceStats {
    fn count(&mut self, day: Date) {
        if self.day != Some(day) {
            (self.day, self.of_day) = (Some(day), 0);
        }
        self.of_day += 1;
        self.episodes_a_day = self.episodes_a_day.max(self.of_day);
    }
}

#[cfg(test)]
#[path = "aggregate_tests.rs"]
mod tests;
