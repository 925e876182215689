//! Reads the trigger of a rule: the range of one vital, several conditions, or missing data.

use serde_json::Value;

use super::fields::RuleFields;
use crate::rules::condition::{Composite, Condition, Operator};
use crate::rules::rule::Trigger;
use crate::rules::validation::fields::{SECONDS_MAX, WINDOW_SECONDS};
use crate::rules::verdict::{Bounds, Deviation, Range};
use crate::rules::vital::Vital;

/// Conditions of one rule, at most.
const CONDITIONS_MAX: usize = 20;

/// Reads the trigger of the form, and records its problems.
pub(super) fn trigger(form: &mut RuleFields<'_>) -> Option<Trigger> {
    let category = form.text("rule_category").unwrap_or_else(|| "SINGLE".to_owned());
    match category.to_uppercase().as_str() {
        "SINGLE" => range(form).map(Trigger::Range),
        "COMPOSITE" => conditions(form).map(Trigger::Conditions),
        "NO_DATA" => {
            let window = form.whole("time_window_seconds", WINDOW_SECONDS, 1, SECONDS_MAX);
            if form.value("stale_after_seconds").is_some() {
                form.add_error(
                    "stale_after_seconds",
                    "is for other rules: leave it out of NO_DATA",
                );
            }
            Some(Trigger::NoData(window * 1000))
        }
        "COMPLEX" => {
            form.add_error("rule_category", "COMPLEX is not supported");
            None
        }
        other => {
            form.add_error(
                "rule_category",
                format!("{other} is none of SINGLE, COMPOSITE, NO_DATA"),
            );
            None
        }
    }
}

fn range(form: &mut RuleFields<'_>) -> Option<Range> {
    let sign = sign(form);
    let deviation = deviation(form);
    let (thresholds, clear) = bounds(form, deviation.is_some());
    Some(Range { vital: sign?, thresholds, clear, deviation })
}

fn sign(form: &mut RuleFields<'_>) -> Option<Vital> {
    match form.text("physical_sign") {
        Some(word) => {
            let sign = Vital::from_word(&word);
            if sign.is_none() {
                let known = Vital::ALL.map(Vital::as_str).join(", ");
                form.add_error("physical_sign", format!("{word} is none of {known}"));
            }
            sign
        }
        None => {
            form.add_error("physical_sign", "is missing: say what the rule watches");
            None
        }
    }
}

/// Reads the deviation. Unset and 0 mean none: the platform's column has 0 by default.
fn deviation(form: &mut RuleFields<'_>) -> Option<Deviation> {
    let percentage = form.number("deviation_percentage").filter(|percentage| *percentage != 0.0)?;
    if percentage < 0.0 {
        form.add_error("deviation_percentage", "must be above 0");
    }
    let window = form.whole("time_window_seconds", WINDOW_SECONDS, 1, SECONDS_MAX);
    Some(Deviation { percentage, window_ms: window * 1000 })
}

fn bounds(form: &mut RuleFields<'_>, has_deviation: bool) -> (Bounds, Bounds) {
    let thresholds =
        Bounds { min: form.number("threshold_min"), max: form.number("threshold_max") };
    let clear = Bounds {
        min: form.number("clear_min").or(thresholds.min),
        max: form.number("clear_max").or(thresholds.max),
    };
    if thresholds == Bounds::default() && !has_deviation && form.has_no_error() {
        let message =
            "is missing, and threshold_max and deviation_percentage too: set at least one";
        form.add_error("threshold_min", message);
    }
    if let (Some(min), Some(max)) = (thresholds.min, thresholds.max)
        && min > max
    {
        form.add_error("threshold_min", format!("{min} lies above threshold_max {max}"));
    }
    if let (Some(threshold), Some(clear)) = (thresholds.min, clear.min)
        && clear < threshold
    {
        form.add_error("clear_min", format!("{clear} lies below threshold_min {threshold}"));
    }
    if let (Some(threshold), Some(clear)) = (thresholds.max, clear.max)
        && clear > threshold
    {
        form.add_error("clear_max", format!("{clear} lies above threshold_max {threshold}"));
    }
    if let (Some(min), Some(max)) = (clear.min, clear.max)
        && min > max
        && thresholds.min <= thresholds.max
    {
        form.add_error("clear_min", format!("{min} lies above clear_max {max}"));
    }
    (thresholds, clear)
}

/// Reads the conditions, in either spelling of their names: the platform writes both.
fn conditions(form: &mut RuleFields<'_>) -> Option<Composite> {
    const FIELD: &str = "condition_expression";
    let Some(document) = form.document(FIELD) else {
        if form.value(FIELD).is_none() {
            form.add_error(
                FIELD,
                "is missing: a COMPOSITE rule needs {conditions, logical_operator}",
            );
        }
        return None;
    };
    let listed = document.get("conditions").and_then(Value::as_array);
    let listed = listed.filter(|listed| (1..=CONDITIONS_MAX).contains(&listed.len()));
    let Some(listed) = listed else {
        form.add_error(FIELD, format!("needs a list `conditions` of 1 to {CONDITIONS_MAX}"));
        return None;
    };
    let mut conditions = Vec::with_capacity(listed.len());
    for (place, written) in listed.iter().enumerate() {
        match condition(written) {
            Ok(condition) => conditions.push(condition),
            Err(problem) => form.add_error(FIELD, format!("condition {}: {problem}", place + 1)),
        }
    }
    let operator = either(&document, "logical_operator", "logicalOperator");
    let operator = operator.map_or(Some("AND"), Value::as_str).map(str::to_uppercase);
    let all = match operator.as_deref() {
        Some("AND") => true,
        Some("OR") => false,
        _ => {
            form.add_error(FIELD, "logical_operator must be AND or OR");
            return None;
        }
    };
    (conditions.len() == listed.len()).then_some(Composite { conditions, all })
}

fn condition(written: &Value) -> Result<Condition, String> {
    let word = either(written, "physical_sign", "physicalSign").and_then(Value::as_str);
    let word = word.ok_or("physical_sign is missing")?;
    let sign = Vital::from_word(word)
        .ok_or_else(|| format!("{word} is none of {}", Vital::ALL.map(Vital::as_str).join(", ")))?;
    let operator = written.get("operator").and_then(Value::as_str);
    let operator = operator
        .and_then(|text| Operator::from_text(text.trim()))
        .ok_or("operator must be one of > < >= <= == = !=")?;
    let threshold =
        written.get("threshold").and_then(number).ok_or("threshold must be a number")?;
    let seconds = match either(written, "duration_seconds", "durationSeconds") {
        None => 0.0,
        Some(value) => number(value)
            .filter(|seconds| (0.0..=SECONDS_MAX as f64).contains(seconds))
            .ok_or_else(|| format!("duration_seconds must lie between 0 and {SECONDS_MAX}"))?,
    };
    Ok(Condition { vital: sign, operator, threshold, duration_ms: (seconds * 1000.0) as i64 })
}

fn either<'a>(document: &'a Value, snake: &str, camel: &str) -> Option<&'a Value> {
    let value = document.get(snake).or_else(|| document.get(camel));
    value.filter(|value| !value.is_null())
}

fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number: &f64| number.is_finite())
}

#[cfg(test)]
#[path = "trigger_tests.rs"]
mod tests;
