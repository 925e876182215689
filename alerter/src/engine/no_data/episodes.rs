//! Applies missing data to single episodes: rules of category `NO_DATA` open, episodes of other
//! rules close as stale.
//!
//! Pure. [`super::partition_clock`] and [`super::deadlines`] decide when data is missing.

use std::sync::Arc;

use ljwx_reading::Ids;

use crate::engine::device::{Device, tenant};
use crate::engine::episode::Episode;
use crate::engine::outcome::Change;
use crate::engine::owed::index::TouchedStates;
use crate::engine::step::RuleStep;
use crate::rules::index::RuleSet;
use crate::rules::{Measurement, Rule, Trigger, Verdict, Vital};

/// Time between checks of a silent device for which no episode may open at this time, or whose
/// episode is suppressed: one minute, in milliseconds.
const RECHECK_MS: i64 = 60_000;

/// Returns the `NO_DATA` rules whose episode on the device is open.
pub fn open_absences(device: &Device, rules: &RuleSet) -> Vec<Arc<Rule>> {
    let open = device.tracked.iter().filter(|(_, tracked)| tracked.episode.open().is_some());
    open.filter_map(|(id, tracked)| rules.in_force(tenant(tracked.ids), *id))
        .filter(|rule| rule.is_no_data())
        .cloned()
        .collect()
}

/// Evaluates a device that is silent for longer than the rule allows: a `NO_DATA` rule may open an
/// episode, and an open episode of another rule closes. The error names the people to look up first.
pub fn fell_silent(
    step: &RuleStep<'_>,
    device: &mut Device,
    touched: &mut TouchedStates,
) -> Result<Option<Change>, Ids> {
    let RuleStep { rule, at, .. } = *step;
    let open = device.open(rule.id).map(|tracked| tracked.episode.clone());
    match (&rule.trigger, open) {
        (Trigger::NoData(window_ms), open) => {
            let may_open = rule.effective.holds(at.wall);
            if !may_open && open.is_none() {
                return Ok(None);
            }
            let verdict = silence(device, *window_ms, at.ms, may_open);
            advance(step, device, touched, verdict)
        }
        (_, None) => Ok(None),
        (_, Some(open)) => {
            let verdict = Verdict::Between(silent_for(device.seen_at(rule), at.ms));
            // The rule starts over with the device's next reading.
            step.make(device, touched, (open, None), verdict, |open, _| open.close_stale())
        }
    }
}

/// Advances a `NO_DATA` rule by one verdict.
pub fn advance(
    step: &RuleStep<'_>,
    device: &mut Device,
    touched: &mut TouchedStates,
    verdict: Verdict,
) -> Result<Option<Change>, Ids> {
    let tracked = device.tracked.get(&step.rule.id);
    let episode = tracked.map(|tracked| tracked.episode.clone()).unwrap_or_default();
    step.make(device, touched, (episode, None), verdict, Episode::step)
}

/// Returns the verdict on a device that is silent at `at`.
pub fn silence(device: &Device, window_ms: i64, at: i64, may_open: bool) -> Verdict {
    let bound = window_ms as f64 / 1000.0;
    Verdict::Breach { measured: silent_for(device.last_seen.at, at), bound, may_open }
}

fn silent_for(seen_at: i64, at: i64) -> Measurement {
    Measurement { vital: Vital::NoData, value: (at - seen_at) as f64 / 1000.0 }
}

/// Returns when a silent device must be checked again.
pub fn next_look(device: &Device, rule: &Rule, now: i64) -> i64 {
    let Some(tracked) = device.open(rule.id) else { return now + RECHECK_MS };
    // Open, and no notification is due: no check before the device is seen again.
    let next = tracked.episode.next_due(&rule.policy).unwrap_or(i64::MAX);
    if next <= now { now + RECHECK_MS } else { next }
}
