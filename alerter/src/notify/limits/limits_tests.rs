use super::*;

const TENANT: AccountScope = (7, Channel::Official);
const SETTINGS: u64 = 1;
const BROKEN: AccountHealth = AccountHealth::Broken(Duration::from_secs(300));

fn paused(gates: &AccountLimits, now: Instant) -> Vec<AccountScope> {
    gates.paused(&HashSet::new(), now)
}

#[test]
fn the_rows_of_a_broken_account_rest_and_no_others() {
    let now = Instant::now();
    let gates = AccountLimits::new(50);
    gates.admit("wx7", SETTINGS, TENANT, now).unwrap();
    gates.admit("wx8", SETTINGS, (8, Channel::Official), now).unwrap();
    gates.report("wx8", AccountHealth::Works, now, 0.0);
    assert_eq!(paused(&gates, now), [TENANT], "a message is trying it");
    assert_eq!(gates.report("wx7", BROKEN, now, 0.0), Some(true));
    assert_eq!(paused(&gates, now), [TENANT]);
    let wait = gates.admit("wx7", SETTINGS, (9, Channel::Official), now).unwrap_err();
    assert_eq!(wait, (Duration::from_secs(300), "breaker_open"));
    assert_eq!(paused(&gates, now).len(), 2, "another tenant has the same account");
    assert!(paused(&gates, now + Duration::from_secs(300)).is_empty());
}

#[test]
fn an_account_that_failed_fails_until_it_may_work_again_and_while_a_message_tries_it() {
    let now = Instant::now();
    let gates = AccountLimits::new(50);
    assert!(!gates.all_fail(now) && gates.failing(now).is_empty(), "none was used");
    gates.admit("wx7", SETTINGS, TENANT, now).unwrap();
    assert!(!gates.all_fail(now), "not known yet");
    gates.report("wx7", BROKEN, now, 0.0);
    assert!(gates.all_fail(now));
    assert_eq!(gates.failing(now), [TENANT]);
    gates.admit("wx8", SETTINGS, (8, Channel::Official), now).unwrap();
    gates.report("wx8", AccountHealth::Works, now, 0.0);
    assert!(!gates.all_fail(now), "one works");
    let later = now + Duration::from_secs(300);
    assert!(gates.failing(later).is_empty(), "nothing has tried it, and it may work");
    gates.admit("wx7", SETTINGS, TENANT, later).unwrap();
    assert_eq!(gates.failing(later), [TENANT], "a message is trying it");
    gates.report("wx7", AccountHealth::Works, later, 0.0);
    assert!(gates.failing(later).is_empty());
}

#[test]
fn the_rows_of_an_account_without_a_free_slot_rest() {
    let now = Instant::now();
    let gates = AccountLimits::new(50);
    assert_eq!(gates.account(TENANT), "openid:7");
    assert_eq!(gates.paused(&HashSet::from(["openid:7".to_owned()]), now), [TENANT]);
    gates.admit("wx7", SETTINGS, TENANT, now).unwrap();
    gates.report("wx7", AccountHealth::Works, now, 0.0);
    assert_eq!(gates.account(TENANT), "wx7");
    assert!(paused(&gates, now).is_empty());
    assert_eq!(gates.paused(&HashSet::from(["wx7".to_owned()]), now), [TENANT]);
}

#[test]
fn a_tenant_with_a_new_account_does_not_wait_for_the_old_one() {
    let now = Instant::now();
    let gates = AccountLimits::new(50);
    gates.admit("wx7", SETTINGS, TENANT, now).unwrap();
    gates.report("wx7", BROKEN, now, 0.0);
    assert_eq!(gates.admit("wx9", SETTINGS, TENANT, now), Ok(()));
    gates.report("wx9", AccountHealth::Works, now, 0.0);
    assert!(paused(&gates, now).is_empty());
    assert_eq!(gates.report("wx7", AccountHealth::Works, now, 0.0), None, "it is forgotten");
}

#[test]
fn a_changed_account_is_tried_at_once_and_operators_hear_that_it_works() {
    let now = Instant::now();
    let gates = AccountLimits::new(50);
    gates.admit("wx7", SETTINGS, TENANT, now).unwrap();
    gates.report("wx7", BROKEN, now, 0.0);
    assert!(!gates.observe("wx7", SETTINGS, TENANT, now), "nothing changed");
    assert!(gates.is_resting("wx7", now) && !gates.takes_messages("wx7", now));
    assert_eq!(gates.leaving(now), HashMap::from([(TENANT, Leaving::All)]));
    assert!(gates.observe("wx7", 2, TENANT, now));
    assert!(!gates.is_resting("wx7", now) && gates.takes_messages("wx7", now));
    assert_eq!(gates.admit("wx7", 2, TENANT, now), Ok(()));
    let works = gates.report("wx7", AccountHealth::Works, now, 0.0);
    assert_eq!(works, Some(false));
    assert!(!gates.is_resting("unknown", now) && gates.takes_messages("unknown", now));
    let neighbour = (8, Channel::Official);
    let changed = gates.observe("wx7", SETTINGS, neighbour, now);
    assert!(!changed, "another tenant's settings change nothing");
    assert!(gates.observe("wx7", 2, neighbour, now));
    assert_eq!([(); 2].map(|()| gates.admit("wx7", 2, TENANT, now)), [Ok(()); 2], "it works");
    gates.report("wx7", BROKEN, now, 0.0);
    let admitted = gates.admit("wx7", 3, TENANT, now);
    assert_eq!(admitted, Ok(()), "the message that finds the change tries it");
}

#[test]
fn what_waited_while_an_account_was_broken_has_waited_for_it() {
    let (now, neighbour) = (Instant::now(), (8, Channel::Official));
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let gates = AccountLimits::new(50);
    gates.observe("wx7", 1, TENANT, now);
    gates.observe("wx8", 1, neighbour, now);
    let was_broken = |scope, period, at| gates.was_broken(scope, period, now + minutes(at));
    let limited = AccountHealth::Limited(minutes(1));
    gates.report("wx7", limited, now, 0.0);
    assert!(!was_broken(TENANT, minutes(60), 1), "a limit is no rest");
    gates.report("wx7", BROKEN, now, 0.0);
    assert!(was_broken(TENANT, minutes(1), 30), "it is broken");
    gates.admit("wx7", SETTINGS, TENANT, now + minutes(30)).unwrap();
    gates.report("wx7", AccountHealth::Works, now + minutes(30), 0.0);
    assert_eq!(
        [1, 2].map(|waited| was_broken(TENANT, minutes(waited), 32)),
        [false, true],
        "what was written afterwards has not waited for it"
    );
    assert!(!was_broken(neighbour, minutes(60), 32));
}

#[test]
fn an_account_that_everybody_refuses_is_the_cause_until_it_works() {
    let now = Instant::now();
    let gates = AccountLimits::new(50);
    gates.admit("wx7", SETTINGS, TENANT, now).unwrap();
    gates.admit("wx7", SETTINGS, (8, Channel::Official), now).unwrap_err();
    gates.report("wx7", AccountHealth::Works, now, 0.0);
    assert!(!gates.refuses_all("wx7"));
    gates.report("wx7", BROKEN, now, 0.0);
    gates.refuse_all("wx7");
    gates.report("wx7", AccountHealth::Works, now, 0.0);
    assert!(gates.refuses_all("wx7"), "that message was on its way");
    assert_eq!(gates.customers("wx7"), BTreeSet::from([7, 8]));
    let later = now + Duration::from_secs(300);
    gates.admit("wx7", SETTINGS, TENANT, later).unwrap();
    gates.report("wx7", AccountHealth::Works, later, 0.0);
    assert!(!gates.refuses_all("wx7"));
}

#[test]
fn an_account_beyond_its_pace_waits_and_keeps_its_trial() {
    let now = Instant::now();
    let gates = AccountLimits::new(1);
    gates.admit("wx7", SETTINGS, TENANT, now).unwrap();
    gates.abandon("wx7", now);
    assert_eq!(paused(&gates, now), [TENANT]);
    let (wait, reason) = gates.admit("wx7", SETTINGS, TENANT, now).unwrap_err();
    assert_eq!((wait, reason), (Duration::from_secs(1), "account_limit"));
    assert_eq!(gates.admit("wx7", SETTINGS, TENANT, now + wait), Ok(()));
}
