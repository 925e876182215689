//! The rules in force: which ones there are, and which of them concern a tenant.
//!
//! [`validate`] turns a row or a file's entry into a [`Rule`] or a list of what is wrong with it;
//! [`source_db`] and [`source_file`] fetch the rows; [`reload`] does both again and again.

pub mod check;
mod doubts;
pub mod form;
pub mod reload;
pub mod source_db;
pub mod source_file;
pub mod validate;
mod watch;

use std::collections::HashMap;
use std::sync::Arc;

use crate::hearing::AbsenceRule;
use crate::rule::{Rule, Watch};

/// The tenant whose rules are the template of all others.
pub const TEMPLATE_TENANT: i64 = 0;

/// Rules of every tenant, in the order they are judged.
#[derive(Debug, Default, PartialEq)]
pub struct RuleSet {
    known: HashMap<i64, Arc<Rule>>,
    template: Vec<Arc<Rule>>,
    tenants: HashMap<i64, Vec<Arc<Rule>>>,
    absence_rules: Vec<AbsenceRule>,
}

impl RuleSet {
    /// Sorts valid rules, disabled ones included, by tenant.
    pub fn new(rules: Vec<Rule>) -> Self {
        let mut rules: Vec<_> = rules.into_iter().map(Arc::new).collect();
        rules.sort_by_key(|rule| (rule.priority, rule.id));
        let enabled = rules.iter().filter(|rule| rule.enabled);
        let absence_rules = enabled.filter_map(|rule| rule.absence()).collect();
        let known = rules.iter().map(|rule| (rule.id, Arc::clone(rule))).collect();
        let (template, own): (Vec<_>, Vec<_>) =
            rules.into_iter().partition(|rule| rule.customer_id == TEMPLATE_TENANT);
        let mut tenants: HashMap<i64, Vec<Arc<Rule>>> = HashMap::new();
        for rule in own {
            tenants.entry(rule.customer_id).or_default().push(rule);
        }
        for rules in tenants.values_mut() {
            let inherited: Vec<_> = template
                .iter()
                .filter(|template| !rules.iter().any(|own| template.is_overridden_by(own)))
                .cloned()
                .collect();
            // A disabled own rule has done its work once it has kept the template's out.
            rules.extend(inherited);
            rules.retain(|rule| rule.enabled);
            rules.sort_by_key(|rule| (rule.priority, rule.id));
        }
        let template = template.into_iter().filter(|rule| rule.enabled).collect();
        Self { known, template, tenants, absence_rules }
    }

    /// The rules that readings of `customer_id` are judged by.
    pub fn of(&self, customer_id: i64) -> &[Arc<Rule>] {
        self.tenants.get(&customer_id).unwrap_or(&self.template)
    }

    /// The rule with this number, where it is in force for `customer_id`.
    pub fn in_force(&self, customer_id: i64, id: i64) -> Option<&Arc<Rule>> {
        self.of(customer_id).iter().find(|rule| rule.id == id)
    }

    /// The rules that tell of an absence of this tenant's devices.
    pub fn absence_rules_of(&self, customer_id: i64) -> impl Iterator<Item = &Arc<Rule>> {
        self.of(customer_id).iter().filter(|rule| matches!(rule.watch, Watch::Absence(_)))
    }

    /// What the enabled rules of all tenants make of absence.
    pub fn absence_rules(&self) -> &[AbsenceRule] {
        &self.absence_rules
    }

    /// Whether a rule with this number exists, in force or not.
    pub fn knows(&self, id: i64) -> bool {
        self.known.contains_key(&id)
    }

    /// How many rules there are, disabled ones included.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}
