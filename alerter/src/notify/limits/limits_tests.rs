use super::*;

const TENANT: AccountScope = (7, Channel::Official);
const SETTINGS: u64 = 1;
const BROKEN: AccountHealth = AccountHealth::Broken(Duration::from_secs(300));

fn paused(accounts: &AccountLimits, now: Instant) -> Vec<AccountScope> {
    accounts.paused(&HashSet::new(), now)
}

#[test]
fn the_rows_of_a_broken_account_rest_and_no_others() {
    let now = Instant::now();
    let accounts = AccountLimits::new(50);
    accounts.admit("wx7", SETTINGS, TENANT, now).unwrap();
    accounts.admit("wx8", SETTINGS, (8, Channel::Official), now).unwrap();
    accounts.report("wx8", AccountHealth::Works, now, 0.0);
    assert_eq!(paused(&accounts, now), [TENANT], "a message is trying it");
    assert_eq!(accounts.report("wx7", BROKEN, now, 0.0), Some(true));
    assert_eq!(paused(&accounts, now), [TENANT]);
    let wait = accounts.admit("wx7", SETTINGS, (9, Channel::Official), now).unwrap_err();
    assert_eq!(wait, (Duration::from_secs(300), "breaker_open"));
    assert_eq!(paused(&accounts, now).len(), 2, "another tenant has the same account");
    assert!(paused(&accounts, now + Duration::from_secs(300)).is_empty());
}

#[test]
fn an_account_that_failed_fails_until_it_may_work_again_and_while_a_message_tries_it() {
    let now = Instant::now();
    let accounts = AccountLimits::new(50);
    assert!(!accounts.all_fail(now) && accounts.failing(now).is_empty(), "none was used");
    accounts.admit("wx7", SETTINGS, TENANT, now).unwrap();
    assert!(!accounts.all_fail(now), "not known yet");
    accounts.report("wx7", BROKEN, now, 0.0);
    assert!(accounts.all_fail(now));
    assert_eq!(accounts.failing(now), [TENANT]);
    accounts.admit("wx8", SETTINGS, (8, Channel::Official), now).unwrap();
    accounts.report("wx8", AccountHealth::Works, now, 0.0);
    assert!(!accounts.all_fail(now), "one works");
    let later = now + Duration::from_secs(300);
    assert!(accounts.failing(later).is_empty(), "nothing has tried it, and it may work");
    accounts.admit("wx7", SETTINGS, TENANT, later).unwrap();
    assert_eq!(accounts.failing(later), [TENANT], "a message is trying it");
    accounts.report("wx7", AccountHealth::Works, later, 0.0);
    assert!(accounts.failing(later).is_empty());
}

#[test]
fn the_rows_of_an_account_without_a_free_slot_rest() {
    let now = Instant::now();
    let accounts = AccountLimits::new(50);
    assert_eq!(accounts.account(TENANT), "openid:7");
    assert_eq!(accounts.paused(&HashSet::from(["openid:7".to_owned()]), now), [TENANT]);
    accounts.admit("wx7", SETTINGS, TENANT, now).unwrap();
    accounts.report("wx7", AccountHealth::Works, now, 0.0);
    assert_eq!(accounts.account(TENANT), "wx7");
    assert!(paused(&accounts, now).is_empty());
    assert_eq!(accounts.paused(&HashSet::from(["wx7".to_owned()]), now), [TENANT]);
}

#[test]
fn a_tenant_with_a_new_account_does_not_wait_for_the_old_one() {
    let now = Instant::now();
    let accounts = AccountLimits::new(50);
    accounts.admit("wx7", SETTINGS, TENANT, now).unwrap();
    accounts.report("wx7", BROKEN, now, 0.0);
    assert_eq!(accounts.admit("wx9", SETTINGS, TENANT, now), Ok(()));
    accounts.report("wx9", AccountHealth::Works, now, 0.0);
    assert!(paused(&accounts, now).is_empty());
    assert_eq!(accounts.report("wx7", AccountHealth::Works, now, 0.0), None, "it is forgotten");
    assert_eq!([(); 2].map(|()| accounts.take_replaced()), [vec!["wx7".to_owned()], vec![]]);
}

#[test]
fn a_changed_account_is_tried_at_once_and_operators_are_notified_that_it_works() {
    let now = Instant::now();
    let accounts = AccountLimits::new(50);
    accounts.admit("wx7", SETTINGS, TENANT, now).unwrap();
    accounts.report("wx7", BROKEN, now, 0.0);
    assert!(!accounts.observe("wx7", SETTINGS, TENANT, now), "nothing changed");
    assert!(accounts.is_resting("wx7", now) && !accounts.takes_messages("wx7", now));
    assert_eq!(accounts.leaving(now), HashMap::from([(TENANT, Leaving::All)]));
    assert!(accounts.observe("wx7", 2, TENANT, now));
    assert!(!accounts.is_resting("wx7", now) && accounts.takes_messages("wx7", now));
    assert_eq!(accounts.admit("wx7", 2, TENANT, now), Ok(()));
    let works = accounts.report("wx7", AccountHealth::Works, now, 0.0);
    assert_eq!(works, Some(false));
    assert!(!accounts.is_resting("unknown", now) && accounts.takes_messages("unknown", now));
    let neighbour = (8, Channel::Official);
    let changed = accounts.observe("wx7", SETTINGS, neighbour, now);
    assert!(!changed, "another tenant's settings change nothing");
    assert!(accounts.observe("wx7", 2, neighbour, now));
    assert_eq!([(); 2].map(|()| accounts.admit("wx7", 2, TENANT, now)), [Ok(()); 2], "it works");
    accounts.report("wx7", BROKEN, now, 0.0);
    let admitted = accounts.admit("wx7", 3, TENANT, now);
    assert_eq!(admitted, Ok(()), "the message that finds the change tries it");
}

#[test]
fn what_waits_for_no_account_leaves_until_one_is_looked_for_and_found() {
    let now = Instant::now();
    let accounts = AccountLimits::new(50);
    accounts.record_missing(TENANT);
    assert_eq!(accounts.leaving(now), HashMap::from([(TENANT, Leaving::All)]));
    accounts.admit("wx7", SETTINGS, TENANT, now).unwrap();
    assert!(!accounts.leaving(now).is_empty(), "the message that found it makes no other one due");
    assert!(accounts.observe("wx7", SETTINGS, TENANT, now));
    assert!(accounts.leaving(now).is_empty());
    assert!(!accounts.observe("wx7", SETTINGS, TENANT, now), "nothing changed");
}

#[test]
fn what_waited_while_an_account_was_broken_has_waited_for_it() {
    let (now, neighbour) = (Instant::now(), (8, Channel::Official));
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    let accounts = AccountLimits::new(50);
    accounts.observe("wx7", 1, TENANT, now);
    accounts.observe("wx8", 1, neighbour, now);
    let was_broken = |scope, period, at| accounts.was_broken(scope, period, now + minutes(at));
    let limited = AccountHealth::Limited(minutes(1));
    accounts.report("wx7", limited, now, 0.0);
    assert!(!was_broken(TENANT, minutes(60), 1), "a limit is no rest");
    accounts.report("wx7", BROKEN, now, 0.0);
    assert!(was_broken(TENANT, minutes(1), 30), "it is broken");
    accounts.admit("wx7", SETTINGS, TENANT, now + minutes(30)).unwrap();
    accounts.report("wx7", AccountHealth::Works, now + minutes(30), 0.0);
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
    let accounts = AccountLimits::new(50);
    accounts.admit("wx7", SETTINGS, TENANT, now).unwrap();
    accounts.admit("wx7", SETTINGS, (8, Channel::Official), now).unwrap_err();
    accounts.report("wx7", AccountHealth::Works, now, 0.0);
    assert!(!accounts.refuses_all("wx7"));
    accounts.report("wx7", BROKEN, now, 0.0);
    accounts.refuse_all("wx7");
    accounts.report("wx7", AccountHealth::Works, now, 0.0);
    assert!(accounts.refuses_all("wx7"), "that message was on its way");
    assert_eq!(accounts.causes(), HashSet::from(["wx7".to_owned()]));
    assert_eq!(accounts.customers("wx7"), BTreeSet::from([7, 8]));
    let later = now + Duration::from_secs(300);
    accounts.admit("wx7", SETTINGS, TENANT, later).unwrap();
    accounts.report("wx7", AccountHealth::Works, later, 0.0);
    assert!(!accounts.refuses_all("wx7") && accounts.causes().is_empty());
}

#[test]
fn an_account_beyond_its_pace_waits_and_keeps_its_trial() {
    let now = Instant::now();
    let accounts = AccountLimits::new(1);
    accounts.admit("wx7", SETTINGS, TENANT, now).unwrap();
    accounts.abandon("wx7", now);
    assert_eq!(paused(&accounts, now), [TENANT]);
    let (wait, reason) = accounts.admit("wx7", SETTINGS, TENANT, now).unwrap_err();
    assert_eq!((wait, reason), (Duration::from_secs(1), "account_limit"));
    assert_eq!(accounts.admit("wx7", SETTINGS, TENANT, now + wait), Ok(()));
}
