//! Reads a rule from its form. Every field is read, so that all problems are listed.
//!
//! Pure. The groups of fields belong to `trigger`, `policy`, `active_hours` and `channels`.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::active_hours::effective;
use super::channels::channels;
use super::fields::{FIELDS, RuleFields, SECONDS_MAX};
use super::policy::policy;
use super::trigger::trigger;
use crate::rules::rule::{Rule, Trigger};
use crate::rules::template::{DEFAULT_TEMPLATE, NO_DATA_TEMPLATE, Template};

/// Longest rule type, in characters: the limit of the platform's column.
const RULE_TYPE_CHARS_MAX: usize = 50;

/// Longest text of a rule, in characters: the values of its placeholders need room beside it.
const MESSAGE_CHARS_MAX: usize = 1_000;

/// Reads the rule of the form, and records its problems.
pub(super) fn rule(
    form: &mut RuleFields<'_>,
    id: i64,
    fields: &Map<String, Value>,
) -> Option<Rule> {
    let customer_id = form.whole("customer_id", 0, 0, i64::MAX);
    let watch = trigger(form);
    let absence = matches!(watch, Some(Trigger::NoData(_)));
    let policy = policy(form, absence);
    let version = if form.value("version").is_some() {
        form.whole("version", 1, 0, i64::MAX)
    } else {
        fingerprint(fields)
    };
    // Read every field before the first `?`, so that all problems are listed.
    let enabled = form.flag("is_enabled", true);
    let priority = form.whole("priority_level", 3, 1, 5);
    let effective = effective(form);
    let channels = channels(form);
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
        trigger: watch?,
        enabled,
        // At most 5, so it fits.
        priority: priority as u8,
        effective,
        policy,
        stale_after_ms: stale_after.map(|seconds| seconds * 1000),
        channels,
        message: message?,
        // Set by the code that accepts the rule.
        from_ms: 0,
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

/// Returns a version for a rule without one. It changes with every edit.
fn fingerprint(fields: &Map<String, Value>) -> i64 {
    let mut text = String::new();
    for (name, value) in FIELDS.iter().filter_map(|name| Some((name, fields.get(*name)?))) {
        text.push_str(&format!("{name}={value}\n"));
    }
    let (high, _) = Uuid::new_v5(&Uuid::NAMESPACE_OID, text.as_bytes()).as_u64_pair();
    // The upper half alone keeps the version short and positive.
    (high >> 32) as i64
}
