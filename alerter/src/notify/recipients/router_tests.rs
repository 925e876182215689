use serde_json::json;

use super::*;
use crate::notify::limits::breaker::AccountHealth;
use crate::rules::Channel;
use crate::worked_cases::people::People;

#[test]
fn an_account_that_breaks_within_a_batch_is_passed_over_by_the_next_one() {
    let people = People::new(&json!({"addresses": {"11": ["openid:o11"]}}));
    let ids = Ids { customer_id: Some(7), user_id: Some(11), ..Ids::default() };
    let limits = Arc::new(AccountLimits::new(50));
    let router = || {
        let mut router = PeopleRouter::new(ActiveSilences::fixed(None), Arc::clone(&limits), 0);
        router.add(people.contacts(&BTreeSet::from([ids])));
        router
    };
    let wechat = Channels { wechat: true, ..Channels::default() };
    let routed = |router: &PeopleRouter| router.choose(ids, wechat).unwrap().routed();
    let before = router();
    let (account, now) = ("official:wx7", Instant::now());
    limits.admit(account, 1, (7, Channel::Official), now).unwrap();
    limits.report(account, AccountHealth::Broken(std::time::Duration::from_secs(300)), now, 0.0);
    assert_eq!(routed(&before), Routed::Somebody);
    assert_eq!(routed(&router()), Routed::Nobody(OwedReason::NoAccount));
}

#[test]
fn who_has_only_a_name_is_still_looked_up_before_anything_reaches_anyone() {
    let people = People::new(&json!({"addresses": {"11": ["openid:o11"]}}));
    let ids = Ids { customer_id: Some(7), user_id: Some(11), ..Ids::default() };
    let wanted = BTreeSet::from([ids]);
    let limits = Arc::new(AccountLimits::new(50));
    let mut router = PeopleRouter::new(ActiveSilences::fixed(None), limits, 0);
    let wechat = Channels { wechat: true, ..Channels::default() };
    router.add_names(HashMap::from([(ids, Contacts::default())]));
    assert!(router.nameless(&wanted).is_empty() && router.missing(&wanted) == wanted);
    assert!(router.choose(ids, wechat).is_none(), "without people, nobody would be reached");
    router.add(people.contacts(&wanted));
    assert_eq!(router.choose(ids, wechat).unwrap().routed(), Routed::Somebody);
    assert!(router.contacts(ids).is_some_and(|contacts| !contacts.accounts().is_empty()));
}
