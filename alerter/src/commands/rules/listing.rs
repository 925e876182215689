//! The result of `alerter rules list`, built from a snapshot, with triggers and channels in words.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use serde::Serialize;

use crate::rules::loading::snapshot::{InvalidRule, RulesSnapshot};
use crate::rules::{Channels, Composite, Range, Rule, Severity, Slot, TEMPLATE_TENANT, Trigger};

/// Most rules that are named as overriding, or overridden by, one rule.
const NAMED_MAX: usize = 10;

/// The rules of one tenant.
#[derive(Debug, Serialize)]
pub struct RuleListing {
    /// The tenant. 0: a tenant without rules of its own.
    pub customer_id: i64,
    /// The tenant's and the template's rules. Active rules come first, in the order of their
    /// evaluation.
    pub rules: Vec<ListedRule>,
    /// Invalid rules of the tenant and the template.
    pub refused: Vec<InvalidRule>,
    /// Number of own rules by tenant, disabled ones included.
    pub tenants: BTreeMap<i64, usize>,
}

/// A rule in the list.
#[derive(Debug, Serialize)]
pub struct ListedRule {
    /// The rule's id.
    pub id: i64,
    /// The rule's version.
    pub version: i64,
    /// The rule's origin.
    pub origin: RuleOrigin,
    /// Whether the rule is evaluated.
    pub state: ListedState,
    /// The first ten rules of the tenant that override the rule.
    pub overridden_by: Vec<i64>,
    /// The first ten rules of the template that the rule overrides.
    pub overrides: Vec<i64>,
    /// 1 (first) to 5.
    pub priority: u8,
    /// The first severity of the rule's alerts.
    pub severity: Severity,
    /// The platform's word for the kind of alert.
    pub alert_type: String,
    /// The rule's trigger, in words.
    pub watches: String,
    /// The rule's channels.
    pub channels: Vec<&'static str>,
    /// Time at which this version was accepted, if the rule's present version is invalid.
    pub last_good: Option<String>,
    /// Reasons to doubt that the rule is meant as written.
    pub warnings: Vec<String>,
}

/// The origin of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleOrigin {
    /// The rule is the tenant's.
    Own,
    /// The rule is the template's, for all tenants.
    Template,
}

/// Whether a rule is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ListedState {
    /// The rule is active.
    InForce,
    /// A rule of the tenant overrides the rule.
    Overridden,
    /// The rule is disabled.
    Disabled,
}

impl RuleListing {
    /// Lists the rules of a tenant.
    pub fn new(snapshot: &RulesSnapshot, customer_id: i64) -> Self {
        let rules = snapshot.rules.all();
        let mut slots: HashMap<(i64, Slot<'_>), Vec<i64>> = HashMap::new();
        for rule in rules {
            slots.entry((rule.customer_id, rule.slot())).or_default().push(rule.id);
        }
        // Rules of the tenant override those of the template.
        let others = |tenant: i64, rule: &Rule| -> Vec<i64> {
            let ids = slots.get(&(tenant, rule.slot())).filter(|_| tenant != rule.customer_id);
            ids.into_iter().flatten().copied().take(NAMED_MAX).collect()
        };
        let concerned = rules.iter().filter(|rule| is_of(rule.customer_id, customer_id));
        let mut lines: Vec<ListedRule> = concerned
            .map(|rule| {
                let is_own = rule.customer_id != TEMPLATE_TENANT;
                let overridden_by = others(customer_id, rule);
                ListedRule {
                    id: rule.id,
                    version: rule.version,
                    origin: if is_own { RuleOrigin::Own } else { RuleOrigin::Template },
                    state: match rule.enabled {
                        false => ListedState::Disabled,
                        true if overridden_by.is_empty() => ListedState::InForce,
                        true => ListedState::Overridden,
                    },
                    overridden_by,
                    overrides: others(TEMPLATE_TENANT, rule),
                    priority: rule.priority,
                    severity: rule.policy.severity,
                    alert_type: rule.alert_type().to_owned(),
                    watches: describe(rule),
                    channels: channels(rule),
                    last_good: snapshot.last_good.get(&rule.id).cloned(),
                    warnings: snapshot.warnings.get(&rule.id).cloned().unwrap_or_default(),
                }
            })
            .collect();
        lines.sort_by_key(|line| line.state);
        let mut tenants = BTreeMap::new();
        for rule in rules.iter().filter(|rule| rule.customer_id != TEMPLATE_TENANT) {
            *tenants.entry(rule.customer_id).or_default() += 1;
        }
        // A rule whose tenant cannot be read may belong to any tenant.
        let refused = snapshot.refused.iter();
        let refused =
            refused.filter(|rule| rule.customer_id.is_none_or(|id| is_of(id, customer_id)));
        Self { customer_id, rules: lines, refused: refused.cloned().collect(), tenants }
    }
}

/// Whether a rule of the tenant `of` concerns a tenant.
fn is_of(of: i64, customer_id: i64) -> bool {
    of == customer_id || of == TEMPLATE_TENANT
}

/// Describes a rule's trigger, such as `heart_rate < 50 or > 120, 3 times within 300 s`.
fn describe(rule: &Rule) -> String {
    let mut words = match &rule.trigger {
        Trigger::Range(range) => in_range(range),
        Trigger::Conditions(composite) => in_conditions(composite),
        Trigger::NoData(window_ms) => format!("no data for {} s", window_ms / 1000),
    };
    if rule.policy.trend > 1 {
        let (trend, seconds) = (rule.policy.trend, rule.policy.window_ms / 1000);
        // Writing to a string cannot fail.
        let _ = write!(words, ", {trend} times within {seconds} s");
    }
    words
}

fn in_range(range: &Range) -> String {
    let min = range.thresholds.min.map(|min| format!("< {min}"));
    let max = range.thresholds.max.map(|max| format!("> {max}"));
    let deviation = range.deviation.map(|usual| {
        let percent = usual.percentage;
        format!("over {percent} % off its mean of {} s", usual.window_ms / 1000)
    });
    let all: Vec<String> = min.into_iter().chain(max).chain(deviation).collect();
    format!("{} {}", range.vital.as_str(), all.join(" or "))
}

fn in_conditions(composite: &Composite) -> String {
    let words = composite.conditions.iter().map(|condition| {
        let (vital, operator) = (condition.vital.as_str(), condition.operator.as_str());
        let lasting = match condition.duration_ms / 1000 {
            0 => String::new(),
            seconds => format!(" for {seconds} s"),
        };
        format!("{vital} {operator} {}{lasting}", condition.threshold)
    });
    let words: Vec<String> = words.collect();
    words.join(if composite.all { " and " } else { " or " })
}

/// Returns the channels of a rule.
fn channels(rule: &Rule) -> Vec<&'static str> {
    let Channels { wechat, wecom, message, log } = rule.channels;
    let all = [(wechat, "wechat"), (wecom, "wecom"), (message, "message"), (log, "log")];
    all.into_iter().filter_map(|(on, word)| on.then_some(word)).collect()
}

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;
