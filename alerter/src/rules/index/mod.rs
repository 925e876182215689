//! The rules of all tenants, so arranged that a reading meets only those it concerns.
//!
//! Pure. A tenant that has no rules of its own costs nothing, and one that has costs no copy of the
//! template: the two are put together when a reading asks.

pub mod fast_path;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ljwx_reading::Vitals;

use crate::rules::index::fast_path::Quiet;
use crate::rules::rule::{Rule, Slot, TEMPLATE_TENANT, Watch};
use crate::rules::vital::{Sign, Signs};

/// Rules of every tenant.
#[derive(Debug, Default)]
pub struct RuleSet {
    /// In the order they are judged, disabled ones included.
    rules: Vec<Arc<Rule>>,
    /// The slot of each of them, by number.
    slots: Vec<usize>,
    /// Where the rule with a number stands among them.
    places: HashMap<i64, usize>,
    template: Index,
    tenants: HashMap<i64, Own>,
    absence_windows: BTreeSet<i64>,
}

/// Enabled rules, as places among all rules, in rising order.
#[derive(Debug, Default)]
struct Index {
    all: Vec<usize>,
    by_sign: [Vec<usize>; Sign::ALL.len()],
    quiet: Quiet,
    /// Those that tell of an absence.
    absence: Vec<usize>,
}

/// What a tenant has of its own.
#[derive(Debug, Default)]
struct Own {
    index: Index,
    /// Slots of its rules. A disabled one has done its work once it keeps the template's out.
    slots: HashSet<usize>,
}

/// Two sets are the same where their rules are: everything else follows from them.
impl PartialEq for RuleSet {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl RuleSet {
    /// Sorts valid rules, disabled ones included, by tenant and sign.
    pub fn new<R: Into<Arc<Rule>>>(rules: impl IntoIterator<Item = R>) -> Self {
        let mut rules: Vec<Arc<Rule>> = rules.into_iter().map(Into::into).collect();
        rules.sort_by_key(|rule| (rule.priority, rule.id));
        let slots = slots(&rules);
        let places = rules.iter().enumerate().map(|(place, rule)| (rule.id, place)).collect();
        let mut template = Index::default();
        let mut tenants: HashMap<i64, Own> = HashMap::new();
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
        let absences = enabled.filter_map(|rule| rule.absence());
        let absence_windows = absences.map(|absence| absence.window_ms).collect();
        Self { rules, slots, places, template, tenants, absence_windows }
    }

    /// The rules that readings of `customer_id` are judged by.
    pub fn of(&self, customer_id: i64) -> TenantRules<'_> {
        TenantRules { set: self, customer_id, own: self.tenants.get(&customer_id) }
    }

    /// The rule with this number, where it is in force for `customer_id`.
    pub fn in_force(&self, customer_id: i64, id: i64) -> Option<&Arc<Rule>> {
        self.of(customer_id).place(id).map(|place| &self.rules[place])
    }

    /// The absences that the enabled rules of all tenants allow, in milliseconds.
    pub fn absence_windows(&self) -> &BTreeSet<i64> {
        &self.absence_windows
    }

    /// Whether a rule with this number exists, in force or not.
    pub fn knows(&self, id: i64) -> bool {
        self.places.contains_key(&id)
    }

    /// All of them in the order they are judged, disabled ones included.
    pub fn all(&self) -> &[Arc<Rule>] {
        &self.rules
    }
}

/// Numbers slots, the same for rules of the same one.
fn slots(rules: &[Arc<Rule>]) -> Vec<usize> {
    let mut numbers: HashMap<Slot<'_>, usize> = HashMap::new();
    let mut slots = Vec::with_capacity(rules.len());
    for rule in rules {
        let next = numbers.len();
        slots.push(*numbers.entry(rule.slot()).or_insert(next));
    }
    slots
}

impl Index {
    /// Adds what comes after all that was added before.
    fn add(&mut self, place: usize, rule: &Rule) {
        if !rule.enabled {
            return;
        }
        self.all.push(place);
        for sign in rule.signs().iter() {
            self.by_sign[sign as usize].push(place);
        }
        self.quiet.add(rule);
        if matches!(rule.watch, Watch::Absence(_)) {
            self.absence.push(place);
        }
    }
}

/// The rules of one tenant: its own, and those of the template that it does not override.
#[derive(Debug, Clone, Copy)]
pub struct TenantRules<'a> {
    set: &'a RuleSet,
    customer_id: i64,
    own: Option<&'a Own>,
}

impl<'a> TenantRules<'a> {
    /// The rules to which news of these signs are news, each once, in the order they are judged.
    pub fn concerned(self, fresh: Signs) -> Vec<&'a Arc<Rule>> {
        let mut places = Vec::new();
        for sign in fresh.iter() {
            self.collect(|index| &index.by_sign[sign as usize], &mut places);
        }
        self.in_order(places)
    }

    /// The same, of those with these numbers.
    pub fn concerned_of(self, ids: impl Iterator<Item = i64>, fresh: Signs) -> Vec<&'a Arc<Rule>> {
        let news = |place: &usize| self.set.rules[*place].signs().intersects(fresh);
        self.in_order(ids.filter_map(|id| self.place(id)).filter(news).collect())
    }

    /// Whether the `fresh` signs of these vitals leave all rules as they are that remember nothing
    /// of the device; `false` says nothing.
    pub fn is_quiet(self, fresh: Signs, vitals: &Vitals) -> bool {
        let holds = |index: &Index| index.quiet.holds(fresh, vitals);
        holds(&self.set.template) && self.own.is_none_or(|own| holds(&own.index))
    }

    /// Where the rule with this number stands, if it is in force.
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

    /// The rules that tell of an absence of the tenant's devices.
    pub fn on_absence(self) -> impl Iterator<Item = &'a Arc<Rule>> {
        let mut places = Vec::new();
        self.collect(|index| &index.absence, &mut places);
        self.in_order(places).into_iter()
    }

    /// All of them, in the order they are judged.
    pub fn iter(self) -> impl Iterator<Item = &'a Arc<Rule>> {
        let mut places = Vec::new();
        self.collect(|index| &index.all, &mut places);
        self.in_order(places).into_iter()
    }

    fn collect(self, list: impl Fn(&Index) -> &Vec<usize>, places: &mut Vec<usize>) {
        let inherited = list(&self.set.template).iter();
        places.extend(inherited.copied().filter(|place| !self.overrides(*place)));
        if let Some(own) = self.own {
            places.extend(list(&own.index));
        }
    }

    fn in_order(self, mut places: Vec<usize>) -> Vec<&'a Arc<Rule>> {
        // Not the unstable sort: this one only merges what comes as a few sorted lists.
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
