//! From what somebody wrote to a valid rule, or to everything that is wrong with it.
//!
//! Pure; the same for rows of the platform, entries of a file, and `rules check`.

pub mod fields;
pub mod lints;
pub mod trigger;
pub mod windows;

use jiff::civil::Time;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::rules::channel::Channels;
use crate::rules::policy::{Escalation, FlapLimits, Policy};
use crate::rules::rule::{ALL_DAYS, Effective, Rule, Watch};
use crate::rules::severity::Severity;
use crate::rules::template::{ABSENCE_TEMPLATE, DEFAULT_TEMPLATE, Template};
use crate::rules::validation::fields::{
    FIELDS, Form, Problem, SECONDS_MAX, WINDOW_SECONDS, written,
};
use crate::rules::validation::lints::doubts;
use crate::rules::validation::trigger::watch;

/// Longest run a rule may ask for: each open run keeps that many times.
const TREND_MAX: i64 = 1_000;

/// Longest rule type, in characters: the platform's column takes no more.
const RULE_TYPE_CHARS_MAX: usize = 50;

/// Longest text of a rule, in characters: what fills its placeholders has to fit beside it.
const MESSAGE_CHARS_MAX: usize = 1_000;

/// So many openings are flapping.
const FLAP_OPENINGS: i64 = 4;

/// Within so long, in seconds.
const FLAP_WINDOW_SECONDS: i64 = 600;

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

/// A checked rule.
#[derive(Debug)]
pub struct Check {
    /// Number of the rule, where it has one.
    pub id: Option<i64>,
    /// What it turns out to be.
    pub checked: Checked,
    /// What is not as it should be, though the rule stays.
    pub warnings: Vec<String>,
    /// The fields it was read from, as JSON.
    pub form: String,
}

impl Check {
    /// Refuses it for what is wrong with one field, whatever it was before.
    pub fn refuse(&mut self, field: &'static str, message: String) {
        let rule =
            self.id.map_or_else(|| "a rule without a number".into(), |id| format!("rule {id}"));
        let problem = Problem { rule, field, message };
        match &mut self.checked {
            Checked::Refused(problems) => problems.push(problem),
            checked => *checked = Checked::Refused(vec![problem]),
        }
    }
}

/// Checks the rule written at `place` (from 1) in its source.
pub fn check(fields: &Map<String, Value>, place: usize) -> Check {
    let mut form = Form::new(fields, place);
    let id = form.whole("id", 0, 1, i64::MAX);
    let known = (id > 0).then_some(id);
    let done = |checked| Check { id: known, checked, warnings: Vec::new(), form: written(fields) };
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
    let mut warnings = Vec::new();
    if !skipped_channels.is_empty() {
        let skipped = skipped_channels.join(", ");
        warnings.push(format!("notifications by {skipped} are skipped: not configured here"));
    }
    let checked = match rule {
        Some(rule) if form.is_clean() => {
            warnings.extend(doubts(&rule));
            Checked::Valid(Box::new(rule))
        }
        _ => Checked::Refused(form.into_problems()),
    };
    Check { id: known, checked, warnings, form: written(fields) }
}

fn rule(
    form: &mut Form<'_>,
    id: i64,
    fields: &Map<String, Value>,
    skipped_channels: &mut Vec<String>,
) -> Option<Rule> {
    let customer_id = form.whole("customer_id", 0, 0, i64::MAX);
    let watch = watch(form);
    let absence = matches!(watch, Some(Watch::Absence(_)));
    let policy = policy(form, absence);
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
    let message = message(form, absence);
    let rule_type = text(form, "rule_type", RULE_TYPE_CHARS_MAX).unwrap_or_default();
    let stale_after = form
        .value("stale_after_seconds")
        .is_some()
        .then(|| form.whole("stale_after_seconds", 0, 1, SECONDS_MAX));
    Some(Rule {
        id,
        version,
        customer_id,
        rule_type,
        watch: watch?,
        enabled,
        // At most 5, so it fits.
        priority: priority as u8,
        effective,
        policy: policy?,
        stale_after_ms: stale_after.map(|seconds| seconds * 1000),
        channels,
        message: message?,
        // That is for whoever takes it over to say.
        from_ms: 0,
    })
}

/// `absence`: nothing is counted but the one absence, whatever the platform's columns hold.
fn policy(form: &mut Form<'_>, absence: bool) -> Option<Policy> {
    let counted = |form: &mut Form<'_>, field| {
        if absence { 1 } else { form.whole(field, 1, 1, TREND_MAX) }
    };
    let trend = counted(form, "trend_duration");
    let window = form.whole("time_window_seconds", WINDOW_SECONDS, 1, SECONDS_MAX);
    if trend - 1 > window {
        form.refuse("trend_duration", format!("{trend} readings cannot lie within {window} s"));
    }
    let repeat = form
        .value("repeat_interval_seconds")
        .is_some()
        .then(|| form.whole("repeat_interval_seconds", 0, 1, SECONDS_MAX));
    let clear_after = counted(form, "clear_after");
    let cooldown = form.whole("cooldown_seconds", 600, 0, SECONDS_MAX);
    let flap_openings = form.whole("flap_openings", FLAP_OPENINGS, 2, TREND_MAX);
    let flap_window = form.whole("flap_window_seconds", FLAP_WINDOW_SECONDS, 1, SECONDS_MAX);
    let severity = severity(form);
    let escalation = escalation(form);
    Some(Policy {
        // All at most TREND_MAX, so they fit.
        trend: trend as usize,
        clear_after: clear_after as u32,
        window_ms: window * 1000,
        cooldown_ms: cooldown * 1000,
        repeat_ms: repeat.map(|seconds| seconds * 1000),
        severity: severity?,
        escalation,
        flap: FlapLimits { openings: flap_openings as usize, window_ms: flap_window * 1000 },
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
    let mut words: Vec<String> = match form.value("enabled_channels").cloned() {
        Some(Value::Array(_)) => list(form.document("enabled_channels")),
        Some(Value::String(text)) if text.trim_start().starts_with('[') => {
            list(form.document("enabled_channels"))
        }
        Some(Value::String(text)) => text.split(',').map(str::to_owned).collect(),
        Some(_) => {
            form.refuse("enabled_channels", "must be a list of channels");
            return Channels::default();
        }
        None => Vec::new(),
    };
    words.retain(|word| !word.trim().is_empty());
    if words.is_empty() {
        // A rule that names no channel is still meant to reach people.
        words.push(form.text("notification_type").unwrap_or_else(|| "both".to_owned()));
    }
    let mut channels = Channels::default();
    for word in words {
        match word.trim().to_lowercase().as_str() {
            "wechat" => channels.wechat = true,
            "wecom" => channels.wecom = true,
            "message" => channels.message = true,
            "both" => (channels.wechat, channels.message) = (true, true),
            "log" => channels.log = true,
            _ => skipped.push(word),
        }
    }
    channels
}

fn list(document: Option<Value>) -> Vec<String> {
    let Some(Value::Array(words)) = document else { return Vec::new() };
    words.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A field's text of bounded length.
fn text(form: &mut Form<'_>, field: &'static str, chars_max: usize) -> Option<String> {
    let text = form.text(field)?;
    let chars = text.chars().count();
    if chars > chars_max {
        form.refuse(field, format!("has {chars} characters, of {chars_max} at most"));
    }
    Some(text)
}

fn message(form: &mut Form<'_>, absence: bool) -> Option<Template> {
    let default = if absence { ABSENCE_TEMPLATE } else { DEFAULT_TEMPLATE };
    let text = text(form, "alert_message", MESSAGE_CHARS_MAX);
    let text = text.unwrap_or_else(|| default.to_owned());
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
mod tests;
