//! From what somebody wrote to a valid rule, or to everything that is wrong with it.
//!
//! Pure; the same for rows of the platform, entries of a file, and `rules check`.

use jiff::civil::Time;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::form::{FIELDS, Form, Problem};
use crate::episode::{Escalation, Policy};
use crate::message::{DEFAULT_TEMPLATE, Template};
use crate::rule::{ALL_DAYS, Bounds, Channels, Effective, Rule};
use crate::severity::Severity;
use crate::sign::Sign;

/// Longest run a rule may ask for: each open run keeps that many times.
const TREND_MAX: i64 = 1_000;

/// Longest time a rule may speak of, in seconds: 30 days.
const SECONDS_MAX: i64 = 30 * 86_400;

/// What a written rule turns out to be.
#[derive(Debug)]
pub enum Checked {
    /// A rule to judge by.
    Valid(Box<Rule>),
    /// Deleted: as if it were not there.
    Deleted,
    /// For device events, which come by another route: no error.
    Event,
    /// Refused, for all of these reasons.
    Refused(Vec<Problem>),
}

/// A checked rule and what it does without.
#[derive(Debug)]
pub struct Check {
    /// Number of the rule, where it has one.
    pub id: Option<i64>,
    /// What it turns out to be.
    pub checked: Checked,
    /// Ways of notification that are skipped; the rule stays.
    pub skipped_channels: Vec<String>,
}

/// Checks the rule written at `place` (from 1) in its source.
pub fn check(fields: &Map<String, Value>, place: usize) -> Check {
    let mut form = Form::new(fields, place);
    let id = form.whole("id", 0, 1, i64::MAX);
    let known = (id > 0).then_some(id);
    let done = |checked| Check { id: known, checked, skipped_channels: Vec::new() };
    if form.flag("is_deleted", false) {
        return done(Checked::Deleted);
    }
    if form.text("physical_sign").as_deref() == Some("event") {
        return done(Checked::Event);
    }
    if known.is_none() && form.is_clean() {
        form.refuse("id", "is missing: give the rule a number of its own");
    }
    let mut skipped_channels = Vec::new();
    let rule = rule(&mut form, id, fields, &mut skipped_channels);
    let checked = match rule {
        Some(rule) if form.is_clean() => Checked::Valid(Box::new(rule)),
        _ => Checked::Refused(form.into_problems()),
    };
    Check { id: known, checked, skipped_channels }
}

fn rule(
    form: &mut Form<'_>,
    id: i64,
    fields: &Map<String, Value>,
    skipped_channels: &mut Vec<String>,
) -> Option<Rule> {
    category(form);
    let customer_id = form.whole("customer_id", 0, 0, i64::MAX);
    let sign = sign(form);
    let (thresholds, clear) = bounds(form);
    let policy = policy(form);
    let version = if form.value("version").is_some() {
        form.whole("version", 1, 0, i64::MAX)
    } else {
        fingerprint(fields)
    };
    // Everything is looked at before anything is given up, so that all problems are listed.
    let enabled = form.flag("is_enabled", true);
    let priority = form.whole("priority_level", 3, 1, 5);
    let effective = effective(form);
    let channels = channels(form, skipped_channels);
    let message = message(form);
    Some(Rule {
        id,
        version,
        customer_id,
        rule_type: form.text("rule_type").unwrap_or_default(),
        sign: sign?,
        enabled,
        // At most 5, so it fits.
        priority: priority as u8,
        thresholds,
        clear,
        effective,
        policy: policy?,
        channels,
        message: message?,
    })
}

fn category(form: &mut Form<'_>) {
    let category = form.text("rule_category").unwrap_or_else(|| "SINGLE".to_owned());
    match category.to_uppercase().as_str() {
        "SINGLE" => {}
        later @ ("COMPOSITE" | "NO_DATA") => {
            form.refuse("rule_category", format!("{later} is not supported yet by this version"));
        }
        "COMPLEX" => form.refuse("rule_category", "COMPLEX is not supported"),
        other => {
            form.refuse("rule_category", format!("{other} is none of SINGLE, COMPOSITE, NO_DATA"))
        }
    }
    if form.number("deviation_percentage").is_some_and(|percentage| percentage != 0.0) {
        form.refuse("deviation_percentage", "is not supported yet by this version");
    }
}

fn sign(form: &mut Form<'_>) -> Option<Sign> {
    match form.text("physical_sign") {
        Some(word) => {
            let sign = Sign::from_word(&word);
            if sign.is_none() {
                let known = Sign::ALL.map(Sign::as_str).join(", ");
                form.refuse("physical_sign", format!("{word} is none of {known}"));
            }
            sign
        }
        None => {
            // A rule of another category has its signs elsewhere and was refused for that.
            if form.is_clean() {
                form.refuse("physical_sign", "is missing: say what the rule watches");
            }
            None
        }
    }
}

fn bounds(form: &mut Form<'_>) -> (Bounds, Bounds) {
    let thresholds =
        Bounds { min: form.number("threshold_min"), max: form.number("threshold_max") };
    let clear = Bounds {
        min: form.number("clear_min").or(thresholds.min),
        max: form.number("clear_max").or(thresholds.max),
    };
    if thresholds == Bounds::default() && form.is_clean() {
        form.refuse("threshold_min", "is missing, and threshold_max too: set at least one");
    }
    if let (Some(min), Some(max)) = (thresholds.min, thresholds.max)
        && min > max
    {
        form.refuse("threshold_min", format!("{min} lies above threshold_max {max}"));
    }
    if let (Some(threshold), Some(clear)) = (thresholds.min, clear.min)
        && clear < threshold
    {
        form.refuse("clear_min", format!("{clear} lies below threshold_min {threshold}"));
    }
    if let (Some(threshold), Some(clear)) = (thresholds.max, clear.max)
        && clear > threshold
    {
        form.refuse("clear_max", format!("{clear} lies above threshold_max {threshold}"));
    }
    if let (Some(min), Some(max)) = (clear.min, clear.max)
        && min > max
        && thresholds.min <= thresholds.max
    {
        form.refuse("clear_min", format!("{min} lies above clear_max {max}"));
    }
    (thresholds, clear)
}

fn policy(form: &mut Form<'_>) -> Option<Policy> {
    let trend = form.whole("trend_duration", 1, 1, TREND_MAX);
    let window = form.whole("time_window_seconds", 300, 1, SECONDS_MAX);
    if trend - 1 > window {
        form.refuse("trend_duration", format!("{trend} readings cannot lie within {window} s"));
    }
    let repeat = form
        .value("repeat_interval_seconds")
        .is_some()
        .then(|| form.whole("repeat_interval_seconds", 0, 1, SECONDS_MAX));
    let clear_after = form.whole("clear_after", 1, 1, TREND_MAX);
    let cooldown = form.whole("cooldown_seconds", 600, 0, SECONDS_MAX);
    let severity = severity(form);
    let escalation = escalation(form);
    Some(Policy {
        // Both at most TREND_MAX, so they fit.
        trend: trend as usize,
        clear_after: clear_after as u32,
        window_ms: window * 1000,
        cooldown_ms: cooldown * 1000,
        repeat_ms: repeat.map(|seconds| seconds * 1000),
        severity: severity?,
        escalation,
    })
}

fn severity(form: &mut Form<'_>) -> Option<Severity> {
    let field = if form.value("severity_level").is_some() { "severity_level" } else { "level" };
    let word = form.text(field).unwrap_or_else(|| "minor".to_owned());
    let severity = Severity::from_word(&word);
    if severity.is_none() {
        form.refuse(
            field,
            format!("{word} is no severity: info, minor, moderate, major, critical"),
        );
    }
    severity
}

fn escalation(form: &mut Form<'_>) -> Vec<Escalation> {
    let Some(document) = form.document("escalation") else { return Vec::new() };
    let step = |step: &Value| -> Option<Escalation> {
        let after = step.get("after_seconds")?.as_i64()?;
        let to = Severity::from_word(step.get("to")?.as_str()?)?;
        (1..=SECONDS_MAX).contains(&after).then_some(Escalation { after_ms: after * 1000, to })
    };
    let steps: Option<Vec<_>> =
        document.as_array().and_then(|steps| steps.iter().map(step).collect());
    match steps {
        Some(steps) if steps.is_sorted_by(|a, b| a.after_ms < b.after_ms) => steps,
        _ => {
            form.refuse(
                "escalation",
                "must be a list of {after_seconds, to} in rising order of time",
            );
            Vec::new()
        }
    }
}

fn effective(form: &mut Form<'_>) -> Effective {
    Effective {
        start: time(form, "effective_time_start"),
        end: time(form, "effective_time_end"),
        days: days(form),
    }
}

fn time(form: &mut Form<'_>, field: &'static str) -> Option<Time> {
    let text = form.text(field)?;
    let time = text.parse().ok();
    if time.is_none() {
        form.refuse(field, "must be a time of day such as 22:00:00");
    }
    time
}

fn days(form: &mut Form<'_>) -> u8 {
    let words: Vec<String> = match form.value("effective_days") {
        None => return ALL_DAYS,
        Some(Value::Array(days)) => days.iter().map(Value::to_string).collect(),
        Some(Value::String(text)) => {
            text.trim_matches(['[', ']']).split(',').map(str::to_owned).collect()
        }
        Some(other) => vec![other.to_string()],
    };
    let mut days = 0;
    for word in words {
        match word.trim().trim_matches('"').parse::<u8>() {
            Ok(day @ 1..=7) => days |= 1 << day,
            _ => {
                form.refuse("effective_days", "must list ISO days, 1 (Monday) to 7, as in 1,2,3");
                return ALL_DAYS;
            }
        }
    }
    days
}

fn channels(form: &mut Form<'_>, skipped: &mut Vec<String>) -> Channels {
    let words: Vec<String> = match form.value("enabled_channels").cloned() {
        Some(Value::Array(_)) => list(form.document("enabled_channels")),
        Some(Value::String(text)) if text.trim_start().starts_with('[') => {
            list(form.document("enabled_channels"))
        }
        Some(Value::String(text)) => text.split(',').map(|word| word.trim().to_owned()).collect(),
        Some(_) => {
            form.refuse("enabled_channels", "must be a list of channels");
            return Channels::default();
        }
        None => form.text("notification_type").into_iter().collect(),
    };
    if words.is_empty() {
        return Channels { wechat: true, log: false };
    }
    let mut channels = Channels::default();
    for word in words {
        match word.to_lowercase().as_str() {
            "wechat" => channels.wechat = true,
            "log" => channels.log = true,
            "both" => {
                channels.wechat = true;
                skipped.push("message".to_owned());
            }
            _ => skipped.push(word),
        }
    }
    channels
}

fn list(document: Option<Value>) -> Vec<String> {
    let Some(Value::Array(words)) = document else { return Vec::new() };
    words.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn message(form: &mut Form<'_>) -> Option<Template> {
    let text = form.text("alert_message").unwrap_or_else(|| DEFAULT_TEMPLATE.to_owned());
    Template::parse(&text).map_err(|problem| form.refuse("alert_message", problem)).ok()
}

/// A version for a rule that has none: it changes with every edit.
fn fingerprint(fields: &Map<String, Value>) -> i64 {
    let mut text = String::new();
    for (name, value) in FIELDS.iter().filter_map(|name| Some((name, fields.get(*name)?))) {
        text.push_str(&format!("{name}={value}\n"));
    }
    let (high, _) = Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).as_u64_pair();
    // The upper half alone, so that it stays short and positive.
    (high >> 32) as i64
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
