//! The rules as a starting alerter would load them, for commands that inspect rules.
//!
//! Reads the same source and the same store, and decides by the same [`RuleVersions`]. Writes nothing.

use std::collections::HashMap;

use anyhow::Context;
use serde::Serialize;

use super::last_good::{LastGoodStore, StoredVersion};
use super::versions::RuleVersions;
use crate::rules::index::RuleSet;
use crate::rules::loading::source::RuleSource;
use crate::rules::validation::{CheckedRule, RuleStatus};

/// The rules at one moment.
#[derive(Debug)]
pub struct RulesSnapshot {
    /// The accepted rules, last good versions included.
    pub rules: RuleSet,
    /// The rules that are invalid as they are written now.
    pub refused: Vec<InvalidRule>,
    /// The wall clocks at which the last good versions of invalid rules were accepted.
    pub last_good: HashMap<i64, String>,
    /// The warnings of the rules that have any.
    pub warnings: HashMap<i64, Vec<String>>,
}

/// An invalid rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InvalidRule {
    /// Number of the rule, if it has one.
    pub id: Option<i64>,
    /// Tenant of the rule; `None`: the tenant cannot be read either.
    #[serde(skip)]
    pub customer_id: Option<i64>,
    /// Problems of the rule: the field, and the remedy.
    pub problems: Vec<String>,
    /// What is evaluated instead of the rule, in words.
    pub instead: String,
}

impl RulesSnapshot {
    /// Reads the source and, if rules are invalid, the store.
    pub async fn read(source: &RuleSource, store: Option<LastGoodStore>) -> anyhow::Result<Self> {
        let checks = source.load().await?;
        let unknown = RuleVersions::default().unknown(&checks);
        let Some(store) = store else { return Ok(Self::new(checks, None)) };
        let versions = store.versions(&unknown).await.context("t_alert_rule_last_good")?;
        Ok(Self::new(checks, Some(versions)))
    }

    /// Combines these rules with the stored versions of the invalid ones; `None`: the store was not
    /// queried.
    pub fn new(checks: Vec<CheckedRule>, versions: Option<Vec<StoredVersion>>) -> Self {
        let mut accepted = RuleVersions::default();
        let asked = versions.is_some();
        let versions = versions.into_iter().flatten();
        let last_good: HashMap<i64, String> = versions
            .filter(|version| accepted.remember(version.rule_id, &version.fields, 0))
            .map(|version| (version.rule_id, version.accepted_at))
            .collect();
        let instead = |id: Option<i64>| match id.and_then(|id| last_good.get(&id)) {
            Some(at) => format!("evaluated in its last good version, accepted {at}"),
            None if asked => "not evaluated: no good version of it is kept".to_owned(),
            None => "--mysql-url tells whether a last good version of it is kept".to_owned(),
        };
        let mut refused = Vec::new();
        let mut warnings = HashMap::new();
        for check in &checks {
            if let RuleStatus::Invalid(problems) = &check.checked {
                refused.push(InvalidRule {
                    id: check.id,
                    customer_id: check.customer_id,
                    problems: problems.iter().map(ToString::to_string).collect(),
                    instead: instead(check.id),
                });
            }
            if let (Some(id), false) = (check.id, check.warnings.is_empty()) {
                warnings.insert(id, check.warnings.iter().map(ToString::to_string).collect());
            }
        }
        accepted.take(checks, 0);
        Self { rules: accepted.rules(), refused, last_good, warnings }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::loading::source;

    const FILE: &str = "[{id: 1, physical_sign: stress, threshold_max: 70},
        {id: 2, customer_id: 7, physical_sign: stress, threshold_max: oops},
        {id: 3, customer_id: x, physical_sign: stress, threshold_max: oops}]";

    fn version(rule_id: i64, fields: &str) -> StoredVersion {
        let accepted_at = "2025-09-02 12:00:00".to_owned();
        StoredVersion { rule_id, fields: fields.to_owned(), accepted_at }
    }

    #[test]
    fn refused_rules_stand_by_their_last_good_version_and_say_so() {
        let kept = version(2, r#"{"id": 2, "physical_sign": "stress", "threshold_max": 60}"#);
        let outdated = version(3, r#"{"id": 3, "physical_sign": "mood"}"#);
        let checks = || source::parse_file(FILE).unwrap();
        let snapshot = RulesSnapshot::new(checks(), Some(vec![kept, outdated]));
        let numbers: Vec<_> = snapshot.rules.all().iter().map(|rule| rule.id).collect();
        assert_eq!(numbers, [1, 2]);
        let [second, third] = &snapshot.refused[..] else { panic!("{:?}", snapshot.refused) };
        assert_eq!((second.id, second.customer_id), (Some(2), Some(7)));
        assert_eq!(second.problems, ["threshold_max: must be a number"]);
        assert_eq!(snapshot.last_good, HashMap::from([(2, "2025-09-02 12:00:00".to_owned())]));
        assert!(second.instead.ends_with("last good version, accepted 2025-09-02 12:00:00"));
        assert_eq!(third.customer_id, None);
        assert!(third.instead.starts_with("not evaluated"), "{third:?}");
        assert_eq!(third.problems.len(), 2, "{third:?}");

        let unasked = RulesSnapshot::new(checks(), None);
        assert!(unasked.refused.iter().all(|one| one.instead.starts_with("--mysql-url")));
    }
}
