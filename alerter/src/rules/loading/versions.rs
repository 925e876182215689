//! Decides which version of each rule is active: the source's version or, if that is invalid, the
//! last good version.
//!
//! Pure: takes the rules of the source and the stored versions, and returns the versions to store.
//! [`super::last_good`] stores them. [`super::reload`] connects the two.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::rules::Rule;
use crate::rules::index::RuleSet;
use crate::rules::validation::lints::RuleWarning;
use crate::rules::validation::{self, CheckedRule, RuleStatus};

/// An accepted version of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct GoodVersion {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The rule's fields, as JSON.
    pub form: Arc<str>,
    /// Hash of the fields: 32 characters.
    pub fingerprint: String,
}

/// The identity of a stored version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionStamp {
    /// Hash of the fields: 32 characters.
    pub fingerprint: String,
    /// Time at which the version became active, in milliseconds.
    pub from_ms: i64,
}

/// The difference between the store and the accepted versions.
#[derive(Debug, Default, PartialEq)]
pub struct StoreDiff {
    /// Versions that are new or have changed, in the order of their rules.
    pub put: Vec<GoodVersion>,
    /// Rules that were removed, in their order.
    pub gone: Vec<i64>,
}

/// The result of reading the source.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SourceUpdate {
    /// Rules that are valid in the source.
    pub valid: usize,
    /// Invalid rules.
    pub refused: usize,
    /// Invalid rules whose last good version is active.
    pub last_good: usize,
    /// Valid rules that override a more severe rule of the template.
    pub weakens: usize,
    /// Valid rules whose trend or deviation cannot open an episode at one reading a minute.
    pub cannot_open: usize,
    /// Rows for device events.
    pub events: usize,
    /// Whether an accepted version is new, changed or removed.
    pub changed: bool,
    /// New problems of single rules: the rule, and its problems.
    pub new_problems: Vec<(String, String)>,
}

/// The problems of a rule as they were logged last, and the version that they concern. The same
/// text about another version is new. An invalid rule has no version.
type Complaint = (Option<i64>, String);

/// The accepted versions.
#[derive(Debug, Default)]
pub struct RuleVersions {
    good: HashMap<i64, GoodVersion>,
    /// Rules in the source, valid or invalid.
    mentioned: HashSet<i64>,
    /// Rules whose stored version is invalid for this version of the alerter.
    outdated: HashSet<i64>,
    /// Whether a stored version was restored since the source was last read.
    remembered: bool,
    complaints: HashMap<String, Complaint>,
    /// The identities of the stored versions, once they are known.
    kept: Option<HashMap<i64, VersionStamp>>,
}

impl RuleVersions {
    /// Returns the invalid rules without a good version in memory. The store may have a version.
    pub fn unknown(&self, checks: &[CheckedRule]) -> Vec<i64> {
        let refused = checks.iter().filter(|one| matches!(one.checked, RuleStatus::Invalid(_)));
        let ids: BTreeSet<i64> = refused.filter_map(|check| check.id).collect();
        let unknown = |id: &i64| !self.good.contains_key(id) && !self.outdated.contains(id);
        ids.into_iter().filter(unknown).collect()
    }

    /// Returns how many rules are accepted, or were before a restart; `None`: not known yet.
    pub fn active_count(&self) -> Option<usize> {
        match self.good.len() {
            0 => self.kept.as_ref().map(HashMap::len),
            count => Some(count),
        }
    }

    /// Returns the rules that are stored, but not in memory.
    pub fn forgotten(&self) -> Vec<i64> {
        let kept = self.kept.iter().flat_map(HashMap::keys).copied();
        let known = |id: &i64| self.good.contains_key(id) || self.outdated.contains(id);
        kept.filter(|id| !known(id)).collect()
    }

    /// Restores a stored version, at `now_ms`. Returns `false` if this version of the alerter finds
    /// it invalid.
    pub fn remember(&mut self, rule_id: i64, form: &str, now_ms: i64) -> bool {
        let fields: Map<String, Value> = serde_json::from_str(form).unwrap_or_default();
        let check = validation::check(&fields, 1);
        match check.checked {
            RuleStatus::Valid(rule) if rule.id == rule_id => {
                let from_ms = self.stored_of(rule_id).map_or(now_ms, |kept| kept.from_ms);
                let fingerprint = fingerprint(&check.form);
                let (rule, form) = (Arc::new(Rule { from_ms, ..*rule }), check.form.into());
                self.good.insert(rule_id, GoodVersion { rule, form, fingerprint });
                self.remembered = true;
                true
            }
            _ => {
                self.outdated.insert(rule_id);
                false
            }
        }
    }

    fn stored_of(&self, rule_id: i64) -> Option<&VersionStamp> {
        self.kept.as_ref()?.get(&rule_id)
    }

    /// Takes over the present rules of the source, at `now_ms`.
    pub fn take(&mut self, checks: Vec<CheckedRule>, now_ms: i64) -> SourceUpdate {
        let changed = std::mem::take(&mut self.remembered);
        let mut taken = SourceUpdate { changed, ..SourceUpdate::default() };
        let mut before = std::mem::take(&mut self.good);
        let mut complaints = HashMap::new();
        let mut refused = Vec::new();
        self.mentioned.clear();
        for (at, check) in checks.into_iter().enumerate() {
            let name = check.id.map_or_else(|| format!("at place {}", at + 1), |id| id.to_string());
            let mut version = None;
            let mut said: Vec<String> = check.warnings.iter().map(ToString::to_string).collect();
            match check.checked {
                RuleStatus::Valid(rule) => {
                    self.mentioned.insert(rule.id);
                    for warning in &check.warnings {
                        match warning {
                            RuleWarning::Weakens(_) => taken.weakens += 1,
                            RuleWarning::CannotOpen(_) => taken.cannot_open += 1,
                            RuleWarning::Doubt(_) => {}
                        }
                    }
                    version = Some(rule.version);
                    let known = before.remove(&rule.id);
                    let (good, changed) = self.accept(*rule, check.form, known, now_ms);
                    taken.changed |= changed;
                    self.good.insert(good.rule.id, good);
                }
                RuleStatus::Deleted => {}
                RuleStatus::Event => taken.events += 1,
                RuleStatus::Invalid(problems) => {
                    said.extend(problems.iter().map(ToString::to_string));
                    taken.refused += 1;
                    refused.extend(check.id);
                }
            }
            if !said.is_empty() {
                complaints.insert(name, (version, said.join("; ")));
            }
        }
        taken.valid = self.good.len();
        for id in refused {
            self.mentioned.insert(id);
            // If two rules have the same number, the valid rule keeps it.
            if let Some(good) = before.remove(&id) {
                self.good.insert(id, good);
                taken.last_good += 1;
            }
        }
        taken.changed |= !before.is_empty();
        let new =
            complaints.iter().filter(|(name, said)| self.complaints.get(*name) != Some(*said));
        taken.new_problems = new.map(|(name, (_, said))| (name.clone(), said.clone())).collect();
        taken.new_problems.sort();
        self.complaints = complaints;
        taken
    }

    /// Returns the version of a valid rule of the source, and whether it differs from the `known`
    /// version.
    fn accept(
        &self,
        rule: Rule,
        form: String,
        known: Option<GoodVersion>,
        now_ms: i64,
    ) -> (GoodVersion, bool) {
        let known = match known {
            Some(known) if *known.form == *form => return (known, false),
            known => known.map(|known| known.rule),
        };
        let fingerprint = fingerprint(&form);
        let from_ms = match known {
            // An edit that keeps the version number keeps the start of the version too. But time
            // without data is not counted while a rule is disabled.
            Some(known) => {
                let goes_on = known.version == rule.version && (known.enabled || !rule.enabled);
                if goes_on { known.from_ms } else { now_ms }
            }
            // After a restart: if the fingerprint is equal, the version is the same.
            None => {
                let kept = self.stored_of(rule.id).filter(|kept| kept.fingerprint == fingerprint);
                kept.map_or(now_ms, |kept| kept.from_ms)
            }
        };
        let (rule, form) = (Arc::new(Rule { from_ms, ..rule }), form.into());
        (GoodVersion { rule, form, fingerprint }, true)
    }

    /// Returns the set of accepted rules.
    pub fn rules(&self) -> RuleSet {
        RuleSet::new(self.good.values().map(|good| Arc::clone(&good.rule)))
    }

    /// Returns the difference between the store and the accepted versions; `None`: the stored
    /// versions are not known yet.
    pub fn store_diff(&self) -> Option<StoreDiff> {
        let kept = self.kept.as_ref()?;
        let is_kept = |good: &GoodVersion| {
            kept.get(&good.rule.id).is_some_and(|kept| kept.fingerprint == good.fingerprint)
        };
        let new = self.good.values().filter(|good| !is_kept(good));
        let mut put: Vec<GoodVersion> = new.cloned().collect();
        // Sorted, so that two replicas never deadlock.
        put.sort_by_key(|good| good.rule.id);
        let mut gone: Vec<i64> =
            kept.keys().copied().filter(|id| !self.mentioned.contains(id)).collect();
        gone.sort_unstable();
        Some(StoreDiff { put, gone })
    }

    /// Sets the identities of the stored versions.
    pub fn set_stored(&mut self, kept: HashMap<i64, VersionStamp>) {
        self.kept = Some(kept);
    }

    /// Records that these versions are stored now, and nothing of the rules that are `gone`.
    pub fn stored(&mut self, put: &[GoodVersion], gone: &[i64]) {
        let Some(kept) = &mut self.kept else { return };
        kept.extend(put.iter().map(|good| {
            let (fingerprint, from_ms) = (good.fingerprint.clone(), good.rule.from_ms);
            (good.rule.id, VersionStamp { fingerprint, from_ms })
        }));
        for rule_id in gone {
            kept.remove(rule_id);
        }
    }
}

fn fingerprint(form: &str) -> String {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, form.as_bytes()).simple().to_string()
}

#[cfg(test)]
#[path = "versions_tests.rs"]
mod tests;
