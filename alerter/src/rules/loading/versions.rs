//! Which version of each rule stands: the one its source holds, or the last good one where that is
//! refused.
//!
//! Pure: what a source says comes in, and so does what was kept of earlier ones; what is to be kept
//! comes out. [`super::last_good`] keeps it, [`super::reload`] carries between the two.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::rules::index::RuleSet;
use crate::rules::rule::Rule;
use crate::rules::validation::{self, Check, Checked};

/// A version of a rule that was accepted.
#[derive(Debug, Clone)]
struct Good {
    rule: Arc<Rule>,
    form: Arc<str>,
    fingerprint: String,
}

impl Good {
    fn new(rule: Rule, form: String, from: impl FnOnce(&str) -> i64) -> Self {
        let fingerprint = Uuid::new_v5(&Uuid::NAMESPACE_OID, form.as_bytes()).simple().to_string();
        let from_ms = from(&fingerprint);
        Self { rule: Arc::new(Rule { from_ms, ..rule }), form: form.into(), fingerprint }
    }
}

/// The form of an accepted rule, to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Number of the rule.
    pub rule_id: i64,
    /// Its fields, as JSON.
    pub form: Arc<str>,
    /// How it is known again.
    pub known_by: KnownBy,
}

/// How an accepted version is known again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBy {
    /// Short for the form: 32 characters.
    pub fingerprint: String,
    /// When it came into force, in milliseconds.
    pub from_ms: i64,
}

/// How what is kept differs from what should be.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unkept {
    /// Forms that are new or have changed, in the order of their rules.
    pub put: Vec<Kept>,
    /// Rules that are gone, in their order.
    pub gone: Vec<i64>,
}

/// What a look at the source came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Rules that stand as the source has them.
    pub valid: usize,
    /// Rules that are refused.
    pub refused: usize,
    /// Of these, the ones whose last good version stands.
    pub last_good: usize,
    /// Rows for device events.
    pub events: usize,
    /// Whether anything stands that did not before, or the other way round.
    pub changed: bool,
    /// What is to be said of single rules that was not said before: the rule, and its problems.
    pub news: Vec<(String, String)>,
}

/// The versions that stand.
#[derive(Debug, Default)]
pub struct Accepted {
    good: HashMap<i64, Good>,
    /// Rules that the source mentions, good or bad.
    mentioned: HashSet<i64>,
    /// Rules whose kept form is of no use to this version of the program.
    outdated: HashSet<i64>,
    /// Whether a kept version came back since the last look at the source.
    remembered: bool,
    complaints: HashMap<String, String>,
    /// What is kept, once that is known.
    kept: Option<HashMap<i64, KnownBy>>,
}

impl Accepted {
    /// Refused rules of which no good version is known here; it may be kept.
    pub fn unknown(&self, checks: &[Check]) -> Vec<i64> {
        let refused = checks.iter().filter(|one| matches!(one.checked, Checked::Refused(_)));
        let ids: BTreeSet<i64> = refused.filter_map(|check| check.id).collect();
        let unknown = |id: &i64| !self.good.contains_key(id) && !self.outdated.contains(id);
        ids.into_iter().filter(unknown).collect()
    }

    /// How many rules are in force, or were before a restart; `None` while that is not known.
    pub fn standing(&self) -> Option<usize> {
        if self.good.is_empty() {
            self.kept.as_ref().map(HashMap::len)
        } else {
            Some(self.good.len())
        }
    }

    /// Rules of which nothing is known here but that they are kept.
    pub fn forgotten(&self) -> Vec<i64> {
        let kept = self.kept.iter().flat_map(HashMap::keys).copied();
        let known = |id: &i64| self.good.contains_key(id) || self.outdated.contains(id);
        kept.filter(|id| !known(id)).collect()
    }

    /// Takes in, at `now_ms`, what was kept of a rule; `false` where this version of the program refuses
    /// it.
    pub fn remember(&mut self, rule_id: i64, form: &str, now_ms: i64) -> bool {
        let fields: Map<String, Value> = serde_json::from_str(form).unwrap_or_default();
        let check = validation::check(&fields, 1);
        match check.checked {
            Checked::Valid(rule) if rule.id == rule_id => {
                let from_ms = self.kept_of(rule_id).map_or(now_ms, |kept| kept.from_ms);
                self.good.insert(rule_id, Good::new(*rule, check.form, |_| from_ms));
                self.remembered = true;
                true
            }
            _ => {
                self.outdated.insert(rule_id);
                false
            }
        }
    }

    fn kept_of(&self, rule_id: i64) -> Option<&KnownBy> {
        self.kept.as_ref()?.get(&rule_id)
    }

    /// Takes in what the source says now, at `now_ms`.
    pub fn take(&mut self, checks: Vec<Check>, now_ms: i64) -> Taken {
        let mut taken = Taken { changed: self.remembered, ..Taken::default() };
        let mut before = std::mem::take(&mut self.good);
        let mut complaints = HashMap::new();
        let mut refused = Vec::new();
        self.remembered = false;
        self.mentioned.clear();
        for (at, check) in checks.into_iter().enumerate() {
            let name = check.id.map_or_else(|| format!("at place {}", at + 1), |id| id.to_string());
            let mut said = check.warnings;
            match check.checked {
                Checked::Valid(rule) => {
                    self.mentioned.insert(rule.id);
                    let good = match before.remove(&rule.id) {
                        Some(known) if *known.form == *check.form => known,
                        // An edit of what makes no other version leaves it in force.
                        Some(known) if known.rule.version == rule.version => {
                            taken.changed = true;
                            // What nobody counted while it was off cannot be missing since then.
                            let begins = rule.enabled && !known.rule.enabled;
                            let from_ms = if begins { now_ms } else { known.rule.from_ms };
                            Good::new(*rule, check.form, |_| from_ms)
                        }
                        known => {
                            taken.changed = true;
                            // As a restart finds it; only what is the same is the same version.
                            let kept = self.kept_of(rule.id).filter(|_| known.is_none());
                            let from = |fingerprint: &str| {
                                kept.filter(|kept| kept.fingerprint == fingerprint)
                                    .map_or(now_ms, |kept| kept.from_ms)
                            };
                            Good::new(*rule, check.form, from)
                        }
                    };
                    self.good.insert(good.rule.id, good);
                }
                Checked::Deleted => {}
                Checked::Event => taken.events += 1,
                Checked::Refused(problems) => {
                    said.extend(
                        problems.iter().map(|one| format!("{}: {}", one.field, one.message)),
                    );
                    taken.refused += 1;
                    refused.extend(check.id);
                }
            }
            if !said.is_empty() {
                complaints.insert(name, said.join("; "));
            }
        }
        taken.valid = self.good.len();
        for id in refused {
            self.mentioned.insert(id);
            // Where two rules claim one number, the one that is good has it.
            if let Some(good) = before.remove(&id) {
                self.good.insert(id, good);
                taken.last_good += 1;
            }
        }
        taken.changed |= !before.is_empty();
        taken.news = self.complain(complaints);
        taken
    }

    /// The rules that follow.
    pub fn rules(&self) -> RuleSet {
        RuleSet::new(self.good.values().map(|good| Arc::clone(&good.rule)))
    }

    /// How what is kept differs from what should be; `None` while it is not known what is kept.
    pub fn unkept(&self) -> Option<Unkept> {
        let kept = self.kept.as_ref()?;
        let is_kept =
            |id, good: &Good| kept.get(id).is_some_and(|kept| kept.fingerprint == good.fingerprint);
        let new = self.good.iter().filter(|(id, good)| !is_kept(id, good));
        let mut put: Vec<Kept> = new
            .map(|(id, good)| Kept {
                rule_id: *id,
                form: Arc::clone(&good.form),
                known_by: KnownBy {
                    fingerprint: good.fingerprint.clone(),
                    from_ms: good.rule.from_ms,
                },
            })
            .collect();
        // In one order, so that two replicas never wait for each other in a circle.
        put.sort_by_key(|kept| kept.rule_id);
        let mut gone: Vec<i64> =
            kept.keys().copied().filter(|id| !self.mentioned.contains(id)).collect();
        gone.sort_unstable();
        Some(Unkept { put, gone })
    }

    /// Notes what is kept.
    pub fn found_kept(&mut self, kept: HashMap<i64, KnownBy>) {
        self.kept = Some(kept);
    }

    /// Notes that these forms are kept now.
    pub fn put(&mut self, forms: &[Kept]) {
        let forms = forms.iter().map(|form| (form.rule_id, form.known_by.clone()));
        if let Some(kept) = &mut self.kept {
            kept.extend(forms);
        }
    }

    /// Notes that nothing is kept of these rules any more.
    pub fn removed(&mut self, rules: &[i64]) {
        for rule_id in rules {
            self.kept.as_mut().and_then(|kept| kept.remove(rule_id));
        }
    }

    /// What of `complaints` was not said before; they are what was said from now on.
    fn complain(&mut self, complaints: HashMap<String, String>) -> Vec<(String, String)> {
        let before = std::mem::replace(&mut self.complaints, complaints);
        let new = self.complaints.iter().filter(|(rule, said)| before.get(*rule) != Some(*said));
        let mut news: Vec<_> = new.map(|(rule, said)| (rule.clone(), said.clone())).collect();
        news.sort();
        news
    }
}

#[cfg(test)]
#[path = "versions_tests.rs"]
mod tests;
