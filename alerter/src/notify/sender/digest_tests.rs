use super::*;
use crate::notify::notice::Routing;
use crate::rules::Severity;
use crate::test_support;

/// A pending row of an episode.
fn waiting(id: i64, key: &str, to: TransitionKind) -> WaitingRow {
    let notice = Notice { transition: to, user: key.into(), ..test_support::notice() };
    WaitingRow {
        id,
        message: id,
        episode_key: key.into(),
        transition_seq: i32::try_from(id).unwrap(),
        transition: to.as_str().into(),
        severity: Severity::Major.number(),
        notice: serde_json::to_string(&notice).unwrap(),
        age_ms: 0,
        free: true,
    }
}

fn keys(keys: &[&str]) -> HashSet<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

/// Returns the rows that go into the digest, and those that are over.
fn ids(waiting: &[WaitingRow], over: &[&str], notified: &[&str]) -> (Vec<i64>, Vec<i64>) {
    let choice = choose(waiting, &keys(over), &keys(notified));
    (choice.members.iter().map(|member| member.row.id).collect(), choice.over)
}

#[test]
fn a_single_alert_goes_by_itself() {
    use TransitionKind::{Escalated, Opened};
    let rows = [waiting(1, "A", Opened), waiting(2, "B", Opened), waiting(3, "A", Escalated)];
    assert_eq!(ids(&rows, &[], &[]), (vec![1, 3, 2], vec![]));
    assert_eq!(ids(&rows[..1], &[], &[]), (vec![], vec![]));
    let one = [rows[0].clone(), rows[2].clone()];
    assert_eq!(ids(&one, &[], &[]), (vec![], vec![]), "two rows, one alert");
}

#[test]
fn a_row_that_cannot_go_in_holds_back_its_episode_and_no_other() {
    let mut rows = [
        waiting(1, "A", TransitionKind::Opened),
        waiting(2, "B", TransitionKind::Opened),
        waiting(3, "A", TransitionKind::Resolved),
        waiting(4, "C", TransitionKind::Opened),
        waiting(5, "C", TransitionKind::Escalated),
        waiting(6, "D", TransitionKind::Opened),
    ];
    rows[0].free = false;
    rows[4].free = false;
    assert_eq!(ids(&rows, &[], &["A"]), (vec![2, 4, 6], vec![]));
    rows[5].notice = "{}".into();
    assert_eq!(ids(&rows, &[], &["A"]), (vec![2, 4], vec![]), "it cannot be read");
}

#[test]
fn a_message_goes_in_with_all_its_rows_or_not_at_all() {
    let opened = |id, key| waiting(id, key, TransitionKind::Opened);
    let folded = WaitingRow { message: 1, ..opened(2, "B") };
    let mut rows = [opened(1, "A"), folded, opened(3, "C"), opened(4, "D")];
    assert_eq!(ids(&rows, &[], &[]), (vec![1, 2, 3, 4], vec![]));
    assert_eq!(ids(&rows, &["B"], &[]), (vec![1, 3, 4], vec![2]), "it goes on without the row");
    assert_eq!(ids(&rows, &["A"], &[]), (vec![3, 4], vec![1]), "what it reported goes by itself");
    rows[1].notice = "{}".into();
    assert_eq!(ids(&rows, &[], &[]), (vec![3, 4], vec![]));
}

#[test]
fn an_episode_that_is_over_is_left_out_if_the_person_received_nothing_of_it() {
    use TransitionKind::{Notified, Opened, Resolved, Stale};
    let mut rows = [
        waiting(1, "A", Opened),
        waiting(2, "A", Resolved),
        waiting(3, "B", Opened),
        waiting(4, "C", Stale),
        waiting(5, "D", Notified),
        waiting(6, "E", Opened),
    ];
    assert_eq!(ids(&rows, &[], &[]), (vec![3, 5, 6], vec![1, 2, 4]));
    assert_eq!(ids(&rows, &["B"], &[]), (vec![5, 6], vec![1, 2, 3, 4]), "its alert is over");
    assert_eq!(ids(&rows, &["D"], &["A", "C", "D"]), (vec![1, 2, 3, 4, 5, 6], vec![]));
    assert_eq!(ids(&rows, &["B", "D", "E"], &[]), (vec![], vec![1, 2, 3, 4, 5, 6]));
    rows[0].free = false;
    rows[3].free = false;
    assert_eq!(ids(&rows, &[], &[]), (vec![3, 5, 6], vec![]), "it may be received");
}

#[test]
fn an_old_row_goes_in_while_its_episode_lasts_or_ends() {
    use TransitionKind::{Notified, Opened, Resolved};
    let old = |row: WaitingRow| WaitingRow { age_ms: 30 * 60_000, ..row };
    let rows = [
        old(waiting(1, "A", Opened)),
        old(waiting(2, "B", Notified)),
        old(waiting(3, "C", Notified)),
        old(waiting(4, "C", Resolved)),
    ];
    let notified = ["A", "B", "C"];
    assert_eq!(ids(&rows, &[], &notified), (vec![1, 2, 3, 4], vec![]));
    assert_eq!(ids(&rows, &["B", "C"], &notified), (vec![1, 3, 4], vec![]), "it says nothing more");
    let delayed = |rows: &[WaitingRow]| {
        notice(&choose(rows, &HashSet::new(), &keys(&notified)).members).unwrap().delayed
    };
    assert!(delayed(&rows));
    let mut rows = rows;
    rows[3].age_ms -= 1;
    assert!(!delayed(&rows), "the last is young");
}

/// A pending row of an episode with this notice.
fn row(id: i64, key: &str, notice: &Notice) -> WaitingRow {
    WaitingRow {
        transition: notice.transition.as_str().into(),
        severity: notice.severity.number(),
        notice: serde_json::to_string(notice).unwrap(),
        ..waiting(id, key, notice.transition)
    }
}

/// Returns the notice of a digest of these rows.
fn digest_of(rows: &[WaitingRow]) -> Option<Notice> {
    notice(&rows.iter().filter_map(member).collect::<Vec<_>>())
}

#[test]
fn a_digest_counts_all_alerts_and_names_the_worst_first_each_once() {
    let alert = |id, key: &str, severity: Severity, to| {
        let notice = Notice {
            severity,
            transition: to,
            value: Some(if to == TransitionKind::Resolved { 88.0 } else { 133.0 }),
            bound: (to != TransitionKind::Resolved).then_some(120.0),
            device_sn: key.into(),
            user: key.into(),
            ..test_support::notice()
        };
        row(id, key, &notice)
    };
    let rows = [
        alert(1, "A", Severity::Minor, TransitionKind::Opened),
        alert(2, "B", Severity::Critical, TransitionKind::Opened),
        alert(3, "C", Severity::Minor, TransitionKind::Opened),
        alert(4, "A", Severity::Minor, TransitionKind::Resolved),
    ];
    let digest = digest_of(&rows).unwrap();
    assert_eq!(digest.headline(), "【严重】汇总 3条");
    assert_eq!(digest.user, "B等3人");
    assert_eq!(
        digest.text,
        "共 3 条：严重 1、低级 1、已恢复 1\n【严重】心率过高 133 (>120) B 12:00:00\n\
         【低级】心率过高 133 (>120) C 12:00:00\n【已恢复】心率 88 A 12:00:00"
    );
    assert_eq!(digest_of(&rows[1..2]).unwrap().user, "B", "one patient is named");
    assert_eq!(digest_of(&[]), None);
}

#[test]
fn what_is_over_stands_behind_what_lasts_and_never_reads_like_a_beginning() {
    let alert = |severity: Severity, to, user: &str| Notice {
        severity,
        transition: to,
        device_sn: user.into(),
        user: user.into(),
        ..test_support::notice()
    };
    let ended = alert(Severity::Critical, TransitionKind::Resolved, "王小明");
    let over = row(1, "A", &ended);
    let opened = alert(Severity::Major, TransitionKind::Opened, "Alexander Christoph");
    let lasts = row(2, "B", &opened);
    let mixed = digest_of(&[over.clone(), lasts]).unwrap();
    assert_eq!((mixed.headline().as_str(), mixed.level()), ("【高级】汇总 2条", "高级"));
    assert_eq!(mixed.user, "Alexander Ch…等2人", "how many is not cut away");
    assert!(mixed.text.starts_with("共 2 条：高级 1、已恢复 1\n"), "{}", mixed.text);

    let eased = row(4, "D", &Notice { goes_on: Some(Severity::Moderate), ..ended });
    let goes_on = digest_of(&[over.clone(), eased]).unwrap();
    assert_eq!((goes_on.headline().as_str(), goes_on.level()), ("【中级】汇总 2条", "中级"));
    assert!(
        goes_on.text.starts_with("共 2 条：中级 1、已恢复 1\n【中级】缓解 "),
        "{}",
        goes_on.text
    );

    let silent = alert(Severity::Minor, TransitionKind::Stale, "李四");
    let closed = digest_of(&[over.clone(), row(5, "E", &silent)]).unwrap();
    assert_eq!((closed.headline().as_str(), closed.level()), ("【关闭】汇总 2条", "关闭"));
    assert!(closed.text.starts_with("共 2 条：关闭 1、已恢复 1\n"), "{}", closed.text);

    let recovered = digest_of(&[over]).unwrap();
    assert_eq!(
        (recovered.headline().as_str(), recovered.level()),
        ("【已恢复】汇总 1条", "已恢复")
    );
}

#[test]
fn patients_of_one_name_are_several_and_one_with_two_devices_is_one() {
    let digest = |alerts: [(Option<i64>, &str); 2]| {
        let rows = alerts.map(|(user_id, device)| {
            let routing = Some(Routing { user_id, ..Routing::default() });
            let (user, device_sn) = ("王伟".into(), device.into());
            row(1, device, &Notice { user, device_sn, routing, ..test_support::notice() })
        });
        digest_of(&rows).unwrap().user
    };
    assert_eq!(digest([(Some(1), "A"), (Some(2), "B")]), "王伟等2人");
    assert_eq!(digest([(None, "A"), (None, "B")]), "王伟等2人");
    assert_eq!(digest([(Some(1), "A"), (Some(1), "B")]), "王伟");
}

#[test]
fn a_long_digest_names_twenty_and_counts_the_rest() {
    let rows: Vec<_> = (0..500)
        .map(|device| {
            let key = format!("A123456789{device:05}");
            let notice = Notice { user: key.clone(), ..test_support::notice() };
            row(device, &key, &notice)
        })
        .collect();
    let digest = digest_of(&rows).unwrap();
    let lines: Vec<_> = digest.text.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[21]), (22, "共 500 条：严重 500", "…共 500 条"));
    assert!(digest.text.len() <= 1_800, "{} bytes fit into WeCom's text", digest.text.len());
}
