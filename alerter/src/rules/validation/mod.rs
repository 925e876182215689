//! Validates a written rule, and returns a valid rule or all of its problems.
//!
//! Pure. Rows of the platform, entries of a file and `rules check` are validated in the same way.

pub mod fields;
pub mod lints;
mod policy;
mod rule;
pub mod together;
mod trigger;

use serde_json::{Map, Value};

use crate::rules::validation::fields::{FieldError, RuleFields, whole, written};
use crate::rules::validation::lints::{RuleWarning, lints};
use crate::rules::validation::rule::rule;
use crate::rules::{Rule, TEMPLATE_TENANT};

/// The result of validating a written rule.
#[derive(Debug)]
pub enum RuleStatus {
    /// A valid rule, which can be evaluated.
    Valid(Box<Rule>),
    /// Deleted: treated as absent.
    Deleted,
    /// For device events, which take another route: no error.
    Event,
    /// Invalid, for all of these reasons.
    Invalid(Vec<FieldError>),
}

/// A written rule and the result of its validation.
#[derive(Debug)]
pub struct CheckedRule {
    /// Number of the rule, if it has one.
    pub id: Option<i64>,
    /// The rule in words: its number, or its place if it has none.
    pub name: String,
    /// Tenant of the rule; `None`: the tenant cannot be read.
    pub customer_id: Option<i64>,
    /// The result of the validation.
    pub checked: RuleStatus,
    /// Warnings, which do not make the rule invalid.
    pub warnings: Vec<RuleWarning>,
    /// The rule's fields, as JSON.
    pub form: String,
}

impl CheckedRule {
    /// Makes the rule invalid because of a problem with one field.
    pub fn add_error(&mut self, field: &'static str, message: String) {
        let problem = FieldError { field, message };
        match &mut self.checked {
            RuleStatus::Invalid(problems) => problems.push(problem),
            checked => *checked = RuleStatus::Invalid(vec![problem]),
        }
    }
}

/// Validates the rule written at `place` (from 1) in its source.
pub fn check(fields: &Map<String, Value>, place: usize) -> CheckedRule {
    let mut form = RuleFields { fields, problems: Vec::new(), doubts: Vec::new() };
    let number = form.whole("id", 0, 1, i64::MAX);
    let id = (number > 0).then_some(number);
    let name = id.map_or_else(|| format!("rule at place {place}"), |id| format!("rule {id}"));
    let customer_id = form.value("customer_id").map_or(Some(TEMPLATE_TENANT), whole);
    let done = |checked, warnings| {
        let form = written(fields);
        CheckedRule { id, name, customer_id, checked, warnings, form }
    };
    if form.flag("is_deleted", false) {
        return done(RuleStatus::Deleted, Vec::new());
    }
    if form.text("physical_sign").as_deref() == Some("event") {
        return done(RuleStatus::Event, Vec::new());
    }
    if id.is_none() && form.problems.is_empty() {
        form.add_error("id", "is missing: give the rule a number of its own");
    }
    let rule = rule(&mut form, number);
    let mut warnings: Vec<_> = form.doubts.into_iter().map(RuleWarning::Doubt).collect();
    match rule {
        Some(rule) if form.problems.is_empty() => {
            warnings.extend(lints(&rule));
            done(RuleStatus::Valid(Box::new(rule)), warnings)
        }
        _ => done(RuleStatus::Invalid(form.problems), warnings),
    }
}

#[cfg(test)]
mod tests;
