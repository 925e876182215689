//! Reads the trigger of a rule: the range of one vital, several conditions, or missing data.

use serde_json::Value;

use super::fields::{RuleFields, SECONDS_MAX, number};
use crate::rules::{Bounds, Composite, Condition, Deviation, Operator, Range, Trigger, Vital};

/// Conditions of one rule, at most.
const CONDITIONS_MAX: usize = 20;

/// Reads the trigger of the form, and records its problems.
pub(super) fn trigger(form: &mut RuleFields<'_>) -> Option<Trigger> {
    let category = form.text("rule_category").unwrap_or_else(|| "SINGLE".to_owned());
    match category.to_uppercase().as_str() {
        "SINGLE" => range(form).map(Trigger::Range),
        "COMPOSITE" => conditions(form).map(Trigger::Conditions),
        "NO_DATA" => {
            let window_ms = form.window_ms();
            if form.value("stale_after_seconds").is_some() {
                form.add_error(
                    "stale_after_seconds",
                    "is for other rules: leave it out of NO_DATA",
                );
            }
            Some(Trigger::NoData(window_ms))
        }
        other => {
            let problem = match other {
                "COMPLEX" => "COMPLEX is not supported".to_owned(),
                _ => format!("{other} is none of SINGLE, COMPOSITE, NO_DATA"),
            };
            form.add_error("rule_category", problem);
            None
        }
    }
}

fn range(form: &mut RuleFields<'_>) -> Option<Range> {
    let vital = watched_vital(form);
    let deviation = deviation(form);
    let (thresholds, clear) = bounds(form, deviation.is_some());
    Some(Range { vital: vital?, thresholds, clear, deviation })
}

fn watched_vital(form: &mut RuleFields<'_>) -> Option<Vital> {
    let vital = match form.text("physical_sign") {
        Some(word) => vital(&word),
        None => Err("is missing: say what the rule watches".to_owned()),
    };
    vital.map_err(|problem| form.add_error("physical_sign", problem)).ok()
}

fn vital(word: &str) -> Result<Vital, String> {
    Vital::from_word(word)
        .ok_or_else(|| format!("{word} is none of {}", Vital::ALL.map(Vital::as_str).join(", ")))
}

/// Reads the deviation. Unset and 0 mean none: the platform's column has 0 by default.
fn deviation(form: &mut RuleFields<'_>) -> Option<Deviation> {
    let percentage = form.number("deviation_percentage").filter(|percentage| *percentage != 0.0)?;
    if percentage < 0.0 {
        form.add_error("deviation_percentage", "must be above 0");
    }
    Some(Deviation { percentage, window_ms: form.window_ms() })
}

fn bounds(form: &mut RuleFields<'_>, has_deviation: bool) -> (Bounds, Bounds) {
    let thresholds =
        Bounds { min: form.number("threshold_min"), max: form.number("threshold_max") };
    let clear = Bounds {
        min: form.number("clear_min").or(thresholds.min),
        max: form.number("clear_max").or(thresholds.max),
    };
    if thresholds == Bounds::default() && !has_deviation && form.problems.is_empty() {
        let message =
            "is missing, and threshold_max and deviation_percentage too: set at least one";
        form.add_error("threshold_min", message);
    }
    if let (Some(threshold), Some(clear)) = (thresholds.min, clear.min)
        && clear < threshold
    {
        form.add_error("clear_min", format!("{clear} lies below threshold_min {threshold}"));
    }
    let mut not_above = |field, value: Option<f64>, limit: &str, most: Option<f64>| {
        if let (Some(value), Some(most)) = (value, most)
            && value > most
        {
            form.add_error(field, format!("{value} lies above {limit} {most}"));
        }
    };
    not_above("threshold_min", thresholds.min, "threshold_max", thresholds.max);
    not_above("clear_max", clear.max, "threshold_max", thresholds.max);
    if thresholds.min <= thresholds.max {
        not_above("clear_min", clear.min, "clear_max", clear.max);
    }
    (thresholds, clear)
}

/// Reads the conditions, in either spelling of their names: the platform writes both.
fn conditions(form: &mut RuleFields<'_>) -> Option<Composite> {
    const FIELD: &str = "condition_expression";
    if form.value(FIELD).is_none() {
        form.add_error(FIELD, "is missing: a COMPOSITE rule needs {conditions, logical_operator}");
    }
    let document = form.document(FIELD)?;
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
    let vital = vital(word)?;
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
    Ok(Condition { vital, operator, threshold, duration_ms: (seconds * 1000.0) as i64 })
}

fn either<'a>(document: &'a Value, snake: &str, camel: &str) -> Option<&'a Value> {
    let value = document.get(snake).or_else(|| document.get(camel));
    value.filter(|value| !value.is_null())
}

#[cfg(test)]
#[path = "trigger_tests.rs"]
mod tests;
