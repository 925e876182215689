//! A valid rule: what it watches, when it may open an episode, and where its notifications go.
//!
//! Pure. What a rule sees in a reading belongs to [`crate::engine::episode::evaluate`]; what makes a
//! rule valid belongs to [`crate::rules::validation`].

use jiff::civil::{DateTime, Time};

use crate::rules::channel::Channels;
use crate::rules::condition::Composite;
use crate::rules::policy::Policy;
use crate::rules::template::Template;
use crate::rules::verdict::{Bounds, Measured, Range};
use crate::rules::vital::{Sign, Signs};

/// When a rule may open an episode, by the reading's own wall clock.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    /// Inclusive; `None`: from midnight.
    pub start: Option<Time>,
    /// Exclusive; `None`: until midnight.
    pub end: Option<Time>,
    /// Bit n stands for ISO day n, 1 (Monday) to 7.
    pub days: u8,
}

/// Every ISO day.
pub const ALL_DAYS: u8 = 0b1111_1110;

impl Effective {
    /// Whether it may at this wall clock.
    pub fn holds(&self, wall: DateTime) -> bool {
        let day = wall.weekday().to_monday_one_offset();
        let time = wall.time();
        let started = self.start.is_none_or(|start| start <= time);
        let not_ended = self.end.is_none_or(|end| time < end);
        let in_hours = match (self.start, self.end) {
            // The window lies over midnight, or is the whole day where both ends are the same.
            (Some(start), Some(end)) if start >= end => started || not_ended,
            _ => started && not_ended,
        };
        in_hours && self.days & (1 << day) != 0
    }
}

/// What a rule watches.
#[derive(Debug, Clone, PartialEq)]
pub enum Watch {
    /// One sign: category SINGLE.
    Range(Range),
    /// Several conditions: category COMPOSITE.
    Conditions(Composite),
    /// That the device is heard at least this often, in milliseconds: category `NO_DATA`.
    Absence(i64),
}

/// A place among a tenant's rules: of those in one slot, its own keep the template's out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Slot<'a> {
    /// Ranges of a sign, and the rule type.
    Range(Sign, &'a str),
    /// Conditions, and the rule type.
    Conditions(&'a str),
    /// Absence, and the rule type.
    Absence(&'a str),
}

/// The tenant whose rules are the template of all others.
pub const TEMPLATE_TENANT: i64 = 0;

/// A rule on absence: how long an absence it allows, and since when it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbsenceRule {
    /// Longest absence, in milliseconds.
    pub window_ms: i64,
    /// When this version of the rule came into force.
    pub from_ms: i64,
}

/// A valid rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Number of its row.
    pub id: i64,
    /// Rises, or at least changes, with each edit.
    pub version: i64,
    /// Tenant; 0 is the template of all tenants.
    pub customer_id: i64,
    /// The platform's word for what kind of alert this is.
    pub rule_type: String,
    /// What it watches.
    pub watch: Watch,
    /// A disabled rule is never judged, but overrides the template's.
    pub enabled: bool,
    /// 1 (first) to 5.
    pub priority: u8,
    /// When it may open an episode.
    pub effective: Effective,
    /// What follows from a series of verdicts.
    pub policy: Policy,
    /// An open episode closes once its device has been silent for this long, in milliseconds.
    pub stale_after_ms: Option<i64>,
    /// Where notifications go.
    pub channels: Channels,
    /// What they say.
    pub message: Template,
    /// When this version came into force, in milliseconds: absence counts from then.
    pub from_ms: i64,
}

impl Rule {
    /// The signs whose news are news to this rule.
    pub fn signs(&self) -> Signs {
        match &self.watch {
            Watch::Range(range) => Signs::from_iter([range.sign]),
            Watch::Conditions(composite) => composite.signs().collect(),
            Watch::Absence(_) => Signs::default(),
        }
    }

    /// What the rule makes of absence, if anything: it tells of it, or closes its episodes then.
    pub fn absence(&self) -> Option<AbsenceRule> {
        let window_ms = match &self.watch {
            Watch::Absence(window_ms) => *window_ms,
            Watch::Range(_) | Watch::Conditions(_) => self.stale_after_ms?,
        };
        Some(AbsenceRule { window_ms, from_ms: self.from_ms })
    }

    /// The thresholds of a range; none where conditions have their own.
    pub fn thresholds(&self) -> Bounds {
        match &self.watch {
            Watch::Range(range) => range.thresholds,
            Watch::Conditions(_) | Watch::Absence(_) => Bounds::default(),
        }
    }

    /// The sign to name to people: the one watched, or of several the one that decided.
    pub fn named_sign(&self, measured: Measured) -> Sign {
        match &self.watch {
            Watch::Range(range) => range.sign,
            Watch::Conditions(_) => measured.sign,
            Watch::Absence(_) => Sign::Absence,
        }
    }

    /// The platform's word for the alerts of this rule.
    pub fn alert_type(&self) -> &str {
        match &self.watch {
            _ if !self.rule_type.is_empty() => &self.rule_type,
            Watch::Range(range) => range.sign.as_str(),
            Watch::Conditions(_) => "composite",
            Watch::Absence(_) => Sign::Absence.as_str(),
        }
    }

    /// What an own rule of a tenant has in common with the template rules whose place it takes.
    pub fn slot(&self) -> Slot<'_> {
        match &self.watch {
            Watch::Range(range) => Slot::Range(range.sign, &self.rule_type),
            Watch::Conditions(_) => Slot::Conditions(&self.rule_type),
            Watch::Absence(_) => Slot::Absence(&self.rule_type),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(start: Option<&str>, end: Option<&str>, days: u8, wall: &str, holds: bool) {
        let time = |text: &str| text.parse().unwrap();
        let effective = Effective { start: start.map(time), end: end.map(time), days };
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
