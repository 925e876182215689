use super::*;

fn sn(number: u32) -> DeviceSn {
    DeviceSn::new(&format!("D{number:05}")).unwrap()
}

fn note(to: TransitionKind, at: i64) -> TransitionNote {
    TransitionNote {
        rule_id: 1,
        to,
        severity: Severity::Major,
        at: format!("{at:02}"),
        notified: to != TransitionKind::Escalated,
    }
}

/// Episodes from and to these times, as their transitions at each time.
fn episodes(spans: &[(i64, Option<i64>)]) -> BTreeMap<i64, Vec<TransitionNote>> {
    let mut notes: BTreeMap<i64, Vec<TransitionNote>> = BTreeMap::new();
    for (opened, ended) in spans {
        notes.entry(*opened).or_default().push(note(TransitionKind::Opened, *opened));
        if let Some(ended) = ended {
            notes.entry(*ended).or_default().push(note(TransitionKind::Resolved, *ended));
        }
    }
    notes
}

/// Compares the transitions of two sets on one device, reading by reading.
fn compared(sides: [&BTreeMap<i64, Vec<TransitionNote>>; 2]) -> Comparison {
    let mut comparison = Comparison::default();
    let times: BTreeSet<i64> = sides.iter().flat_map(|side| side.keys().copied()).collect();
    for at in times {
        let notes = sides.map(|side| side.get(&at).map_or(&[][..], Vec::as_slice));
        comparison.reading(&sn(1), notes);
        assert!(comparison.open.len() <= 1);
    }
    comparison.finish()
}

/// Episodes by set, and the number of differences: only the first set, only the second set,
/// otherwise.
fn check(one: &[(i64, Option<i64>)], other: &[(i64, Option<i64>)], expected: [u64; 3]) {
    let (one, other) = (episodes(one), episodes(other));
    let there = compared([&one, &other]).differences;
    let found = [there.only_a, there.only_b, there.otherwise];
    assert_eq!(found, expected, "{one:?} {other:?}");
    assert_eq!(there.listed.len() as u64, expected.iter().sum::<u64>());
    let back = compared([&other, &one]).differences;
    assert_eq!([back.only_b, back.only_a, back.otherwise], expected, "the other way round");
}

#[test]
fn the_same_episodes_are_no_difference() {
    check(&[(0, Some(10)), (20, None)], &[(0, Some(10)), (20, None)], [0, 0, 0]);
    check(&[], &[], [0, 0, 0]);
}

#[test]
fn episodes_are_compared_with_those_they_overlap() {
    for (one, other, expected) in [
        (&[(0, Some(10))][..], &[][..], [1, 0, 0]),
        (&[(0, None)], &[], [1, 0, 0]),
        // Later by one reading, longer by one, cut in two.
        (&[(0, Some(10))], &[(5, Some(10))], [0, 0, 1]),
        (&[(0, Some(10))], &[(0, Some(15))], [0, 0, 1]),
        (&[(0, Some(30))], &[(0, Some(10)), (20, Some(30))], [0, 0, 1]),
        (&[(0, None)], &[(0, Some(10))], [0, 0, 1]),
        // Episodes one after the other do not overlap.
        (&[(0, Some(10))], &[(20, Some(30))], [1, 1, 0]),
        (&[(0, Some(10)), (20, Some(30))], &[(20, Some(30))], [1, 0, 0]),
        // An episode that ends when another opens overlaps it.
        (&[(0, Some(10))], &[(10, Some(20))], [0, 0, 1]),
    ] {
        check(one, other, expected);
    }
}

#[test]
fn another_severity_another_time_of_it_or_one_notification_more_is_a_difference() {
    let plain = episodes(&[(0, Some(10))]);
    let mut severe = plain.clone();
    severe.get_mut(&0).unwrap()[0].severity = Severity::Critical;
    let mut reminded = plain.clone();
    reminded.insert(5, vec![note(TransitionKind::Notified, 5)]);
    for changed in [severe, reminded] {
        assert_eq!(compared([&plain, &changed]).differences.otherwise, 1, "{changed:?}");
    }
    let escalated = |at| {
        let mut notes = plain.clone();
        notes.insert(at, vec![note(TransitionKind::Escalated, at)]);
        notes
    };
    assert_eq!(compared([&escalated(5), &escalated(5)]).differences.otherwise, 0);
    assert_eq!(compared([&escalated(5), &escalated(7)]).differences.otherwise, 1);
}

#[test]
fn a_difference_says_what_each_set_makes_of_it() {
    let one = episodes(&[(0, Some(10)), (20, Some(30))]);
    let other = episodes(&[(5, None)]);
    let found = compared([&one, &other]);
    let [difference] = &found.differences.listed[..] else { panic!("{found:?}") };
    let (Some(one), Some(other)) = (&difference.a, &difference.b) else { panic!("{difference:?}") };
    assert_eq!((one.episodes, one.opened_at.as_str(), one.notifications), (2, "00", 4));
    assert_eq!((other.episodes, other.opened_at.as_str(), other.notifications), (1, "05", 1));
    assert_eq!((one.ended_at.as_deref(), other.ended_at.as_deref()), (Some("30"), None));
    let [first, second] = found.rules[&1];
    assert_eq!(first, RuleTotals { episodes: 2, devices: 1, notifications: 4 });
    assert_eq!(second, RuleTotals { episodes: 1, devices: 1, notifications: 1 });
}

#[test]
fn devices_and_rules_are_told_apart() {
    let mut comparison = Comparison::default();
    let opened = |rule_id| TransitionNote { rule_id, ..note(TransitionKind::Opened, 0) };
    comparison.reading(&sn(2), [&[opened(1), opened(2)], &[opened(1)]]);
    comparison.reading(&sn(1), [&[opened(1)], &[]]);
    let found = comparison.finish();
    assert_eq!(
        found.rules[&1],
        [2, 1].map(|n| RuleTotals { episodes: n, devices: n, notifications: n })
    );
    let listed: Vec<_> =
        found.differences.listed.iter().map(|one| (one.device_sn.clone(), one.rule_id)).collect();
    assert_eq!(listed, [(sn(1), 1), (sn(2), 2)]);
}

#[test]
fn differences_beyond_those_that_are_listed_are_counted() {
    let mut comparison = Comparison::default();
    for number in 0..LISTED_MAX as u32 + 7 {
        comparison.reading(
            &sn(number),
            [&[note(TransitionKind::Opened, 0), note(TransitionKind::Resolved, 1)], &[]],
        );
    }
    assert!(comparison.open.is_empty());
    let found = comparison.finish().differences;
    assert_eq!((found.listed.len(), found.unlisted), (LISTED_MAX, 7));
}
