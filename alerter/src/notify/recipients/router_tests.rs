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
