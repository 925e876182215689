//! Decides whether to take over a source that has far fewer rules than are active.
//!
//! A half-written file, a failed mount or a table under restoration looks like an operator who
//! wants no rules. To take this source over would silently close every episode.
//!
//! Pure: time comes as an argument.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use tokio::time::Instant;

use crate::rules::validation::{CheckedRule, RuleStatus};

/// Number of active rules from which a loss of more than half of them is checked.
const RULES_MIN: usize = 10;

/// Time for which a source must stay the same before the loss is taken over.
const TAKEN_AFTER: Duration = Duration::from_secs(300);

/// Time between two operator events about the same source.
const EVENT_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// The decision about a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceDecision {
    /// Take the source over.
    Take,
    /// Leave the active rules as they are.
    Ignore {
        /// Rules in the source.
        yields: usize,
        /// Whether an operator event is due.
        event_due: bool,
    },
}

/// State of a source that is not taken over.
#[derive(Debug, Default)]
pub struct SourceGuard {
    /// Whether the operator allows a source without rules.
    allow_no_rules: bool,
    /// Fingerprint of the source, and the time since which it is the same.
    source_state: Option<(u64, Instant)>,
    event_at: Option<Instant>,
}

impl SourceGuard {
    /// `allow_no_rules`: a source without rules is taken over.
    pub fn new(allow_no_rules: bool) -> Self {
        Self { allow_no_rules, ..Self::default() }
    }

    /// Decides about a source while `in_force` rules are active, as far as that number is known.
    pub fn decide(
        &mut self,
        in_force: Option<usize>,
        checks: &[CheckedRule],
        now: Instant,
    ) -> SourceDecision {
        let is_rule = |check: &&CheckedRule| {
            matches!(check.checked, RuleStatus::Valid(_) | RuleStatus::Invalid(_))
        };
        let yields = checks.iter().filter(is_rule).count();
        let none = yields == 0 && in_force != Some(0) && !self.allow_no_rules;
        let few = yields > 0
            && in_force.is_some_and(|in_force| in_force >= RULES_MIN && yields * 2 < in_force);
        if !none && !few {
            (self.source_state, self.event_at) = (None, None);
            return SourceDecision::Take;
        }
        let forms: Vec<&str> = checks.iter().map(|check| check.form.as_str()).collect();
        let says = BuildHasherDefault::<DefaultHasher>::default().hash_one(forms);
        let since = match self.source_state {
            Some((source_state, since)) if source_state == says => since,
            _ => now,
        };
        self.source_state = Some((says, since));
        if few && now.duration_since(since) >= TAKEN_AFTER {
            (self.source_state, self.event_at) = (None, None);
            return SourceDecision::Take;
        }
        let event_due =
            self.event_at.is_none_or(|event_at| now.duration_since(event_at) >= EVENT_INTERVAL);
        if event_due {
            self.event_at = Some(now);
        }
        SourceDecision::Ignore { yields, event_due }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::validation::check;
    use crate::test_support::object;

    fn checks(count: usize) -> Vec<CheckedRule> {
        let rule = |id| json!({"id": id, "physical_sign": "heart_rate", "threshold_max": 100});
        (1..=count).map(|id| check(&object(rule(id)), id)).collect()
    }

    fn keep(yields: usize, event_due: bool) -> SourceDecision {
        SourceDecision::Ignore { yields, event_due }
    }

    #[test]
    fn no_rules_are_never_believed_while_some_are_in_force_unless_somebody_means_it() {
        let (begun, day) = (Instant::now(), EVENT_INTERVAL);
        let mut shrinkage = SourceGuard::new(false);
        assert_eq!(
            shrinkage.decide(Some(0), &[], begun),
            SourceDecision::Take,
            "a new installation"
        );
        assert_eq!(shrinkage.decide(Some(1), &[], begun), keep(0, true));
        assert_eq!(shrinkage.decide(Some(1), &[], begun + day / 2), keep(0, false));
        assert_eq!(shrinkage.decide(Some(1), &[], begun + day), keep(0, true), "once a day");
        assert_eq!(shrinkage.decide(None, &[], begun + day), keep(0, false), "not known yet");
        assert_eq!(shrinkage.decide(Some(1), &checks(1), begun + day), SourceDecision::Take);
        assert_eq!(shrinkage.decide(Some(1), &[], begun + day), keep(0, true), "another time");
        assert_eq!(SourceGuard::new(true).decide(Some(1), &[], begun), SourceDecision::Take);
    }

    #[test]
    fn a_loss_of_more_than_half_is_believed_once_it_reads_the_same_for_five_minutes() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut shrinkage = SourceGuard::new(false);
        assert_eq!(
            shrinkage.decide(Some(9), &checks(1), begun),
            SourceDecision::Take,
            "of few it is none"
        );
        assert_eq!(
            shrinkage.decide(Some(10), &checks(5), begun),
            SourceDecision::Take,
            "half of them"
        );
        assert_eq!(shrinkage.decide(None, &checks(1), begun), SourceDecision::Take);
        assert_eq!(shrinkage.decide(Some(10), &checks(4), begun), keep(4, true));
        assert_eq!(shrinkage.decide(Some(10), &checks(3), at(200)), keep(3, false), "it changes");
        assert_eq!(shrinkage.decide(Some(10), &checks(3), at(499)), keep(3, false));
        assert_eq!(shrinkage.decide(Some(10), &checks(3), at(500)), SourceDecision::Take);
    }

    #[test]
    fn a_refused_rule_is_a_rule_and_a_deleted_one_is_none() {
        let mut shrinkage = SourceGuard::new(false);
        let refused = check(&object(json!({"id": 1})), 1);
        let deleted = check(&object(json!({"id": 1, "is_deleted": 1})), 1);
        assert_eq!(shrinkage.decide(Some(1), &[refused], Instant::now()), SourceDecision::Take);
        assert_eq!(shrinkage.decide(Some(1), &[deleted], Instant::now()), keep(0, true));
    }
}
