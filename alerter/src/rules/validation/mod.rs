//! From what somebody wrote to a valid rule, or to everything that is wrong with it.
//!
//! Pure; the same for rows of the platform, entries of a file, and `rules check`.

mod active_hours;
mod channels;
pub mod fields;
mod lints;
mod policy;
mod rule;
mod trigger;
pub mod windows;

use serde_json::{Map, Value};

use crate::rules::rule::Rule;
use crate::rules::validation::fields::{Form, Problem, written};
use crate::rules::validation::lints::doubts;
use crate::rules::validation::rule::rule;

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

#[cfg(test)]
mod tests;
