//! Reads rules from a YAML file, for installations without the platform's table.
//!
//! The file is a list of rules, or a mapping with this list under `rules`. Fields have the names of
//! the table's columns. A file of another form is invalid as a whole. An invalid rule does not
//! affect the other rules.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::rules::validation::fields::FIELDS;
use crate::rules::validation::together::check_together;
use crate::rules::validation::{self, CheckedRule};

/// The problem of a file that is YAML of another form.
const OTHER_FORM: &str = "the rules file must be a list of rules, or have that list under `rules`";

/// Reads and validates the rules of a file.
pub fn load(path: &Path) -> anyhow::Result<Vec<CheckedRule>> {
    parse(&std::fs::read_to_string(path).context("cannot read the rules file")?)
}

/// Validates the rules of a file's text.
pub fn parse(text: &str) -> anyhow::Result<Vec<CheckedRule>> {
    let document: Value = serde_norway::from_str(text).context("the rules file is not YAML")?;
    let list = match document {
        Value::Null => Vec::new(),
        Value::Array(list) => list,
        Value::Object(mut fields) if fields.len() == 1 => match fields.remove("rules") {
            Some(Value::Array(list)) => list,
            _ => bail!(OTHER_FORM),
        },
        _ => bail!(OTHER_FORM),
    };
    let (mut checks, mut taken) = (Vec::with_capacity(list.len()), HashSet::new());
    for (at, entry) in list.iter().enumerate() {
        let fields = entry.as_object().context(OTHER_FORM)?;
        let mut check = validation::check(fields, at + 1);
        // A misspelt field would silently be missing. A table may have other columns; a file has no
        // reason to.
        let unknown = fields.keys().map(String::as_str).filter(|name| !FIELDS.contains(name));
        let unknown: Vec<&str> = unknown.collect();
        if !unknown.is_empty() {
            check.add_error("fields", format!("no such field: {}", unknown.join(", ")));
        }
        if check.id.is_some_and(|id| !taken.insert(id)) {
            check.add_error("id", "another rule above has this number".to_owned());
        }
        checks.push(check);
    }
    check_together(&mut checks);
    Ok(checks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::validation::RuleStatus;

    const RULE: &str = "id: 1\n  physical_sign: heart_rate\n  threshold_max: 100\n";

    fn problems(text: &str) -> Vec<String> {
        let problems = |CheckedRule { name, checked, .. }: CheckedRule| match checked {
            RuleStatus::Invalid(problems) => {
                problems.iter().map(|one| format!("{name}: {one}")).collect()
            }
            _ => Vec::new(),
        };
        parse(text).unwrap().into_iter().flat_map(problems).collect()
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
        let checks = parse(include_str!("../../../../docs/rules.example.yaml")).unwrap();
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
