//! Finds what needs attention: rules that never fire, and gaps in the figures.
//!
//! Pure.

use std::collections::BTreeSet;

use serde::Serialize;

use super::query::ReportQuery;
use crate::notify::outbox::KEPT_DAYS;
use crate::rules::index::RuleSet;

/// An active rule that did not fire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NeverFired {
    /// The rule.
    pub rule_id: i64,
    /// The rule's tenant. 0: the template of all tenants.
    pub customer_id: i64,
    /// The platform's word for the kind of alert.
    pub alert_type: String,
}

/// Returns the active rules that are not among the `seen`, of one tenant or of all.
pub fn never_fired(
    rules: &RuleSet,
    customer_id: Option<i64>,
    seen: &BTreeSet<i64>,
) -> Vec<NeverFired> {
    let rules: Vec<_> = match customer_id {
        // Of a tenant's rules, include those of the template that the tenant does not override.
        Some(customer_id) => rules.of(customer_id).iter().collect(),
        None => rules.all().iter().filter(|rule| rule.enabled).collect(),
    };
    let silent = rules.into_iter().filter(|rule| !seen.contains(&rule.id));
    let mut found: Vec<_> = silent
        .map(|rule| NeverFired {
            rule_id: rule.id,
            customer_id: rule.customer_id,
            alert_type: rule.alert_type().to_owned(),
        })
        .collect();
    found.sort_by_key(|one| one.rule_id);
    found
}

/// Returns notes on what the figures do not include.
pub fn notes(question: &ReportQuery, now_ms: i64, sampled: bool) -> Vec<String> {
    let mut notes = Vec::new();
    let kept_from = now_ms - KEPT_DAYS * 86_400_000;
    if question.from_ms < kept_from {
        notes.push(format!(
            "notifications are kept for {KEPT_DAYS} days after they are done with: those recorded \
             before {} are not counted, and the times from their recording are not known",
            question.wall(kept_from)
        ));
    }
    let (first, last) = question.days();
    let whole_days = question.wall(question.from_ms).ends_with(" 00:00:00")
        && question.wall(question.to_ms).ends_with(" 00:00:00");
    if !whole_days {
        notes.push(format!(
            "notifications not sent are counted by the day: these are of {first} to {last}, whole"
        ));
    }
    if sampled {
        notes.push("times are of every second, fourth … episode where a rule has many".to_owned());
    }
    notes
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use serde_json::json;

    use super::*;
    use crate::test_support::rule;

    #[test]
    fn a_rule_in_force_that_never_fired_is_named() {
        let rules = RuleSet::new([
            rule(json!({"id": 1, "customer_id": 0})),
            rule(json!({"id": 2, "customer_id": 0, "physical_sign": "stress"})),
            rule(json!({"id": 3, "customer_id": 7})),
            rule(json!({"id": 4, "customer_id": 8, "physical_sign": "step", "is_enabled": false})),
        ]);
        for (customer_id, seen, expected) in [
            (None, &[][..], &[1, 2, 3][..]),
            (None, &[2, 3], &[1]),
            (Some(7), &[], &[2, 3]),
            (Some(7), &[2, 3], &[]),
            (Some(8), &[], &[1, 2]),
            (Some(9), &[1], &[2]),
        ] {
            let seen = seen.iter().copied().collect();
            let found = never_fired(&rules, customer_id, &seen);
            let ids: Vec<_> = found.iter().map(|one| one.rule_id).collect();
            assert_eq!(ids, expected, "{customer_id:?} {seen:?}");
        }
    }

    #[test]
    fn what_the_numbers_do_not_include_is_said() {
        let day = 86_400_000;
        let question =
            |from_ms, to_ms| ReportQuery { from_ms, to_ms, customer_id: None, zone: TimeZone::UTC };
        for (from_ms, to_ms, sampled, said) in [
            (70 * day, 100 * day, false, &[][..]),
            (70 * day - 1_000, 100 * day, false, &["30 days", "by the day"]),
            (69 * day, 100 * day, false, &["before 1970-03-12 00:00:00"]),
            (98 * day, 99 * day + 1_000, false, &["1970-04-09 to 1970-04-10"]),
            (98 * day, 99 * day, true, &["every second"]),
        ] {
            let notes = notes(&question(from_ms, to_ms), 100 * day, sampled);
            assert_eq!(notes.len(), said.len(), "{notes:?}");
            let all = notes.iter().zip(said).all(|(note, said)| note.contains(said));
            assert!(all, "{notes:?}");
        }
    }
}
