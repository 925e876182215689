//! Limits how many different times without data the rules of an installation may allow. Every
//! partition stores from when each of these windows counts.

use std::collections::BTreeSet;

use super::{CheckedRule, RuleStatus};
use crate::rules::rule::{Rule, Trigger};

/// Different windows of all rules together, at most.
const WINDOWS_MAX: usize = 64;

/// Makes the rules invalid whose window exceeds the limit, those with the greatest numbers.
pub(super) fn invalidate_surplus(checks: &mut [CheckedRule]) {
    let window = |rule: &Rule| rule.absence().filter(|_| rule.enabled).map(|one| one.window_ms);
    let mut counted: Vec<(i64, i64)> = checks
        .iter()
        .filter_map(|check| match &check.checked {
            RuleStatus::Valid(rule) => Some((rule.id, window(rule)?)),
            _ => None,
        })
        .collect();
    counted.sort_unstable();
    let mut taken = BTreeSet::new();
    for (_, window) in counted {
        if taken.len() < WINDOWS_MAX {
            taken.insert(window);
        }
    }
    for check in checks {
        let RuleStatus::Valid(rule) = &check.checked else { continue };
        if window(rule).is_some_and(|window| !taken.contains(&window)) {
            let field = match rule.trigger {
                Trigger::NoData(_) => "time_window_seconds",
                Trigger::Range(_) | Trigger::Conditions(_) => "stale_after_seconds",
            };
            let message = format!(
                "is one more than the {WINDOWS_MAX} different absences that all rules together may \
                 allow: take one that another rule has"
            );
            check.add_error(field, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rules::validation::check;
    use crate::test_support::object;

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
