//! Checks what the rules of an installation make together. The rules alone are valid.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use super::lints::RuleWarning;
use super::{CheckedRule, RuleStatus};
use crate::rules::{Rule, Slot, TEMPLATE_TENANT};

/// Different times without data of all rules together, at most. Every partition stores from when
/// each of these windows counts.
const WINDOWS_MAX: usize = 64;

/// Most overridden rules that one warning names.
const NAMED_MAX: usize = 10;

/// Makes rules invalid that exceed a limit of all rules, and adds the warnings that follow from
/// other rules.
pub fn check_together(checks: &mut [CheckedRule]) {
    invalidate_surplus(checks);
    let weakened = weakened(checks);
    for (check, rules) in checks.iter_mut().zip(weakened) {
        check.warnings.extend(rules.map(RuleWarning::Weakens));
    }
}

/// Makes the rules invalid whose window exceeds the limit, those with the greatest numbers.
fn invalidate_surplus(checks: &mut [CheckedRule]) {
    let window = |check: &CheckedRule| enabled(check)?.absence_window();
    let mut counted: Vec<_> =
        checks.iter().filter_map(|check| Some((check.id, window(check)?))).collect();
    counted.sort_unstable();
    let mut taken = BTreeSet::new();
    for (_, window) in counted {
        if taken.len() < WINDOWS_MAX {
            taken.insert(window);
        }
    }
    for check in checks {
        if window(check).is_none_or(|window| taken.contains(&window)) {
            continue;
        }
        let is_no_data = enabled(check).is_some_and(Rule::is_no_data);
        let field = if is_no_data { "time_window_seconds" } else { "stale_after_seconds" };
        let message = format!(
            "is one more than the {WINDOWS_MAX} different absences that all rules together may \
             allow: take one that another rule has"
        );
        check.add_error(field, message);
    }
}

/// Returns for each rule the more severe rules of the template that it overrides. A disabled rule
/// is less severe on purpose.
fn weakened(checks: &[CheckedRule]) -> Vec<Option<Vec<i64>>> {
    let mut template: HashMap<Slot<'_>, Vec<&Rule>> = HashMap::new();
    let inherited = checks.iter().filter_map(enabled);
    for rule in inherited.filter(|rule| rule.customer_id == TEMPLATE_TENANT) {
        template.entry(rule.slot()).or_default().push(rule);
    }
    // Sorted, so that each rule of a tenant meets only those that are more severe.
    template.values_mut().for_each(|rules| {
        rules.sort_by_key(|rule| Reverse(rule.policy.severity));
    });
    let weakened = |check| {
        let own = enabled(check).filter(|rule| rule.customer_id != TEMPLATE_TENANT)?;
        let rules = template.get(&own.slot())?.iter();
        let worse = rules.take_while(|rule| rule.policy.severity > own.policy.severity);
        let worse: Vec<i64> = worse.map(|rule| rule.id).take(NAMED_MAX).collect();
        (!worse.is_empty()).then_some(worse)
    };
    checks.iter().map(weakened).collect()
}

fn enabled(check: &CheckedRule) -> Option<&Rule> {
    match &check.checked {
        RuleStatus::Valid(rule) if rule.enabled => Some(rule),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rules::validation::check;
    use crate::test_support::{merged, object};

    /// Returns the rules that each of these rules is said to weaken.
    fn said_to_weaken(rules: &[Value]) -> Vec<(i64, Vec<i64>)> {
        let base = json!({"rule_type": "metric", "physical_sign": "heart_rate",
            "threshold_max": 100, "severity_level": "major"});
        let written = rules.iter().map(|fields| merged(base.clone(), fields.clone()));
        let mut checks: Vec<_> = written.map(|rule| check(&object(rule), 1)).collect();
        check_together(&mut checks);
        let weakens = |check: CheckedRule| match &check.warnings[..] {
            [RuleWarning::Weakens(rules)] => Some((check.id?, rules.clone())),
            _ => None,
        };
        checks.into_iter().filter_map(weakens).collect()
    }

    #[test]
    fn a_rule_that_is_less_severe_than_the_one_that_it_overrides_is_said_to_weaken_it() {
        let template = json!({"id": 1, "customer_id": 0});
        for (own, found) in [
            (json!({"severity_level": "moderate"}), true),
            (json!({"severity_level": "major"}), false),
            (json!({"severity_level": "critical"}), false),
            (json!({"severity_level": "moderate", "is_enabled": 0}), false),
            (json!({"severity_level": "moderate", "is_deleted": 1}), false),
            (json!({"severity_level": "moderate", "trend_duration": 0}), false),
            (json!({"severity_level": "moderate", "rule_type": "other"}), false),
            (json!({"severity_level": "moderate", "physical_sign": "stress"}), false),
            (json!({"severity_level": "moderate", "customer_id": 0}), false),
        ] {
            let own = merged(json!({"id": 2, "customer_id": 7}), own);
            let expected = if found { vec![(2, vec![1])] } else { Vec::new() };
            assert_eq!(said_to_weaken(&[own.clone(), template.clone()]), expected, "{own}");
        }
        let own = json!({"id": 2, "customer_id": 7, "severity_level": "moderate"});
        let disabled = json!({"id": 1, "customer_id": 0, "is_enabled": 0});
        assert!(said_to_weaken(&[own, disabled]).is_empty(), "it is not evaluated anyway");
    }

    #[test]
    fn the_most_severe_of_the_overridden_rules_are_named_first_and_no_more_than_ten() {
        let severities = ["minor", "critical", "major"];
        let of_template = |(place, severity): (usize, &&str)| {
            json!({"id": place + 1, "customer_id": 0,
                "severity_level": severity})
        };
        let mut rules: Vec<Value> = severities.iter().enumerate().map(of_template).collect();
        let own = |id: i64| json!({"id": id, "customer_id": id, "severity_level": "moderate"});
        rules.extend([own(7), own(8)]);
        assert_eq!(said_to_weaken(&rules), [(7, vec![2, 3]), (8, vec![2, 3])]);
        let many = (100..120).map(|id| json!({"id": id, "customer_id": 0}));
        let rules: Vec<Value> = many.chain([own(7)]).collect();
        let first_ten: Vec<i64> = (100..110).collect();
        assert_eq!(said_to_weaken(&rules), [(7, first_ten)]);
    }

    fn silent(id: usize, window: usize) -> Value {
        json!({"id": id, "rule_category": "NO_DATA", "time_window_seconds": window})
    }

    #[test]
    fn the_sixty_fifth_window_is_refused_by_name_and_a_known_one_is_not() {
        // The rule with the smallest number comes last and has a window of its own.
        let mut rules: Vec<_> = (2..=65).map(|id| silent(id, 100 + id)).collect();
        rules.extend([
            json!({"id": 66, "physical_sign": "heart_rate", "threshold_max": 100,
                "stale_after_seconds": 102}),
            json!({"id": 67, "physical_sign": "heart_rate", "threshold_max": 100,
                "stale_after_seconds": 900}),
            json!({"id": 68, "rule_category": "NO_DATA", "time_window_seconds": 901,
                "is_enabled": 0}),
            silent(1, 800),
        ]);
        let checks = rules.into_iter().map(|rule| check(&object(rule), 1));
        let mut checks: Vec<_> = checks.collect();
        invalidate_surplus(&mut checks);
        let refused: Vec<_> = checks
            .iter()
            .filter_map(|check| match &check.checked {
                RuleStatus::Invalid(problems) => Some((check.id?, problems[0].field)),
                _ => None,
            })
            .collect();
        assert_eq!(refused, [(65, "time_window_seconds"), (67, "stale_after_seconds")]);
    }
}
