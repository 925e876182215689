//! A valid rule: its trigger, the hours in which it may open an episode, and its channels.
//!
//! Pure. The evaluation of a reading belongs to [`crate::engine::episode::evaluate`], the
//! validation of a rule to [`crate::rules::validation`].

use std::mem::{Discriminant, discriminant};

use jiff::civil::{DateTime, Time};

use crate::rules::channel::Channels;
use crate::rules::condition::Composite;
use crate::rules::policy::Policy;
use crate::rules::template::Template;
use crate::rules::verdict::{Bounds, Measurement, Range};
use crate::rules::vital::{Vital, VitalSet};

/// The hours and days in which a rule may open an episode, by the reading's own wall clock.
#[derive(Debug, Clone, PartialEq)]
pub struct ActiveHours {
    /// Inclusive; `None`: from midnight.
    pub start: Option<Time>,
    /// Exclusive; `None`: until midnight.
    pub end: Option<Time>,
    /// Bit n stands for ISO day n, 1 (Monday) to 7.
    pub days: u8,
}

/// Every ISO day.
pub const ALL_DAYS: u8 = 0b1111_1110;

impl ActiveHours {
    /// Whether the rule may open an episode at this wall clock.
    pub fn holds(&self, wall: DateTime) -> bool {
        let day = wall.weekday().to_monday_one_offset();
        let time = wall.time();
        let started = self.start.is_none_or(|start| start <= time);
        let not_ended = self.end.is_none_or(|end| time < end);
        let in_hours = match (self.start, self.end) {
            // The window spans midnight, or the whole day if both ends are equal.
            (Some(start), Some(end)) if start >= end => started || not_ended,
            _ => started && not_ended,
        };
        in_hours && self.days & (1 << day) != 0
    }
}

/// The trigger of a rule.
#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    /// The range of one vital: category SINGLE.
    Range(Range),
    /// Several conditions: category COMPOSITE.
    Conditions(Composite),
    /// The longest time without data from the device, in milliseconds: category `NO_DATA`.
    NoData(i64),
}

/// A place among a tenant's rules: the kind of the trigger, the vital of a range, and the rule
/// type. The tenant's own rule overrides the template rules of its slot.
pub type Slot<'a> = (Discriminant<Trigger>, Option<Vital>, &'a str);

/// The tenant whose rules are the template of all other tenants.
pub const TEMPLATE_TENANT: i64 = 0;

/// A valid rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Number of the rule's row.
    pub id: i64,
    /// Version, which rises, or at least changes, with each edit.
    pub version: i64,
    /// Tenant; 0 is the template of all tenants.
    pub customer_id: i64,
    /// The platform's word for the kind of alert.
    pub rule_type: String,
    /// The trigger.
    pub trigger: Trigger,
    /// Whether the rule is enabled. A disabled rule is never evaluated, but overrides the
    /// template's.
    pub enabled: bool,
    /// Priority, 1 (first) to 5.
    pub priority: u8,
    /// The hours and days in which the rule may open an episode.
    pub effective: ActiveHours,
    /// The policy, which decides what follows from a series of verdicts.
    pub policy: Policy,
    /// Time without data from the device after which an open episode closes, in milliseconds.
    pub stale_after_ms: Option<i64>,
    /// The channels of the notifications.
    pub channels: Channels,
    /// The text of the notifications.
    pub message: Template,
    /// Time at which this version became active, in milliseconds. Time without data counts from
    /// here.
    pub from_ms: i64,
}

impl Rule {
    /// Returns the vitals that the rule watches.
    pub fn watched_vitals(&self) -> VitalSet {
        match &self.trigger {
            Trigger::Range(range) => VitalSet::from_iter([range.vital]),
            Trigger::Conditions(composite) => composite.watched_vitals().collect(),
            Trigger::NoData(_) => VitalSet::default(),
        }
    }

    /// Returns the time without data after which a `NO_DATA` rule opens an episode, or another rule
    /// closes its episode, in milliseconds.
    pub fn absence_window(&self) -> Option<i64> {
        self.no_data_window().or(self.stale_after_ms)
    }

    /// Returns the window of a `NO_DATA` rule, in milliseconds. Other rules have none.
    pub fn no_data_window(&self) -> Option<i64> {
        match self.trigger {
            Trigger::NoData(window_ms) => Some(window_ms),
            Trigger::Range(_) | Trigger::Conditions(_) => None,
        }
    }

    /// Whether this is a `NO_DATA` rule.
    pub fn is_no_data(&self) -> bool {
        self.no_data_window().is_some()
    }

    /// Returns the range. Other triggers have none.
    pub fn range(&self) -> Option<&Range> {
        match &self.trigger {
            Trigger::Range(range) => Some(range),
            Trigger::Conditions(_) | Trigger::NoData(_) => None,
        }
    }

    /// Returns the thresholds of a range. Other triggers have none here.
    pub fn thresholds(&self) -> Bounds {
        self.range().map(|range| range.thresholds).unwrap_or_default()
    }

    /// Returns the vital to name to people: the vital of a range, or the vital that decided among
    /// conditions.
    pub fn named_vital(&self, measured: Measurement) -> Vital {
        match &self.trigger {
            Trigger::Range(range) => range.vital,
            Trigger::Conditions(_) => measured.vital,
            Trigger::NoData(_) => Vital::NoData,
        }
    }

    /// Returns the platform's word for the alerts of this rule.
    pub fn alert_type(&self) -> &str {
        match &self.trigger {
            _ if !self.rule_type.is_empty() => &self.rule_type,
            Trigger::Range(range) => range.vital.as_str(),
            Trigger::Conditions(_) => "composite",
            Trigger::NoData(_) => Vital::NoData.as_str(),
        }
    }

    /// Returns the slot. A tenant's own rule overrides the template rules of the same slot.
    pub fn slot(&self) -> Slot<'_> {
        let vital = self.range().map(|range| range.vital);
        (discriminant(&self.trigger), vital, self.rule_type.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(start: Option<&str>, end: Option<&str>, days: u8, wall: &str, holds: bool) {
        let time = |text: &str| text.parse().unwrap();
        let effective = ActiveHours { start: start.map(time), end: end.map(time), days };
        assert_eq!(effective.holds(wall.parse().unwrap()), holds, "{start:?}-{end:?} at {wall}");
    }

    #[test]
    fn the_start_counts_and_the_end_does_not() {
        let (start, end) = (Some("08:00:00"), Some("20:00:00"));
        check(start, end, ALL_DAYS, "2025-09-02T08:00:00", true);
        check(start, end, ALL_DAYS, "2025-09-02T19:59:59", true);
        check(start, end, ALL_DAYS, "2025-09-02T20:00:00", false);
        check(start, end, ALL_DAYS, "2025-09-02T07:59:59", false);
        check(None, end, ALL_DAYS, "2025-09-02T00:00:00", true);
        check(start, None, ALL_DAYS, "2025-09-02T23:59:59", true);
    }

    #[test]
    fn windows_over_midnight_and_whole_days_work() {
        let (start, end) = (Some("22:00:00"), Some("06:00:00"));
        for (wall, holds) in
            [("23:00:00", true), ("05:59:59", true), ("06:00:00", false), ("12:00:00", false)]
        {
            check(start, end, ALL_DAYS, &format!("2025-09-02T{wall}"), holds);
        }
        check(Some("00:00:00"), Some("00:00:00"), ALL_DAYS, "2025-09-02T12:00:00", true);
        check(None, None, 1 << 2, "2025-09-02T12:00:00", true);
        check(None, None, 1 << 3, "2025-09-02T12:00:00", false);
    }
}
