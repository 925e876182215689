//! Compares the engine with a second, plain implementation of the contract's section 2, on random
//! rules and random streams. Checks the invariants that hold for any of them.
//!
//! The model ([`model`], [`expected_verdict`]) knows the contract and nothing of the engine.

mod course;
mod expected_verdict;
mod history;
mod invariants;
mod ladder;
mod model;
mod replay;
mod spec;
mod strategies;

use proptest::array::uniform5;
use proptest::prelude::*;

use model::expected;
use replay::played;
use spec::{ExpectedTransition, ModelEvent, Spec};
use strategies::{
    composite, deviation, events, owing_events, parted, readings, rules, single, usual_readings,
};

/// Cases of each property.
const PROPTEST_CASES: u32 = 2_000;

/// Returns the engine's transitions, after a comparison with the contract's.
fn compared(
    rules: &[Spec],
    events: &[ModelEvent],
) -> Result<Vec<ExpectedTransition>, TestCaseError> {
    let found = played(rules, events);
    let seconds: Vec<Option<i64>> = events.iter().map(ModelEvent::second).collect();
    invariants::check(rules, &seconds, &found);
    prop_assert_eq!(&found, &expected(rules, events), "the engine's, and the model's");
    Ok(found)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(PROPTEST_CASES))]

    #[test]
    fn rules_of_one_sign_come_out_as_the_contract_says(
        rules in rules(single()),
        events in readings(),
    ) {
        compared(&rules, &events)?;
    }

    #[test]
    fn rules_of_several_conditions_come_out_as_the_contract_says(
        rules in rules(composite()),
        events in readings(),
    ) {
        compared(&rules, &events)?;
    }

    #[test]
    fn what_is_unusual_comes_out_as_the_contract_says(
        mut rules in rules(deviation()),
        window in 20_i64..=200,
        events in usual_readings(),
    ) {
        rules.iter_mut().for_each(|rule| rule.window = window);
        compared(&rules, &events)?;
    }

    #[test]
    fn crashes_change_nothing_and_edits_only_close(
        rules in rules(prop_oneof![single(), composite()]),
        events in events(),
    ) {
        compared(&rules, &events)?;
    }

    #[test]
    fn what_is_owed_is_notified_once_when_somebody_can_be_notified_and_never_after_its_end(
        rules in rules(prop_oneof![single(), composite()]),
        events in owing_events(),
    ) {
        compared(&rules, &events)?;
    }

    /// Only an end can follow from a part of a second. These rules never end an episode.
    #[test]
    fn a_second_is_the_same_in_one_reading_or_in_several_in_any_order(
        mut rules in rules(composite()),
        whole in readings(),
        order in uniform5(0_usize..100),
    ) {
        rules.iter_mut().for_each(|rule| rule.clear_after = whole.len() + 1);
        let (mut seconds, mut parts) = (Vec::new(), Vec::new());
        for (number, event) in whole.iter().enumerate() {
            let ModelEvent::Reading(report) = event else { continue };
            // Each reading has its own second, and its recipients are reachable: otherwise the
            // parts would differ.
            let mut report = report.clone();
            let second = 2 * number as i64;
            (report.second, report.wall, report.reachable) = (second, second, true);
            let several = parted(&report, &order).into_iter().map(ModelEvent::Reading);
            parts.extend(several);
            seconds.push(ModelEvent::Reading(report));
        }
        let facts = |lines: Vec<ExpectedTransition>, events: &[ModelEvent]| -> Vec<_> {
            let second = |line: &ExpectedTransition| events[line.event].second();
            let mut facts: Vec<_> = lines
                .iter()
                .map(|line| (second(line), line.device, line.rule, line.to, line.severity, line.notify))
                .collect();
            // Parts evaluate rules of different vitals in another order.
            facts.sort_unstable();
            facts
        };
        let found = facts(played(&rules, &parts), &parts);
        prop_assert_eq!(found, facts(played(&rules, &seconds), &seconds));
    }
}
