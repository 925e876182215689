//! Reads a rule from its form. Every field is read, so that all problems are listed.
//!
//! Pure. Two groups of fields belong to `trigger` and `policy`. [`ActiveHours`] decides whether the
//! rule may open an episode at a given time, and [`crate::notify::recipients`] whom the channels
//! reach.

use jiff::civil::Time;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::fields::{FIELDS, RuleFields};
use super::policy::policy;
use super::trigger::trigger;
use crate::rules::rule::ALL_DAYS;
use crate::rules::template::{DEFAULT_TEMPLATE, NO_DATA_TEMPLATE, Template};
use crate::rules::{ActiveHours, Channels, Rule, Trigger};

/// Longest rule type, in characters: the limit of the platform's column.
const RULE_TYPE_CHARS_MAX: usize = 50;

/// Longest text of a rule, in characters: the values of its placeholders need room beside it.
const MESSAGE_CHARS_MAX: usize = 1_000;

/// Reads the rule of the form, and records its problems.
pub(super) fn rule(form: &mut RuleFields<'_>, id: i64) -> Option<Rule> {
    let customer_id = form.whole("customer_id", 0, 0, i64::MAX);
    let watch = trigger(form);
    let absence = matches!(watch, Some(Trigger::NoData(_)));
    let policy = policy(form, absence);
    let version = if form.value("version").is_some() {
        form.whole("version", 1, 0, i64::MAX)
    } else {
        fingerprint(form.fields)
    };
    Some(Rule {
        id,
        version,
        customer_id,
        policy,
        enabled: form.flag("is_enabled", true),
        // At most 5, so it fits.
        priority: form.whole("priority_level", 3, 1, 5) as u8,
        effective: ActiveHours {
            start: time(form, "effective_time_start"),
            end: time(form, "effective_time_end"),
            days: days(form),
        },
        channels: channels(form),
        rule_type: text(form, "rule_type", RULE_TYPE_CHARS_MAX).unwrap_or_default(),
        stale_after_ms: form.optional_milliseconds("stale_after_seconds"),
        // Set by the code that accepts the rule.
        from_ms: 0,
        // Last, because nothing is read once one of these is missing.
        message: message(form, absence)?,
        trigger: watch?,
    })
}

/// Reads a field's text of bounded length.
fn text(form: &mut RuleFields<'_>, field: &'static str, chars_max: usize) -> Option<String> {
    let text = form.text(field)?;
    let chars = text.chars().count();
    if chars > chars_max {
        form.add_error(field, format!("has {chars} characters, of {chars_max} at most"));
    }
    Some(text)
}

fn message(form: &mut RuleFields<'_>, absence: bool) -> Option<Template> {
    let default = if absence { NO_DATA_TEMPLATE } else { DEFAULT_TEMPLATE };
    let text = text(form, "alert_message", MESSAGE_CHARS_MAX);
    let text = text.unwrap_or_else(|| default.to_owned());
    Template::parse(&text).map_err(|problem| form.add_error("alert_message", problem)).ok()
}

fn time(form: &mut RuleFields<'_>, field: &'static str) -> Option<Time> {
    let time = form.text(field)?.parse::<Time>();
    time.map_err(|_| form.add_error(field, "must be a time of day such as 22:00:00")).ok()
}

fn days(form: &mut RuleFields<'_>) -> u8 {
    // The platform stores a blank text for every day. A list without a day is a mistake.
    let Some(value) = form.value("effective_days") else { return ALL_DAYS };
    // A list, or a text of one: with the marks of JSON, or only with commas.
    let written = value.to_string();
    let days = written.split(',').try_fold(0_u8, |days, word| {
        let day: u8 = word.trim_matches(['[', ']', '"', '\\', ' ']).parse().ok()?;
        (1..=7).contains(&day).then(|| days | (1 << day))
    });
    days.unwrap_or_else(|| {
        let problem =
            "must list ISO days, 1 (Monday) to 7, as in 1,2,3; leave it out for every day";
        form.add_error("effective_days", problem);
        ALL_DAYS
    })
}

/// Reads the channels of the rule. Unknown channels are skipped, with a doubt.
fn channels(form: &mut RuleFields<'_>) -> Channels {
    let mut words: Vec<String> = match form.value("enabled_channels") {
        Some(Value::String(text)) if !text.trim_start().starts_with('[') => {
            text.split(',').map(str::to_owned).collect()
        }
        Some(Value::String(_) | Value::Array(_)) => {
            let list = form.document("enabled_channels");
            let words = list.iter().filter_map(Value::as_array).flatten();
            words.filter_map(Value::as_str).map(str::to_owned).collect()
        }
        Some(_) => {
            form.add_error("enabled_channels", "must be a list of channels");
            return Channels::default();
        }
        None => Vec::new(),
    };
    words.retain(|word| !word.trim().is_empty());
    if words.is_empty() {
        // A rule that names no channel is still meant to reach people.
        words.push(form.text("notification_type").unwrap_or_else(|| "both".to_owned()));
    }
    let (mut channels, mut skipped) = (Channels::default(), Vec::new());
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
    if !skipped.is_empty() {
        let skipped = skipped.join(", ");
        form.doubts.push(format!("notifications by {skipped} are skipped: not configured here"));
    }
    channels
}

/// Returns a version for a rule without one. It changes with every edit.
fn fingerprint(fields: &Map<String, Value>) -> i64 {
    let read = FIELDS.iter().filter_map(|name| Some((name, fields.get(*name)?)));
    let text: String = read.map(|(name, value)| format!("{name}={value}\n")).collect();
    let (high, _) = Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).as_u64_pair();
    // The upper half alone keeps the version short and positive.
    (high >> 32) as i64
}
