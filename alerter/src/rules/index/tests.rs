use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::rules::Trigger;
use crate::test_support::{reading, rule};

/// Tenants of the tests; 0 is the template.
const TENANTS: i64 = 4;

/// Whether `own` overrides `template`, by the contract.
fn is_overridden_by(template: &Rule, own: &Rule) -> bool {
    let alike = match (&template.trigger, &own.trigger) {
        (Trigger::Range(range), Trigger::Range(own)) => range.vital == own.vital,
        (Trigger::Conditions(_), Trigger::Conditions(_)) => true,
        _ => false,
    };
    alike && template.rule_type == own.rule_type
}

/// Returns the numbers of a tenant's rules in their order, found by comparing every pair of rules.
fn looked_through(rules: &[Rule], customer_id: i64, fresh: Option<VitalSet>) -> Vec<i64> {
    let own: Vec<&Rule> =
        rules.iter().filter(|rule| customer_id > 0 && rule.customer_id == customer_id).collect();
    let inherited = rules.iter().filter(|rule| {
        rule.customer_id == TEMPLATE_TENANT && !own.iter().any(|own| is_overridden_by(rule, own))
    });
    let mut found: Vec<&Rule> = own.iter().copied().chain(inherited).collect();
    let news = |rule: &Rule| {
        fresh.is_none_or(|fresh| rule.watched_vitals().iter().any(|vital| fresh.contains(vital)))
    };
    found.retain(|rule| rule.enabled && news(rule));
    found.sort_by_key(|rule| (Reverse(rule.policy.severity), rule.priority, rule.id));
    found.iter().map(|rule| rule.id).collect()
}

fn numbers<'a>(rules: impl IntoIterator<Item = &'a Arc<Rule>>) -> Vec<i64> {
    rules.into_iter().map(|rule| rule.id).collect()
}

fn any_rule() -> impl Strategy<Value = Value> {
    let signs = prop::sample::subsequence(Vital::ALL.to_vec(), 1..4);
    let severity = prop::sample::select(vec!["minor", "major", "critical"]);
    let order = (severity, 1..=3_u8);
    (0..TENANTS, signs, any::<bool>(), 0..2_u8, order, any::<bool>()).prop_map(
        |(customer_id, signs, composite, rule_type, (severity, priority), enabled)| {
            let condition =
                |vital: &Vital| json!({"physical_sign": vital, "operator": ">", "threshold": 1});
            let conditions: Vec<_> = signs.iter().map(condition).collect();
            let category = if composite { "COMPOSITE" } else { "SINGLE" };
            json!({
                "customer_id": customer_id, "rule_category": category, "physical_sign": signs[0],
                "condition_expression": {"conditions": conditions}, "rule_type": rule_type.to_string(),
                "severity_level": severity, "priority_level": priority, "is_enabled": enabled,
            })
        },
    )
}

fn numbered(forms: Vec<Value>) -> Vec<Rule> {
    let numbered = forms.into_iter().enumerate().map(|(at, mut form)| {
        form["id"] = json!(at + 1);
        rule(form)
    });
    numbered.collect()
}

proptest! {
    #[test]
    fn the_index_gives_what_looking_through_all_rules_gives(
        forms in proptest::collection::vec(any_rule(), 0..40),
        fresh in prop::sample::subsequence(Vital::ALL.to_vec(), 0..5),
    ) {
        let rules = numbered(forms);
        let set = RuleSet::new(rules.clone());
        let fresh: VitalSet = fresh.into_iter().collect();
        for tenant in 0..=TENANTS {
            let found = numbers(set.of(tenant).affected(fresh));
            prop_assert_eq!(&found, &looked_through(&rules, tenant, Some(fresh)));
            let odd = |id: &i64| id % 2 == 1;
            let some = set.of(tenant).affected_among((0..50).filter(odd), fresh);
            prop_assert_eq!(numbers(some), found.into_iter().filter(odd).collect::<Vec<_>>());
            let all = looked_through(&rules, tenant, None);
            prop_assert_eq!(&numbers(set.of(tenant).iter()), &all);
            for rule in &rules {
                let in_force = set.in_force(tenant, rule.id).is_some();
                prop_assert_eq!(in_force, all.contains(&rule.id));
            }
        }
    }
}

#[test]
fn nothing_is_quiet_in_which_a_rule_of_the_tenant_or_of_the_template_sees_something() {
    let set = RuleSet::new([
        rule(json!({"id": 1, "customer_id": 0, "threshold_max": 120})),
        rule(json!({"id": 2, "customer_id": 7, "threshold_max": 100, "rule_type": "strict"})),
        rule(
            json!({"id": 3, "customer_id": 7, "physical_sign": "stress", "threshold_max": 50, "is_enabled": 0}),
        ),
    ]);
    let quiet = |tenant: i64, rate: i32| {
        let reading = reading(json!({
            "device_sn": "A1", "timestamp": "2025-09-02 12:00:00", "heart_rate": rate, "stress": 100,
        }));
        set.of(tenant).all_in_safe_ranges(VitalSet::from_iter(Vital::ALL), reading.vitals())
    };
    for (tenant, rate, expected) in
        [(8, 120, true), (8, 121, false), (7, 100, true), (7, 101, false), (7, 121, false)]
    {
        assert_eq!(quiet(tenant, rate), expected, "{rate} of tenant {tenant}");
    }
}

#[test]
fn a_rule_of_several_signs_is_met_once_and_in_its_order() {
    let conditions: Vec<_> = ["heart_rate", "blood_oxygen"]
        .map(|vital| json!({"physical_sign": vital, "operator": ">", "threshold": 1}))
        .into();
    let both = json!({
        "id": 3, "priority_level": 1, "rule_category": "COMPOSITE",
        "condition_expression": {"conditions": conditions},
    });
    let oxygen = json!({"id": 2, "physical_sign": "blood_oxygen", "customer_id": 0,
        "severity_level": "critical"});
    let set = RuleSet::new([rule(json!({"id": 1})), rule(oxygen), rule(both)]);
    let fresh = [Vital::HeartRate, Vital::BloodOxygen].into_iter().collect();
    assert_eq!(numbers(set.of(7).affected(fresh)), [2, 3, 1]);
    assert_eq!(numbers(set.of(7).affected([Vital::Step].into_iter().collect())), [0; 0]);
    assert_eq!(numbers(set.of(8).affected(fresh)), [2]);
}

#[test]
fn a_disabled_rule_is_known_and_not_in_force() {
    let set = RuleSet::new([rule(json!({"is_enabled": 0}))]);
    assert!(set.knows(1) && set.in_force(7, 1).is_none());
    assert!(!set.knows(2) && set.in_force(7, 2).is_none());
}
