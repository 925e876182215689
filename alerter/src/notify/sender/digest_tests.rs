use super::*;
use crate::rules::severity::Severity;
use crate::test_support;

/// A pending row. The episode's key is the device and the letter of its rule.
fn waiting(id: i64, key: &str, to: TransitionKind) -> WaitingRow {
    let device = key.split_once(':').unwrap().0;
    let notice = Notice {
        transition: to,
        device_sn: device.into(),
        user: device.into(),
        ..test_support::notice()
    };
    WaitingRow {
        id,
        episode_key: key.into(),
        transition: to.as_str().into(),
        device_sn: device.into(),
        notice: serde_json::to_string(&notice).unwrap(),
        free: true,
    }
}

fn ids(waiting: &[WaitingRow], notified: &[&str]) -> Vec<i64> {
    let notified = notified.iter().map(|key| (*key).to_owned()).collect();
    choose(waiting, &notified).iter().map(|member| member.id).collect()
}

#[test]
fn what_waits_is_folded_also_where_it_is_but_one() {
    let rows =
        [waiting(1, "A:r", TransitionKind::Opened), waiting(2, "B:r", TransitionKind::Opened)];
    assert_eq!(ids(&rows, &[]), [1, 2]);
    assert_eq!(ids(&rows[..1], &[]), [1]);
}

#[test]
fn a_row_that_may_have_arrived_keeps_back_its_device_and_no_other() {
    let mut rows = [
        waiting(1, "A:r", TransitionKind::Opened),
        waiting(2, "A:s", TransitionKind::Opened),
        waiting(3, "B:r", TransitionKind::Opened),
        waiting(4, "A:r", TransitionKind::Resolved),
        waiting(5, "C:r", TransitionKind::Opened),
    ];
    rows[0].free = false;
    assert_eq!(ids(&rows, &["A:r"]), [3, 5]);
    rows[4].notice = "{}".into();
    assert_eq!(ids(&rows, &["A:r"]), [3], "a row that cannot be read goes by itself");
}

#[test]
fn an_end_is_folded_only_where_its_beginning_was_heard_of_or_is_folded_too() {
    let rows = [
        waiting(1, "A:r", TransitionKind::Opened),
        waiting(2, "A:r", TransitionKind::Resolved),
        waiting(3, "B:r", TransitionKind::Resolved),
        waiting(4, "C:r", TransitionKind::Resolved),
    ];
    assert_eq!(unpaired_ends(&rows), ["B:r", "C:r"]);
    assert_eq!(ids(&rows, &["C:r"]), [1, 2, 4]);
}

#[test]
fn a_digest_counts_all_alerts_and_names_the_worst_first_each_once() {
    let member = |id, key, severity, to| DigestMember {
        id,
        episode_key: key,
        notice: Notice {
            severity,
            transition: to,
            value: Some(if to == TransitionKind::Resolved { 88.0 } else { 133.0 }),
            bound: (to != TransitionKind::Resolved).then_some(120.0),
            device_sn: key.into(),
            user: key.into(),
            ..test_support::notice()
        },
    };
    let members = [
        member(1, "A", Severity::Minor, TransitionKind::Opened),
        member(2, "B", Severity::Critical, TransitionKind::Opened),
        member(3, "C", Severity::Minor, TransitionKind::Opened),
        member(4, "A", Severity::Minor, TransitionKind::Resolved),
    ];
    let digest = notice(&members).unwrap();
    assert_eq!(digest.headline(), "【严重】汇总 3条");
    assert_eq!(digest.user, "B等3人");
    assert_eq!(
        digest.text,
        "共 3 条：严重 1、低级 1、已恢复 1\n【严重】心率过高 133 (>120) B 12:00:00\n\
         【低级】心率过高 133 (>120) C 12:00:00\n【已恢复】心率 88 A 12:00:00"
    );
    assert_eq!(notice(&members[1..2]).unwrap().user, "B", "one patient is named");
    assert_eq!(notice(&[]), None);
}

#[test]
fn what_is_over_stands_behind_what_lasts_and_never_reads_like_a_beginning() {
    let member = |id, key, severity, to, user: &str| DigestMember {
        id,
        episode_key: key,
        notice: Notice { severity, transition: to, user: user.into(), ..test_support::notice() },
    };
    let over = member(1, "A", Severity::Critical, TransitionKind::Resolved, "王小明");
    let lasts = member(2, "B", Severity::Major, TransitionKind::Opened, "Alexander Christoph");
    let mixed = notice(&[over.clone(), lasts.clone()]).unwrap();
    assert_eq!((mixed.headline().as_str(), mixed.level()), ("【高级】汇总 2条", "高级"));
    assert_eq!(mixed.user, "Alexander Ch…等2人", "how many is not cut away");
    assert!(mixed.text.starts_with("共 2 条：高级 1、已恢复 1\n"), "{}", mixed.text);

    let recovered = notice(std::slice::from_ref(&over)).unwrap();
    assert_eq!(
        (recovered.headline().as_str(), recovered.level()),
        ("【已恢复】汇总 1条", "已恢复")
    );

    let twice = member(3, "C", Severity::Major, TransitionKind::Opened, "Alexander Christoph");
    assert_eq!(
        notice(&[lasts, twice]).unwrap().user,
        "Alexander Christoph",
        "one person, two devices"
    );
}

#[test]
fn a_long_digest_names_twenty_and_counts_the_rest() {
    let keys: Vec<_> = (0..500).map(|device| format!("A123456789{device:05}")).collect();
    let members: Vec<_> = keys
        .iter()
        .zip(1..)
        .map(|(key, id)| DigestMember {
            id,
            episode_key: key,
            notice: Notice { user: key.clone(), ..test_support::notice() },
        })
        .collect();
    let digest = notice(&members).unwrap();
    let lines: Vec<_> = digest.text.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[21]), (22, "共 500 条：严重 500", "…共 500 条"));
    assert!(digest.text.len() <= 1_800, "{} bytes fit into WeCom's text", digest.text.len());
}
