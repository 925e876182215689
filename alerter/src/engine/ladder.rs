//! Ladders: the rules of one vital and one side are rungs. On each device the highest open rung that
//! people know of inhibits the lower ones.
//!
//! Pure. A rung is the higher, the more severe it is at present, then the more extreme its threshold,
//! then the lower its number. Nothing is configured: 160, 140 and 120 are a ladder.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::engine::device::{Device, tenant};
use crate::engine::episode::{Episode, OpenEpisode, TransitionKind};
use crate::engine::outcome::Change;
use crate::rules::index::{RuleSet, TenantRules};
use crate::rules::{Bounds, Range, Rule, Severity, Trigger, Verdict};

/// The side of a threshold on which values breach a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Over,
    Under,
}

const SIDES: [Side; 2] = [Side::Over, Side::Under];

impl Side {
    /// Returns the side of the threshold that `value` is nearest to.
    fn nearest(bounds: &Bounds, value: f64) -> Self {
        match *bounds {
            Bounds { min: Some(min), max: Some(max) } if value * 2.0 > min + max => Self::Over,
            Bounds { min: None, .. } => Self::Over,
            Bounds { .. } => Self::Under,
        }
    }

    /// Returns how extreme the threshold of this side is, if there is one.
    fn extremeness(self, bounds: &Bounds) -> Option<f64> {
        match self {
            Self::Over => bounds.max,
            Self::Under => bounds.min.map(|min| -min),
        }
    }
}

/// Whether an open rung above `rule`, which has `severity` now, inhibits its notifications at this
/// event time.
///
/// A rung that is owed, or was itself inhibited until now, inhibits nothing: nobody knows of it.
/// Neither does one that reaches people by fewer channels.
pub fn is_inhibited(
    (device, rules, at): (&Device, TenantRules<'_>, i64),
    (rule, severity): (&Rule, Severity),
    verdict: &Verdict,
) -> bool {
    let Trigger::Range(range) = &rule.trigger else { return false };
    let (value, side) = match *verdict {
        Verdict::Absent => return false,
        Verdict::Breach { measured, bound, .. } if measured.value > bound => {
            (measured.value, Side::Over)
        }
        Verdict::Breach { measured, .. } => (measured.value, Side::Under),
        Verdict::Between(measured) | Verdict::Clear(measured) => {
            (measured.value, Side::nearest(&range.thresholds, measured.value))
        }
    };
    let Some(own) = side.extremeness(&range.thresholds) else { return false };
    open_rungs(device, (rule, severity), range, rules).any(|(other, episode, open)| {
        let bounds = other.thresholds();
        let bound = side.extremeness(&bounds).filter(|_| Side::nearest(&bounds, value) == side);
        let is_above = bound.is_some_and(|bound| {
            let order = open.severity.cmp(&severity).then(bound.total_cmp(&own));
            order.then(rule.id.cmp(&other.id)) == Ordering::Greater
        });
        is_above
            && episode.is_known_or_muted(&other.policy, at)
            && other.channels.reach_all_of(rule.channels)
    })
}

/// Returns the other rules of the tenant and vital whose episode on the device is open, and at least
/// this severe.
fn open_rungs<'a>(
    device: &'a Device,
    (rule, severity): (&'a Rule, Severity),
    range: &'a Range,
    rules: TenantRules<'a>,
) -> impl Iterator<Item = (&'a Arc<Rule>, &'a Episode, &'a OpenEpisode)> {
    let others = rules.watching(range.vital).filter(|other| other.id != rule.id);
    others.filter_map(move |other| {
        let Trigger::Range(_) = &other.trigger else { return None };
        let episode = &device.tracked.get(&other.id)?.episode;
        let open = episode.open().filter(|open| open.severity >= severity)?;
        Some((other, episode, open))
    })
}

/// Marks the ends among `changes` after which a lower rung is still open: they are steps down, and
/// say the severity of what goes on. Returns the lower rungs of which nobody was notified yet, from the
/// top: the highest one inhibits those below it.
pub fn step_down(changes: &mut [Change], device: &Device, rules: &RuleSet) -> Vec<Arc<Rule>> {
    let mut unnotified: Vec<(Severity, f64, Arc<Rule>)> = Vec::new();
    for change in changes {
        let is_end = change.transition.to == TransitionKind::Resolved && change.transition.notify;
        let Some(rule) = change.rule.clone().filter(|_| is_end) else { continue };
        let Trigger::Range(range) = &rule.trigger else { continue };
        let rules = rules.of(tenant(change.ids));
        for (other, _, open) in open_rungs(device, (&rule, Severity::Info), range, rules) {
            let (own, others) = (rule.thresholds(), other.thresholds());
            let bound_below = |side: &Side| {
                let (bound, own) = side.extremeness(&others).zip(side.extremeness(&own))?;
                let order = open.severity.cmp(&change.transition.severity);
                let order = order.then(bound.total_cmp(&own)).then(rule.id.cmp(&other.id));
                (order == Ordering::Less).then_some(bound)
            };
            let Some(bound) = SIDES.iter().find_map(bound_below) else { continue };
            let goes_on = &mut change.transition.goes_on;
            *goes_on = Some(goes_on.map_or(open.severity, |before| before.max(open.severity)));
            if !open.notified && rule.channels.reach_all_of(other.channels) {
                unnotified.push((open.severity, bound, Arc::clone(other)));
            }
        }
    }
    unnotified.sort_by(|(severity, bound, rule), (others, other_bound, other)| {
        let order = others.cmp(severity).then(other_bound.total_cmp(bound));
        order.then(rule.id.cmp(&other.id))
    });
    unnotified.into_iter().map(|(.., rule)| rule).collect()
}

#[cfg(test)]
mod tests {
    use ljwx_reading::Reading;
    use serde_json::json;

    use super::*;
    use crate::engine::routing::Routed;
    use crate::engine::{Engine, StoredPartition};
    use crate::test_support::{heart_rate, rule};

    /// Evaluates a heart rate, and returns the transitions: rule, transition, `!` if it is notified,
    /// whether it is inhibited, and the severity of what goes on.
    fn evaluated(engine: &mut Engine, reading: &Reading) -> Vec<String> {
        let said = |Change { rule_id, transition, .. }: &Change| {
            let notified = if transition.notify { "!" } else { "" };
            let inhibited = if transition.inhibited { " inhibited" } else { "" };
            let goes_on = transition.goes_on.map(|severity| format!(" to {}", severity.as_str()));
            let to = transition.to.as_str();
            format!("{rule_id} {to}{notified}{inhibited}{}", goes_on.unwrap_or_default())
        };
        engine.evaluate(0, reading, &Routed::Somebody).changes.iter().map(said).collect()
    }

    #[test]
    fn a_lower_rule_is_notified_once_the_higher_one_has_ended() {
        let mut engine = Engine::default();
        let rules = [
            rule(json!({"id": 1, "threshold_max": 120, "severity_level": "minor"})),
            rule(json!({"id": 2, "threshold_max": 140, "severity_level": "critical"})),
        ];
        engine.set_rules(Arc::new(RuleSet::new(rules)));
        engine.load(0, StoredPartition::default());
        engine.realign(0);
        for (second, rate, expected) in [
            (0, 150, &["2 opened!", "1 opened inhibited"][..]),
            (60, 151, &[]),
            (120, 130, &["2 resolved! to minor", "1 notified!"]),
            (180, 100, &["1 resolved!"]),
        ] {
            let changes = evaluated(&mut engine, &heart_rate(second, rate));
            assert_eq!(changes, expected, "at {second}");
        }
    }
}
