use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::rules::loading::source;
use crate::test_support::object;

/// The stored versions, as MySQL would hold them.
#[derive(Debug, Default)]
struct Store {
    forms: BTreeMap<i64, (Arc<str>, String)>,
    writes: usize,
}

/// One reload of a process from a source, and all that belongs to it.
fn look(
    accepted: &mut RuleVersions,
    checks: Vec<CheckedRule>,
    store: Option<&mut Store>,
) -> SourceUpdate {
    if let Some(store) = &store {
        for id in accepted.unknown(&checks) {
            store.forms.get(&id).map(|(form, _)| accepted.remember(id, form, 0));
        }
    }
    let taken = accepted.take(checks, 0);
    let Some(store) = store else { return taken };
    if accepted.kept.is_none() {
        let fingerprints = store.forms.iter().map(|(id, (_, fingerprint))| {
            (*id, VersionStamp { fingerprint: fingerprint.clone(), from_ms: 0 })
        });
        accepted.set_stored(fingerprints.collect());
    }
    let StoreDiff { put, gone } = accepted.store_diff().unwrap();
    store.writes += put.len() + gone.len();
    gone.iter().for_each(|id| drop(store.forms.remove(id)));
    for good in &put {
        store.forms.insert(good.rule.id, (Arc::clone(&good.form), good.fingerprint.clone()));
    }
    accepted.stored(&put, &gone);
    taken
}

/// Two rules, the first with this threshold.
fn file(threshold: &str) -> Vec<CheckedRule> {
    let text = format!(
        "- {{id: 1, physical_sign: stress, threshold_max: {threshold}}}\n\
         - {{id: 2, physical_sign: stress, threshold_max: 80}}\n"
    );
    source::parse_file(&text).unwrap()
}

/// The thresholds of both rules, if they are accepted.
fn maxima(accepted: &RuleVersions) -> [Option<f64>; 2] {
    let rules = accepted.rules();
    [1, 2].map(|id| rules.in_force(7, id).and_then(|rule| rule.thresholds().max))
}

#[test]
fn a_broken_rule_keeps_its_last_good_version_and_costs_no_other() {
    let mut accepted = RuleVersions::default();
    assert!(accepted.take(file("oops"), 0).changed);
    assert_eq!(maxima(&accepted), [None, Some(80.0)]);

    assert!(accepted.take(file("70"), 0).changed);
    let good = accepted.rules().all().to_vec();
    let broken = accepted.take(file("oops"), 0);
    assert_eq!((broken.valid, broken.refused, broken.last_good), (1, 1, 1));
    assert!(!broken.changed && accepted.rules().all() == good);
    let again = accepted.take(file("oops"), 0);
    assert!(!again.changed && accepted.rules().all() == good, "and it stays so");

    assert!(
        accepted.take(Vec::new(), 0).changed && accepted.rules().all().is_empty(),
        "gone is gone"
    );
}

#[test]
fn a_restart_does_not_forget_the_last_good_version_of_a_broken_rule() {
    let mut store = Store::default();
    let mut before = RuleVersions::default();
    look(&mut before, file("70"), Some(&mut store));
    look(&mut before, file("oops"), Some(&mut store));

    let mut after = RuleVersions::default();
    let taken = look(&mut after, file("oops"), Some(&mut store));
    assert_eq!((taken.refused, taken.last_good, taken.changed), (1, 1, true));
    let [after, before] = [after.rules(), before.rules()];
    assert_eq!(after.all(), before.all(), "to the version, so that no episode starts over");
    assert_eq!(store.writes, 2);
}

#[test]
fn only_what_changed_is_written_and_what_is_deleted_goes() {
    let mut store = Store::default();
    let mut accepted = RuleVersions::default();
    look(&mut accepted, file("70"), Some(&mut store));
    look(&mut accepted, file("70"), Some(&mut store));
    assert_eq!(store.writes, 2);
    look(&mut accepted, file("71"), Some(&mut store));
    assert_eq!(store.writes, 3);
    // A successor finds the store up to date.
    look(&mut RuleVersions::default(), file("71"), Some(&mut store));
    assert_eq!(store.writes, 3);

    let deleted = "[{id: 1, physical_sign: stress, is_deleted: 1}]";
    look(&mut accepted, source::parse_file(deleted).unwrap(), Some(&mut store));
    assert!(store.forms.is_empty(), "{store:?}");
}

#[test]
fn without_the_store_rules_load_and_what_was_kept_comes_back_with_it() {
    let mut store = Store::default();
    look(&mut RuleVersions::default(), file("70"), Some(&mut store));

    let mut accepted = RuleVersions::default();
    look(&mut accepted, file("oops"), None);
    assert_eq!(maxima(&accepted), [None, Some(80.0)]);
    assert_eq!(
        accepted.store_diff(),
        None,
        "nothing is deleted by whoever does not know what is kept"
    );
    assert!(look(&mut accepted, file("oops"), Some(&mut store)).changed);
    assert_eq!(maxima(&accepted), [Some(70.0), Some(80.0)]);
}

#[test]
fn a_kept_version_that_is_refused_now_is_passed_over_once_and_stays_kept() {
    let mut store = Store::default();
    for (id, form) in [(1, r#"{"id": 1, "physical_sign": "mood"}"#), (2, "no JSON"), (3, "{}")] {
        store.forms.insert(id, (form.into(), "old".into()));
    }
    let mut accepted = RuleVersions::default();
    let broken = "[{id: 1}, {id: 2}, {id: 3}]";
    let unknown = accepted.unknown(&source::parse_file(broken).unwrap());
    assert_eq!(unknown, [1, 2, 3]);
    assert!(unknown.iter().all(|id| !accepted.remember(*id, &store.forms[id].0, 0)));
    let taken = look(&mut accepted, source::parse_file(broken).unwrap(), Some(&mut store));
    assert_eq!((taken.refused, taken.last_good), (3, 0));
    assert!(accepted.unknown(&source::parse_file(broken).unwrap()).is_empty());
    assert_eq!((store.writes, store.forms.len()), (0, 3));
}

#[test]
fn where_two_rules_claim_one_number_the_good_one_has_it() {
    let mut accepted = RuleVersions::default();
    accepted.take(file("70"), 0);
    let rule = "{id: 1, physical_sign: stress, threshold_max";
    let twice = format!("[{rule}: 71}}, {rule}: 72}}]");
    accepted.take(source::parse_file(&twice).unwrap(), 0);
    assert_eq!(maxima(&accepted), [Some(71.0), None]);
}

#[test]
fn the_same_complaint_is_made_once() {
    let mut accepted = RuleVersions::default();
    let [news] = &accepted.take(file("oops"), 0).new_problems[..] else { panic!("one complaint") };
    assert_eq!(*news, ("1".to_owned(), "threshold_max: must be a number".to_owned()));
    assert!(accepted.take(file("oops"), 0).new_problems.is_empty());
    assert!(accepted.take(file("70"), 0).new_problems.is_empty());
    assert_eq!(accepted.take(file("oops"), 0).new_problems.len(), 1);
}

#[test]
fn a_rule_that_weakens_or_cannot_open_is_counted_and_said_once_for_each_version() {
    let source = |version: i64, severity: &str| {
        let text = format!(
            "- {{id: 1, physical_sign: stress, threshold_max: 70, severity_level: critical}}\n\
             - {{id: 2, customer_id: 7, version: {version}, physical_sign: stress, \
             threshold_max: 80, severity_level: {severity}, trend_duration: 10}}\n\
             - {{id: 3, physical_sign: stress, rule_type: rapid, deviation_percentage: 20}}\n\
             - {{id: 4, physical_sign: mood, trend_duration: 10}}\n"
        );
        source::parse_file(&text).unwrap()
    };
    let mut accepted = RuleVersions::default();
    for (version, severity, weakens, said) in [
        (1, "moderate", 1, &["2", "3", "4"][..]),
        (1, "moderate", 1, &[][..]),
        (2, "moderate", 1, &["2"][..]),
        (3, "critical", 0, &["2"][..]),
    ] {
        let taken = accepted.take(source(version, severity), 0);
        assert_eq!((taken.valid, taken.weakens, taken.cannot_open), (3, weakens, 2));
        let rules: Vec<&str> = taken.new_problems.iter().map(|(rule, _)| rule.as_str()).collect();
        assert_eq!(rules, said, "version {version}: {:?}", taken.new_problems);
    }
}

#[test]
fn a_kept_form_means_what_the_row_meant() {
    let row = object(json!({
        "id": "7", "customer_id": "7", "physical_sign": "heartRate", "threshold_max": "100.50",
        "threshold_min": null, "is_enabled": "1", "effective_days": "1,3", "update_time": "now",
        "escalation": "[{\"after_seconds\": 900, \"to\": \"critical\"}]", "rule_type": "心率",
    }));
    let check = validation::check(&row, 1);
    assert!(!check.form.contains("update_time"), "{}", check.form);
    let RuleStatus::Valid(rule) = check.checked else { panic!() };
    let mut accepted = RuleVersions::default();
    assert!(accepted.remember(7, &check.form, 0));
    assert_eq!(*accepted.good[&7].rule, *rule);
    assert_eq!(*accepted.good[&7].form, *check.form);
}

#[test]
fn a_version_counts_from_when_it_came_over_a_restart_and_an_edit_that_makes_no_other() {
    let rule = |threshold: i32, version: i32| {
        let text = format!(
            "- {{id: 1, version: {version}, physical_sign: stress, threshold_max: {threshold}}}"
        );
        source::parse_file(&text).unwrap()
    };
    let from = |accepted: &RuleVersions| accepted.rules().in_force(7, 1).map(|rule| rule.from_ms);
    let mut accepted = RuleVersions::default();
    accepted.set_stored(HashMap::new());
    accepted.take(rule(70, 1), 100);
    accepted.take(rule(70, 1), 200);
    assert_eq!(from(&accepted), Some(100));
    accepted.take(rule(71, 1), 300);
    assert_eq!(from(&accepted), Some(100), "the same version");
    accepted.take(rule(71, 2), 400);
    assert_eq!(from(&accepted), Some(400));
    let GoodVersion { rule: kept, fingerprint, .. } = accepted.store_diff().unwrap().put.remove(0);
    let known: HashMap<_, _> = [(1, VersionStamp { fingerprint, from_ms: kept.from_ms })].into();
    for (threshold, version, expected) in [(71, 2, 400), (72, 3, 500)] {
        let mut restarted = RuleVersions::default();
        restarted.set_stored(known.clone());
        restarted.take(rule(threshold, version), 500);
        assert_eq!(from(&restarted), Some(expected), "as a restart finds it");
    }
}

#[test]
fn a_rule_that_was_off_counts_from_when_it_is_on_again() {
    let rule = |enabled: bool| {
        let fields = json!({
            "id": 7, "version": 1, "rule_category": "NO_DATA", "physical_sign": null,
            "time_window_seconds": 600, "is_enabled": enabled,
        });
        vec![validation::check(&object(fields), 1)]
    };
    let mut accepted = RuleVersions::default();
    let from = |accepted: &RuleVersions| accepted.good[&7].rule.from_ms;
    for (enabled, now_ms, from_ms) in
        [(true, 10, 10), (true, 20, 10), (false, 30, 10), (true, 40, 40)]
    {
        accepted.take(rule(enabled), now_ms);
        assert_eq!(from(&accepted), from_ms, "at {now_ms}");
    }
}
