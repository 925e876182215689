//! Reads the policy of a rule: runs, cooldown, severity, escalation, flapping.
//!
//! Pure. [`crate::engine::episode`] applies the policy.

use serde_json::Value;

use super::fields::{RuleFields, SECONDS_MAX};
use crate::rules::{Escalation, FlapLimits, Policy, Severity};

/// Longest run that a rule may require: each run in progress holds as many times.
const TREND_MAX: i64 = 1_000;

/// Default number of openings that is flapping.
const FLAP_OPENINGS: i64 = 4;

/// Default time within which these openings lie, in seconds.
const FLAP_WINDOW_SECONDS: i64 = 600;

/// Reads the policy. `absence`: a `NO_DATA` rule counts one verdict, so the platform's values for
/// the runs are ignored.
pub(super) fn policy(form: &mut RuleFields<'_>, absence: bool) -> Policy {
    let counted = |form: &mut RuleFields<'_>, field| {
        if absence { 1 } else { form.whole(field, 1, 1, TREND_MAX) }
    };
    let trend = counted(form, "trend_duration");
    let window_ms = form.window_ms();
    if (trend - 1) * 1000 > window_ms {
        let problem = format!("{trend} readings cannot lie within {} s", window_ms / 1000);
        form.add_error("trend_duration", problem);
    }
    Policy {
        // Runs and openings are at most TREND_MAX, so they fit.
        trend: trend as usize,
        window_ms,
        repeat_ms: form.optional_milliseconds("repeat_interval_seconds"),
        clear_after: counted(form, "clear_after") as u32,
        cooldown_ms: form.milliseconds("cooldown_seconds", 600, 0),
        flap: FlapLimits {
            openings: form.whole("flap_openings", FLAP_OPENINGS, 2, TREND_MAX) as usize,
            window_ms: form.milliseconds("flap_window_seconds", FLAP_WINDOW_SECONDS, 1),
        },
        severity: severity(form),
        escalation: escalation(form),
    }
}

/// Reads the severity. If both fields are set, the higher severity counts: the platform's default
/// for either column is minor. A word that is no severity is passed over beside one that is.
fn severity(form: &mut RuleFields<'_>) -> Severity {
    let words = ["severity_level", "level"].map(|field| (field, form.text(field)));
    let known = words.iter().filter_map(|(_, word)| Severity::from_word(word.as_deref()?)).max();
    for (field, word) in words {
        let Some(word) = word.filter(|word| Severity::from_word(word).is_none()) else { continue };
        let problem = format!("{word} is no severity: info, minor, moderate, major, critical");
        match known {
            Some(_) => form.doubts.push(format!("{field}: {problem}; the other field counts")),
            None => form.add_error(field, problem),
        }
    }
    known.unwrap_or(Severity::Minor)
}

fn escalation(form: &mut RuleFields<'_>) -> Vec<Escalation> {
    let Some(document) = form.document("escalation") else { return Vec::new() };
    let step = |step: &Value| -> Option<Escalation> {
        let after = step.get("after_seconds")?.as_i64()?;
        let to = Severity::from_word(step.get("to")?.as_str()?)?;
        (1..=SECONDS_MAX).contains(&after).then_some(Escalation { after_ms: after * 1000, to })
    };
    let steps: Option<Vec<_>> =
        document.as_array().and_then(|steps| steps.iter().map(step).collect());
    steps.filter(|steps| steps.is_sorted_by(|a, b| a.after_ms < b.after_ms)).unwrap_or_else(|| {
        let problem = "must be a list of {after_seconds, to} in rising order of time";
        form.add_error("escalation", problem);
        Vec::new()
    })
}
