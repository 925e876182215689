//! Indexes the rules of all tenants, so that a reading meets only the rules that it concerns.
//!
//! Pure. A tenant without rules of its own costs nothing. A tenant with rules of its own costs no
//! copy of the template: each lookup combines the two.

pub mod fast_path;

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ljwx_reading::Vitals;

use crate::rules::index::fast_path::SafeRanges;
use crate::rules::{Rule, Slot, TEMPLATE_TENANT, Vital, VitalSet};

/// The rules of every tenant.
#[derive(Debug, Default)]
pub struct RuleSet {
    /// All rules in the order of evaluation, disabled rules included: the most severe first, then
    /// by priority, then by number.
    rules: Vec<Arc<Rule>>,
    /// The slot number of each rule.
    slots: Vec<usize>,
    /// The place of each rule in `rules`, by the rule's number.
    places: HashMap<i64, usize, ahash::RandomState>,
    template: RuleIndex,
    tenants: HashMap<i64, TenantOverrides, ahash::RandomState>,
    absence_windows: BTreeSet<i64>,
}

/// Enabled rules, as places in the list of all rules, in rising order.
#[derive(Debug, Default)]
struct RuleIndex {
    all: Vec<usize>,
    by_vital: [Vec<usize>; Vital::ALL.len()],
    safe: SafeRanges,
    /// Rules of category `NO_DATA`.
    absence: Vec<usize>,
}

/// The rules that a tenant has of its own.
#[derive(Debug, Default)]
struct TenantOverrides {
    index: RuleIndex,
    /// Slots of the tenant's rules. A disabled rule is listed only here: it still overrides the
    /// template.
    slots: HashSet<usize, ahash::RandomState>,
}

impl RuleSet {
    /// Indexes valid rules, disabled rules included, by tenant and vital.
    pub fn new<R: Into<Arc<Rule>>>(rules: impl IntoIterator<Item = R>) -> Self {
        let mut rules: Vec<Arc<Rule>> = rules.into_iter().map(Into::into).collect();
        rules.sort_by_key(|rule| (Reverse(rule.policy.severity), rule.priority, rule.id));
        let slots = slots(&rules);
        let places = rules.iter().enumerate().map(|(place, rule)| (rule.id, place)).collect();
        let mut template = RuleIndex::default();
        let mut tenants: HashMap<i64, TenantOverrides, _> = HashMap::default();
        for (place, rule) in rules.iter().enumerate() {
            if rule.customer_id == TEMPLATE_TENANT {
                template.add(place, rule);
            } else {
                let own = tenants.entry(rule.customer_id).or_default();
                own.index.add(place, rule);
                own.slots.insert(slots[place]);
            }
        }
        let enabled = rules.iter().filter(|rule| rule.enabled);
        let absence_windows = enabled.filter_map(|rule| rule.absence_window()).collect();
        Self { rules, slots, places, template, tenants, absence_windows }
    }

    /// Returns the rules that evaluate readings of `customer_id`.
    pub fn of(&self, customer_id: i64) -> TenantRules<'_> {
        TenantRules { set: self, customer_id, own: self.tenants.get(&customer_id) }
    }

    /// Returns the rule with this number if it is active for `customer_id`.
    pub fn in_force(&self, customer_id: i64, id: i64) -> Option<&Arc<Rule>> {
        self.of(customer_id).place(id).map(|place| &self.rules[place])
    }

    /// Returns the times without data that the enabled rules of all tenants allow, in milliseconds.
    pub fn absence_windows(&self) -> &BTreeSet<i64> {
        &self.absence_windows
    }

    /// Whether a rule with this number exists, active or not.
    pub fn knows(&self, id: i64) -> bool {
        self.places.contains_key(&id)
    }

    /// Returns all rules in the order of evaluation, disabled rules included.
    pub fn all(&self) -> &[Arc<Rule>] {
        &self.rules
    }
}

/// Numbers the slots. Rules of the same slot get the same number.
fn slots(rules: &[Arc<Rule>]) -> Vec<usize> {
    let mut numbers: HashMap<Slot<'_>, usize> = HashMap::new();
    let mut slots = Vec::with_capacity(rules.len());
    for rule in rules {
        let next = numbers.len();
        slots.push(*numbers.entry(rule.slot()).or_insert(next));
    }
    slots
}

impl RuleIndex {
    /// Adds a rule whose place is greater than all places added before.
    fn add(&mut self, place: usize, rule: &Rule) {
        if !rule.enabled {
            return;
        }
        self.all.push(place);
        for vital in rule.watched_vitals().iter() {
            self.by_vital[vital as usize].push(place);
        }
        self.safe.add(rule);
        if rule.is_no_data() {
            self.absence.push(place);
        }
    }
}

/// The rules of one tenant: its own, and the template rules that it does not override.
#[derive(Debug, Clone, Copy)]
pub struct TenantRules<'a> {
    set: &'a RuleSet,
    customer_id: i64,
    own: Option<&'a TenantOverrides>,
}

impl<'a> TenantRules<'a> {
    /// Returns the rules that watch any of the `fresh` vitals, each once, in the order of
    /// evaluation.
    pub fn affected(self, fresh: VitalSet) -> Vec<&'a Arc<Rule>> {
        let watching = |vital: Vital| self.listed(move |index| &index.by_vital[vital as usize]);
        self.in_order(fresh.iter().flat_map(watching).collect())
    }

    /// Returns the rules that watch `vital`, in no order.
    pub fn watching(self, vital: Vital) -> impl Iterator<Item = &'a Arc<Rule>> {
        let places = self.listed(move |index| &index.by_vital[vital as usize]);
        places.map(move |place| &self.set.rules[place])
    }

    /// Like [`Self::affected`], but only rules with these numbers.
    pub fn affected_among(
        self,
        ids: impl Iterator<Item = i64>,
        fresh: VitalSet,
    ) -> Vec<&'a Arc<Rule>> {
        let news = |place: &usize| self.set.rules[*place].watched_vitals().intersects(fresh);
        self.in_order(ids.filter_map(|id| self.place(id)).filter(news).collect())
    }

    /// Whether the `fresh` vitals change the state of no rule, except rules that have state on the
    /// device. `false` does not mean that a rule changes.
    pub fn all_in_safe_ranges(self, fresh: VitalSet, vitals: &Vitals) -> bool {
        let holds = |index: &RuleIndex| index.safe.holds(fresh, vitals);
        holds(&self.set.template) && self.own.is_none_or(|own| holds(&own.index))
    }

    /// Returns the place of the rule with this number, if the rule is active.
    fn place(self, id: i64) -> Option<usize> {
        let place = *self.set.places.get(&id)?;
        let rule = self.set.rules.get(place).filter(|rule| rule.enabled)?;
        let in_force = if rule.customer_id == TEMPLATE_TENANT {
            !self.overrides(place)
        } else {
            rule.customer_id == self.customer_id
        };
        in_force.then_some(place)
    }

    /// Returns the `NO_DATA` rules of the tenant's devices.
    pub fn on_absence(self) -> impl Iterator<Item = &'a Arc<Rule>> {
        self.in_order(self.listed(|index| &index.absence).collect()).into_iter()
    }

    /// Returns all rules of the tenant, in the order of evaluation.
    pub fn iter(self) -> impl Iterator<Item = &'a Arc<Rule>> {
        self.in_order(self.listed(|index| &index.all).collect()).into_iter()
    }

    /// Returns the places in one list: those of the template that the tenant does not override, then
    /// the tenant's own.
    fn listed(self, list: impl Fn(&'a RuleIndex) -> &'a Vec<usize>) -> impl Iterator<Item = usize> {
        let own = self.own.map(|own| list(&own.index)).into_iter().flatten();
        let inherited = list(&self.set.template).iter();
        inherited.filter(move |place| !self.overrides(**place)).chain(own).copied()
    }

    fn in_order(self, mut places: Vec<usize>) -> Vec<&'a Arc<Rule>> {
        // Not the unstable sort: the stable sort only merges these few sorted lists.
        places.sort();
        places.dedup();
        let rules = &self.set.rules;
        places.into_iter().map(|place| &rules[place]).collect()
    }

    fn overrides(self, place: usize) -> bool {
        self.own.is_some_and(|own| own.slots.contains(&self.set.slots[place]))
    }
}

#[cfg(test)]
mod tests;
