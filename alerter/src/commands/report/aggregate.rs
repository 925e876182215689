//! From episodes one by one to what is said of each rule and tenant.
//!
//! Pure: episodes come device by device, those of a device in the order of their openings.

use std::collections::HashMap;

use jiff::civil::Date;

use super::percentiles::Sample;
use crate::engine::episode::notify_history::Past;
use crate::rules::policy::Policy;

/// Longer than this share of the span a device of a healthy rule has no open episode.
const OPEN_SHARE_MAX: f64 = 0.8;

/// More episodes than this a healthy rule has of no device on any day.
const EPISODES_A_DAY_MAX: u64 = 50;

/// What the tables say about an episode; times in milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
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
    /// The same on the devices' wall clock.
    pub opened_on: Date,
    /// Event time of the end; `None` also where it is over and nothing says since when.
    pub over_at: Option<i64>,
    /// Whether it goes on.
    pub is_open: bool,
    /// Whether somebody received a notification of it.
    pub is_told: bool,
    /// When its first notification was recorded.
    pub recorded_at: Option<i64>,
    /// When the first one was received.
    pub delivered_at: Option<i64>,
}

/// A device on which a rule fires all day.
#[derive(Debug, Clone, PartialEq)]
pub struct Loud {
    /// The device.
    pub device_sn: String,
    /// Share of the span during which an episode was open, 0 to 1.
    pub open_share: f64,
    /// Most episodes of one day.
    pub episodes_a_day: u64,
}

impl Loud {
    fn is_too_loud(&self) -> bool {
        self.loudness() > 1.0
    }

    /// Beyond 1 it is too much of either.
    fn loudness(&self) -> f64 {
        let of_a_day = self.episodes_a_day as f64 / EPISODES_A_DAY_MAX as f64;
        of_a_day.max(self.open_share / OPEN_SHARE_MAX)
    }
}

/// What is said of a rule and a tenant.
#[derive(Debug, Clone, PartialEq)]
pub struct Tally {
    /// The rule.
    pub rule_id: i64,
    /// The tenant.
    pub customer_id: i64,
    /// The platform's word for the kind of alert.
    pub alert_type: String,
    /// Episodes that opened in the span.
    pub episodes: u64,
    /// Of these, those that somebody was told of.
    pub told: u64,
    /// Of these, those that ended.
    pub ended: u64,
    /// Episodes that go on, those that opened earlier included.
    pub open: u64,
    /// How long those that ended lasted.
    pub lasted: Sample,
    /// Time from the opening to the first delivery.
    pub since_event: Sample,
    /// Time from the recording of the first notification to the first delivery.
    pub since_recorded: Sample,
    /// How often a device began to flap; `None` where the rule's limits are not known any more.
    pub flaps: Option<u64>,
    /// Devices on which it fires all day.
    pub loud_devices: u64,
    /// The loudest of them.
    pub loudest: Option<Loud>,
}

/// One device's part.
#[derive(Debug, Default)]
struct Device {
    device_sn: String,
    open_ms: i64,
    day: Option<Date>,
    of_day: u64,
    episodes_a_day: u64,
    past: Past,
}

/// The fold over all episodes of a span.
#[derive(Debug)]
pub struct Fold<'a> {
    from_ms: i64,
    to_ms: i64,
    policies: &'a HashMap<i64, Policy>,
    tallies: Vec<Tally>,
    device: Device,
}

impl<'a> Fold<'a> {
    /// A fold over `from_ms..to_ms`; the rules' policies say what flapping is.
    pub fn new(from_ms: i64, to_ms: i64, policies: &'a HashMap<i64, Policy>) -> Self {
        Self { from_ms, to_ms, policies, tallies: Vec::new(), device: Device::default() }
    }

    /// Takes one episode in, which may have opened before the span.
    pub fn take(&mut self, history: &History) {
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

    /// What is said of each rule and tenant.
    pub fn finish(mut self) -> Vec<Tally> {
        self.close_device();
        self.tallies
    }

    fn turn_to(&mut self, history: &History) {
        let of_last = |last: &Tally| {
            (last.rule_id, last.customer_id) == (history.rule_id, history.customer_id)
        };
        let same_rule = self.tallies.last().is_some_and(of_last);
        if same_rule && self.device.device_sn == history.device_sn {
            return;
        }
        self.close_device();
        self.device = Device { device_sn: history.device_sn.clone(), ..Device::default() };
        if !same_rule {
            let flaps = self.policies.contains_key(&history.rule_id).then_some(0);
            self.tallies.push(Tally::new(history, flaps));
        }
    }

    fn close_device(&mut self) {
        let Some(tally) = self.tallies.last_mut() else { return };
        let device = std::mem::take(&mut self.device);
        let loud = Loud {
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

    /// How long the episode was open within the span.
    fn open_ms(&self, history: &History) -> i64 {
        let until = history.over_at.or(history.is_open.then_some(self.to_ms));
        let until = until.map_or(self.from_ms, |until| until.min(self.to_ms));
        (until - history.opened_at.max(self.from_ms)).max(0)
    }
}

impl Tally {
    fn new(history: &History, flaps: Option<u64>) -> Self {
        Self {
            rule_id: history.rule_id,
            customer_id: history.customer_id,
            alert_type: history.alert_type.clone(),
            episodes: 0,
            told: 0,
            ended: 0,
            open: 0,
            lasted: Sample::default(),
            since_event: Sample::default(),
            since_recorded: Sample::default(),
            flaps,
            loud_devices: 0,
            loudest: None,
        }
    }

    fn count(&mut self, history: &History) {
        self.episodes += 1;
        self.told += u64::from(history.is_told);
        self.ended += u64::from(!history.is_open);
        if let Some(over_at) = history.over_at {
            self.lasted.add(over_at - history.opened_at);
        }
        if let Some(delivered_at) = history.delivered_at {
            // A watch's clock may be ahead of ours.
            self.since_event.add((delivered_at - history.opened_at).max(0));
            if let Some(recorded_at) = history.recorded_at {
                self.since_recorded.add((delivered_at - recorded_at).max(0));
            }
        }
    }
}

impl Device {
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
