//! Assembles the report on the alerts of a period, by rule and tenant.
//!
//! ```text
//! t_alert_info, outbox, log ─ rows ─► aggregate ─┐
//! outbox, log, t_alert_suppressed ─ rows ────────┼─► Report ─► print
//! t_alert_rules ─────────────────────────────────┘
//! ```
//!
//! Changes nothing. `aggregate` and `percentiles` are pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ljwx_ledger::mysql::MySqlConnection;
use serde::Serialize;

use super::aggregate::{Aggregation, AllDay, RuleStats, RuleSummary};
use super::query::ReportQuery;
use super::rows::{self, NotificationCounts};
use crate::rules::Rule;
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

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AlertReport {
    /// Start of the period, by event time.
    pub from: String,
    /// End of the period, by event time, exclusive.
    pub to: String,
    /// The zone of both times.
    pub time_zone: String,
    /// The only tenant of the report. `None`: all tenants.
    pub customer_id: Option<i64>,
    /// The figures of each rule and tenant.
    pub lines: Vec<RuleSummary>,
    /// Active rules without an open episode in the period.
    pub never_fired: Vec<NeverFired>,
    /// Rules that fire all day.
    pub all_day: Vec<AllDay>,
    /// Notes on what the figures do not include.
    pub notes: Vec<String>,
}

/// Makes the report. `rules` are the valid rules: others never fire. `now_ms` is the present time.
pub async fn make(
    connection: &mut MySqlConnection,
    question: &ReportQuery,
    rules: &RuleSet,
    now_ms: i64,
) -> anyhow::Result<AlertReport> {
    let by_id: HashMap<i64, &Rule> = rules.all().iter().map(|rule| (rule.id, &**rule)).collect();
    let mut fold = Aggregation::new(question.from_ms, question.to_ms, &by_id);
    rows::episodes(&mut *connection, question, &mut fold).await?;
    let (mut lines, mut all_day) = (BTreeMap::new(), Vec::new());
    for RuleStats { line, all_day: loud, .. } in fold.finish() {
        lines.insert((line.rule_id, line.customer_id), line);
        all_day.extend(loud);
    }
    let seen: BTreeSet<i64> = lines.keys().map(|(rule_id, _)| *rule_id).collect();
    // A notification, or a suppressed one, may belong to an episode before the period.
    let blank = |rule_id, customer_id| {
        let rule = by_id.get(&rule_id);
        let alert_type = rule.map_or_else(String::new, |rule| rule.alert_type().to_owned());
        RuleSummary { rule_id, customer_id, alert_type, ..RuleSummary::default() }
    };
    for one in rows::notifications(&mut *connection, question).await? {
        let NotificationCounts { rule_id, customer_id, what } = one;
        let line = lines.entry((rule_id, customer_id));
        line.or_insert_with(|| blank(rule_id, customer_id)).notifications.push(what);
    }
    for (rule_id, customer_id, reason, count) in rows::not_sent(connection, question).await? {
        let line = lines.entry((rule_id, customer_id));
        line.or_insert_with(|| blank(rule_id, customer_id)).suppressed.insert(reason, count);
    }
    let lines: Vec<_> = lines.into_values().collect();
    Ok(AlertReport {
        from: question.wall(question.from_ms),
        to: question.wall(question.to_ms),
        time_zone: question.zone.iana_name().unwrap_or("fixed offset").to_owned(),
        customer_id: question.customer_id,
        never_fired: never_fired(rules, question.customer_id, &seen),
        all_day,
        notes: question.notes(now_ms, lines.iter().any(|line| line.sampled)),
        lines,
    })
}

/// Returns the active rules that are not among the `seen`, of one tenant or of all.
fn never_fired(rules: &RuleSet, customer_id: Option<i64>, seen: &BTreeSet<i64>) -> Vec<NeverFired> {
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

#[cfg(test)]
mod tests {
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
}
