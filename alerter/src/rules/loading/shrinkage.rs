//! Decides whether to take over a source that has far fewer rules than are active.
//!
//! A half-written file, a failed mount or a table under restoration looks like an operator who
//! wants no rules. To take this source over would silently close every episode.
//!
//! Pure: time comes as an argument.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use tokio::time::Instant;

use crate::rules::validation::{Check, Checked};

/// Number of active rules from which a loss of more than half of them is checked.
const RULES_MIN: usize = 10;

/// Time for which a source must stay the same before the loss is taken over.
const BELIEVED_AFTER: Duration = Duration::from_secs(300);

/// Time between two operator events about the same source.
const TOLD_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// The decision about a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Take the source over.
    Take,
    /// Leave the active rules as they are.
    Keep {
        /// Rules in the source.
        yields: usize,
        /// Whether an operator event is due.
        news: bool,
    },
}

/// State of a source that is not taken over.
#[derive(Debug, Default)]
pub struct Shrinkage {
    /// Whether the operator allows a source without rules.
    allow_no_rules: bool,
    /// Fingerprint of the source, and the time since which it is the same.
    said: Option<(u64, Instant)>,
    told: Option<Instant>,
}

impl Shrinkage {
    /// `allow_no_rules`: a source without rules is taken over.
    pub fn new(allow_no_rules: bool) -> Self {
        Self { allow_no_rules, ..Self::default() }
    }

    /// Decides about a source while `in_force` rules are active, as far as that number is known.
    pub fn judge(&mut self, in_force: Option<usize>, checks: &[Check], now: Instant) -> Verdict {
        let is_rule =
            |check: &&Check| matches!(check.checked, Checked::Valid(_) | Checked::Refused(_));
        let yields = checks.iter().filter(is_rule).count();
        let none = yields == 0 && in_force != Some(0) && !self.allow_no_rules;
        let few = yields > 0
            && in_force.is_some_and(|in_force| in_force >= RULES_MIN && yields * 2 < in_force);
        if !none && !few {
            (self.said, self.told) = (None, None);
            return Verdict::Take;
        }
        let says = fingerprint(checks);
        let since = self.said.filter(|(said, _)| *said == says).map_or(now, |(_, since)| since);
        self.said = Some((says, since));
        if few && now.duration_since(since) >= BELIEVED_AFTER {
            (self.said, self.told) = (None, None);
            return Verdict::Take;
        }
        let news = self.told.is_none_or(|told| now.duration_since(told) >= TOLD_AGAIN);
        if news {
            self.told = Some(now);
        }
        Verdict::Keep { yields, news }
    }
}

fn fingerprint(checks: &[Check]) -> u64 {
    let mut hasher = DefaultHasher::new();
    checks.iter().for_each(|check| check.form.hash(&mut hasher));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rules::validation::check;
    use crate::test_support::object;

    fn checks(count: usize) -> Vec<Check> {
        let rule = |id| json!({"id": id, "physical_sign": "heart_rate", "threshold_max": 100});
        (1..=count).map(|id| check(&object(rule(id)), id)).collect()
    }

    fn keep(yields: usize, news: bool) -> Verdict {
        Verdict::Keep { yields, news }
    }

    #[test]
    fn no_rules_are_never_believed_while_some_are_in_force_unless_somebody_means_it() {
        let (begun, day) = (Instant::now(), TOLD_AGAIN);
        let mut shrinkage = Shrinkage::new(false);
        assert_eq!(shrinkage.judge(Some(0), &[], begun), Verdict::Take, "a new installation");
        assert_eq!(shrinkage.judge(Some(1), &[], begun), keep(0, true));
        assert_eq!(shrinkage.judge(Some(1), &[], begun + day / 2), keep(0, false));
        assert_eq!(shrinkage.judge(Some(1), &[], begun + day), keep(0, true), "once a day");
        assert_eq!(shrinkage.judge(None, &[], begun + day), keep(0, false), "not known yet");
        assert_eq!(shrinkage.judge(Some(1), &checks(1), begun + day), Verdict::Take);
        assert_eq!(shrinkage.judge(Some(1), &[], begun + day), keep(0, true), "another time");
        assert_eq!(Shrinkage::new(true).judge(Some(1), &[], begun), Verdict::Take);
    }

    #[test]
    fn a_loss_of_more_than_half_is_believed_once_it_reads_the_same_for_five_minutes() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut shrinkage = Shrinkage::new(false);
        assert_eq!(shrinkage.judge(Some(9), &checks(1), begun), Verdict::Take, "of few it is none");
        assert_eq!(shrinkage.judge(Some(10), &checks(5), begun), Verdict::Take, "half of them");
        assert_eq!(shrinkage.judge(None, &checks(1), begun), Verdict::Take);
        assert_eq!(shrinkage.judge(Some(10), &checks(4), begun), keep(4, true));
        assert_eq!(shrinkage.judge(Some(10), &checks(3), at(200)), keep(3, false), "it changes");
        assert_eq!(shrinkage.judge(Some(10), &checks(3), at(499)), keep(3, false));
        assert_eq!(shrinkage.judge(Some(10), &checks(3), at(500)), Verdict::Take);
    }

    #[test]
    fn a_refused_rule_is_a_rule_and_a_deleted_one_is_none() {
        let mut shrinkage = Shrinkage::new(false);
        let refused = check(&object(json!({"id": 1})), 1);
        let deleted = check(&object(json!({"id": 1, "is_deleted": 1})), 1);
        assert_eq!(shrinkage.judge(Some(1), &[refused], Instant::now()), Verdict::Take);
        assert_eq!(shrinkage.judge(Some(1), &[deleted], Instant::now()), keep(0, true));
    }
}
