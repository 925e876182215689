//! A written rule as named fields: a row of the platform or an entry of a file. The values may be
//! numbers, texts or documents, depending on the source.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Every field of a rule that is read.
pub const FIELDS: [&str; 32] = [
    "id",
    "customer_id",
    "version",
    "is_enabled",
    "is_deleted",
    "rule_type",
    "rule_category",
    "physical_sign",
    "threshold_min",
    "threshold_max",
    "clear_min",
    "clear_max",
    "clear_after",
    "deviation_percentage",
    "trend_duration",
    "time_window_seconds",
    "cooldown_seconds",
    "repeat_interval_seconds",
    "flap_openings",
    "flap_window_seconds",
    "stale_after_seconds",
    "effective_time_start",
    "effective_time_end",
    "effective_days",
    "condition_expression",
    "priority_level",
    "severity_level",
    "level",
    "escalation",
    "enabled_channels",
    "notification_type",
    "alert_message",
];

/// Longest time in a rule, in seconds: 30 days.
pub(super) const SECONDS_MAX: i64 = 30 * 86_400;

/// The default time window of a rule, in seconds.
const WINDOW_SECONDS: i64 = 300;

/// Returns the fields that are read, as JSON: the stored form of a rule. Nulls are included,
/// because the version of a rule without a version number derives from them.
pub fn written(fields: &Map<String, Value>) -> String {
    let looked_at = FIELDS.iter().filter_map(|name| Some((*name, fields.get(*name)?)));
    let looked_at: BTreeMap<&str, &Value> = looked_at.collect();
    // Values from JSON or from a row always serialise.
    serde_json::to_string(&looked_at).unwrap_or_default()
}

/// A problem with one field of a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// The field.
    pub field: &'static str,
    /// The problem, and the remedy.
    pub message: String,
}

/// The fields of one rule, with their problems and the doubts about them so far. A doubt does not
/// make the rule invalid.
#[derive(Debug)]
pub(super) struct RuleFields<'a> {
    pub(super) fields: &'a Map<String, Value>,
    pub(super) problems: Vec<FieldError>,
    pub(super) doubts: Vec<String>,
}

impl<'a> RuleFields<'a> {
    /// Records a problem.
    pub fn add_error(&mut self, field: &'static str, message: impl Into<String>) {
        self.problems.push(FieldError { field, message: message.into() });
    }

    /// Returns a field's value. Blank texts and nulls count as absent.
    pub fn value(&self, field: &str) -> Option<&'a Value> {
        let blank = |value: &Value| value.as_str().is_some_and(|text| text.trim().is_empty());
        self.fields.get(field).filter(|value| !value.is_null() && !blank(value))
    }

    /// Returns a field's text.
    pub fn text(&mut self, field: &'static str) -> Option<String> {
        match self.value(field)? {
            Value::String(text) => Some(text.trim().to_owned()),
            Value::Number(number) => Some(number.to_string()),
            _ => {
                self.add_error(field, "must be text");
                None
            }
        }
    }

    /// Returns a field's number.
    pub fn number(&mut self, field: &'static str) -> Option<f64> {
        let number = number(self.value(field)?);
        if number.is_none() {
            self.add_error(field, "must be a number");
        }
        number
    }

    /// Returns a field's whole number between `min` and `max`, or `default` if the field is absent.
    pub fn whole(&mut self, field: &'static str, default: i64, min: i64, max: i64) -> i64 {
        let Some(value) = self.value(field) else { return default };
        whole(value).filter(|number| (min..=max).contains(number)).unwrap_or_else(|| {
            self.add_error(field, format!("must be a whole number from {min} to {max}"));
            default
        })
    }

    /// Returns a time of at least `min` seconds in milliseconds. `default`: the seconds if the
    /// field is absent.
    pub fn milliseconds(&mut self, field: &'static str, default: i64, min: i64) -> i64 {
        self.whole(field, default, min, SECONDS_MAX) * 1000
    }

    /// Returns a time of at least one second in milliseconds, if the field is set.
    pub fn optional_milliseconds(&mut self, field: &'static str) -> Option<i64> {
        self.value(field).is_some().then(|| self.milliseconds(field, 0, 1))
    }

    /// Returns the rule's time window, in milliseconds.
    pub fn window_ms(&mut self) -> i64 {
        self.milliseconds("time_window_seconds", WINDOW_SECONDS, 1)
    }

    /// Returns a field that is yes or no, or `default` if the field is absent.
    pub fn flag(&mut self, field: &'static str, default: bool) -> bool {
        let Some(value) = self.value(field) else { return default };
        match whole(value) {
            Some(0) => false,
            Some(1) => true,
            _ => {
                self.add_error(field, "must be 0 or 1");
                default
            }
        }
    }

    /// Returns a field that is a document, or the text of a document.
    pub fn document(&mut self, field: &'static str) -> Option<Value> {
        match self.value(field)? {
            Value::String(text) => {
                let document: Result<Value, _> = serde_json::from_str(text);
                let document = document.map_err(|_| self.add_error(field, "is not JSON"));
                document.ok().filter(|document| !document.is_null())
            }
            document => Some(document.clone()),
        }
    }
}

/// Reads a finite number, or the text of one.
pub(super) fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number: &f64| number.is_finite())
}

/// Reads a whole number, the text of one, or a yes or no.
pub(super) fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(flag) => Some(i64::from(*flag)),
        _ => None,
    }
}
