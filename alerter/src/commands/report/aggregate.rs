//! Aggregates single episodes into the figures of each rule and tenant.
//!
//! Pure. Episodes come device by device, and those of a device in the order of their openings.

use std::collections::HashMap;

use jiff::civil::Date;

use super::percentiles::Percentiles;
use crate::engine::episode::notify_history::NotifyHistory;
use crate::rules::policy::Policy;

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

/// A device on which a rule fires all day.
#[derive(Debug, Clone, PartialEq)]
pub struct NoisyDevice {
    /// The device.
    pub device_sn: String,
    /// Share of the period in which an episode was open, 0 to 1.
    pub open_share: f64,
    /// Most episodes of one day.
    pub episodes_a_day: u64,
}

impl NoisyDevice {
    fn is_too_loud(&self) -> bool {
        self.loudness() > 1.0
    }

    /// Returns the greater ratio to the two limits. Above 1 a limit is exceeded.
    fn loudness(&self) -> f64 {
        let of_a_day = self.episodes_a_day as f64 / EPISODES_A_DAY_MAX as f64;
        of_a_day.max(self.open_share / OPEN_SHARE_MAX)
    }
}

/// The figures of a rule and a tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleStats {
    /// The rule.
    pub rule_id: i64,
    /// The tenant.
    pub customer_id: i64,
    /// The platform's word for the kind of alert.
    pub alert_type: String,
    /// Episodes that opened in the period.
    pub episodes: u64,
    /// Of these, episodes that someone was notified of.
    pub told: u64,
    /// Of these, episodes that ended.
    pub ended: u64,
    /// Open episodes, including those that opened before the period.
    pub open: u64,
    /// Durations of the episodes that ended.
    pub lasted: Percentiles,
    /// Times from the opening to the first delivery.
    pub since_event: Percentiles,
    /// Times from the recording of the first notification to the first delivery.
    pub since_recorded: Percentiles,
    /// Number of times that a device began to flap. `None` if the rule's limits are no longer
    /// known.
    pub flaps: Option<u64>,
    /// Devices on which the rule fires all day.
    pub loud_devices: u64,
    /// The noisiest of them.
    pub loudest: Option<NoisyDevice>,
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
    policies: &'a HashMap<i64, Policy>,
    tallies: Vec<RuleStats>,
    device: DeviceStats,
}

impl<'a> Aggregation<'a> {
    /// An aggregation over `from_ms..to_ms`. The rules' policies define flapping.
    pub fn new(from_ms: i64, to_ms: i64, policies: &'a HashMap<i64, Policy>) -> Self {
        Self { from_ms, to_ms, policies, tallies: Vec::new(), device: DeviceStats::default() }
    }

    /// Adds one episode, which may have opened before the period.
    pub fn take(&mut self, history: &EpisodeHistory) {
        self.turn_to(history);
        let opened_in_span = (self.from_ms..self.to_ms).contains(&history.opened_at);
        let open_ms = self.open_ms(history);
        let device = &mut self.device;
        let Some(tally) = self.tallies.last_mut() else { return };
        device.open_ms += open_ms;
        tally.open += u64::from(history.is_open);
        if !opened_in_span {
            return;
        }
        tally.count(history);
        device.count(history.opened_on);
        if let (Some(policy), Some(flaps)) = (self.policies.get(&history.rule_id), &mut tally.flaps)
        {
            let flapped = device.past.is_flapping();
            device.past.opens(policy, history.opened_at);
            *flaps += u64::from(device.past.is_flapping() && !flapped);
        }
    }

    /// Returns the figures of each rule and tenant.
    pub fn finish(mut self) -> Vec<RuleStats> {
        self.close_device();
        self.tallies
    }

    fn turn_to(&mut self, history: &EpisodeHistory) {
        let of_last = |last: &RuleStats| {
            (last.rule_id, last.customer_id) == (history.rule_id, history.customer_id)
        };
        let same_rule = self.tallies.last().is_some_and(of_last);
        if same_rule && self.device.device_sn == history.device_sn {
            return;
        }
        self.close_device();
        self.device =
            DeviceStats { device_sn: history.device_sn.clone(), ..DeviceStats::default() };
        if !same_rule {
            let flaps = self.policies.contains_key(&history.rule_id).then_some(0);
            self.tallies.push(RuleStats::new(history, flaps));
        }
    }

    fn close_device(&mut self) {
        let Some(tally) = self.tallies.last_mut() else { return };
        let device = std::mem::take(&mut self.device);
        let loud = NoisyDevice {
            device_sn: device.device_sn,
            open_share: device.open_ms as f64 / (self.to_ms - self.from_ms).max(1) as f64,
            episodes_a_day: device.episodes_a_day,
        };
        if !loud.is_too_loud() {
            return;
        }
        tally.loud_devices += 1;
        if tally.loudest.as_ref().is_none_or(|other| other.loudness() < loud.loudness()) {
            tally.loudest = Some(loud);
        }
    }

    /// Returns how long the episode was open within the period.
    fn open_ms(&self, history: &EpisodeHistory) -> i64 {
        let until = history.over_at.or(history.is_open.then_some(self.to_ms));
        let until = until.map_or(self.from_ms, |until| until.min(self.to_ms));
        (until - history.opened_at.max(self.from_ms)).max(0)
    }
}

impl RuleStats {
    fn new(history: &EpisodeHistory, flaps: Option<u64>) -> Self {
        Self {
            rule_id: history.rule_id,
            customer_id: history.customer_id,
            alert_type: history.alert_type.clone(),
            episodes: 0,
            told: 0,
            ended: 0,
            open: 0,
            lasted: Percentiles::default(),
            since_event: Percentiles::default(),
            since_recorded: Percentiles::default(),
            flaps,
            loud_devices: 0,
            loudest: None,
        }
    }

    fn count(&mut self, history: &EpisodeHistory) {
        self.episodes += 1;
        self.told += u64::from(history.is_notified);
        self.ended += u64::from(!history.is_open);
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
