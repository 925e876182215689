//! Reads rules from a YAML file, for installations without the platform's table.
//!
//! The file is a list of rules, or a mapping with this list under `rules`. Fields have the names of
//! the table's columns. A file of another form is invalid as a whole. An invalid rule does not
//! affect the other rules.

use std::path::Path;

use serde_json::{Map, Value};

use crate::rules::validation::fields::FIELDS;
use crate::rules::validation::together::check_together;
use crate::rules::validation::{self, CheckedRule};

/// The reason why a file gave no rules.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("cannot read the rules file: {0}")]
    Unreadable(#[from] std::io::Error),
    /// The file is not YAML.
    #[error("the rules file is not YAML: {0}")]
    NotYaml(#[from] serde_norway::Error),
    /// The file is YAML of another form.
    #[error("the rules file must be a list of rules, or have that list under `rules`")]
    OtherForm,
}

/// Reads and validates the rules of a file.
pub fn load(path: &Path) -> Result<Vec<CheckedRule>, FileError> {
    parse(&std::fs::read_to_string(path)?)
}

/// Validates the rules of a file's text.
pub fn parse(text: &str) -> Result<Vec<CheckedRule>, FileError> {
    let document: Value = serde_norway::from_str(text)?;
    let list = match document {
        Value::Null => Vec::new(),
        Value::Array(list) => list,
        Value::Object(mut fields) if fields.len() == 1 => match fields.remove("rules") {
            Some(Value::Array(list)) => list,
            _ => return Err(FileError::OtherForm),
        },
        _ => return Err(FileError::OtherForm),
    };
    let entries: Option<Vec<Map<String, Value>>> = list
        .into_iter()
        .map(|entry| if let Value::Object(fields) = entry { Some(fields) } else { None })
        .collect();
    let mut checks: Vec<_> = entries
        .ok_or(FileError::OtherForm)?
        .iter()
        .enumerate()
        .map(|(at, fields)| without_unknown_fields(validation::check(fields, at + 1), fields))
        .collect();
    invalidate_shared_numbers(&mut checks);
    check_together(&mut checks);
    Ok(checks)
}

/// Makes a rule with unknown fields invalid: a misspelt field would silently be missing. A table
/// may have other columns; a file has no reason to.
fn without_unknown_fields(mut check: CheckedRule, fields: &Map<String, Value>) -> CheckedRule {
    let unknown: Vec<_> =
        fields.keys().filter(|name| !FIELDS.contains(&name.as_str())).cloned().collect();
    if !unknown.is_empty() {
        check.add_error("fields", format!("no such field: {}", unknown.join(", ")));
    }
    check
}

fn invalidate_shared_numbers(checks: &mut [CheckedRule]) {
    let mut taken = std::collections::HashSet::new();
    for check in checks {
        if check.id.is_some_and(|id| !taken.insert(id)) {
            check.add_error("id", "another rule above has this number".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::validation::RuleStatus;

    const RULE: &str = "id: 1\n  physical_sign: heart_rate\n  threshold_max: 100\n";

    fn problems(text: &str) -> Vec<String> {
        let problems = |check: CheckedRule| match check.checked {
            RuleStatus::Invalid(problems) => problems,
            _ => Vec::new(),
        };
        parse(text).unwrap().into_iter().flat_map(problems).map(|one| one.to_string()).collect()
    }

    #[test]
    fn a_list_of_rules_is_read_bare_or_named() {
        for text in [format!("- {RULE}"), format!("rules:\n- {RULE}")] {
            let checks = parse(&text).unwrap();
            assert!(
                matches!(&checks[..], [CheckedRule { checked: RuleStatus::Valid(_), .. }]),
                "{text}"
            );
        }
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn the_documented_example_is_accepted_as_it_stands() {
        let checks = parse(include_str!("../../../../deploy/rules.example.yaml")).unwrap();
        assert_eq!(checks.len(), 5);
        for check in checks {
            assert!(matches!(check.checked, RuleStatus::Valid(_)), "{:?}", check.checked);
            assert!(check.warnings.is_empty(), "rule {:?}: {:?}", check.id, check.warnings);
        }
    }

    #[test]
    fn another_form_is_refused_whole() {
        for text in ["rules: 3", "- 1", "a: []", "just text", "- [", "rules: []\nmore: 1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn misspelt_fields_and_shared_numbers_cost_the_rule_alone() {
        assert_eq!(
            problems(&format!("- {RULE}  treshold_min: 3\n")),
            ["rule 1: fields: no such field: treshold_min"]
        );
        let found = problems(&format!("- {RULE}- {RULE}"));
        assert_eq!(found, ["rule 1: id: another rule above has this number"]);
    }
}
