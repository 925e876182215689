use super::*;

const LIFE: Duration = Duration::from_secs(7_200);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn account() -> Account {
    Account::official("wx1", "secret")
}

#[test]
fn asking_again_gives_the_same_token_until_shortly_before_its_end() {
    let mut tokens = Tokens::default();
    let (first, left) = tokens.current(Source::Stable, &account(), LIFE, seconds(0));
    assert_eq!((first.len(), left), (TOKEN_BYTES, LIFE));
    let again = tokens.current(Source::Stable, &account(), LIFE, seconds(6_899));
    assert_eq!(again, (first.clone(), seconds(301)));
    let (next, left) = tokens.current(Source::Stable, &account(), LIFE, seconds(6_900));
    assert_eq!(left, LIFE);
    assert_ne!(next, first);
    // The earlier token works for the rest of its life.
    assert_eq!(tokens.owner(&first, seconds(7_199)), Ok(account()));
    assert_eq!(tokens.owner(&first, seconds(7_200)), Err(Invalid::Expired));
}

#[test]
fn a_token_of_wecom_stays_the_same_to_its_end() {
    let mut tokens = Tokens::default();
    let corp = Account::wecom("ww1", 1, "secret");
    let (first, _) = tokens.current(Source::Corp, &corp, LIFE, seconds(0));
    let again = tokens.current(Source::Corp, &corp, LIFE, seconds(7_199));
    assert_eq!(again, (first.clone(), seconds(1)));
    assert_ne!(tokens.current(Source::Corp, &corp, LIFE, seconds(7_200)).0, first);
    let other = Account::wecom("ww1", 2, "another secret");
    assert_ne!(tokens.current(Source::Corp, &other, LIFE, seconds(7_201)).0, first);
}

#[test]
fn a_replaced_token_works_for_the_overlap_and_no_longer() {
    let mut tokens = Tokens::default();
    let replace = |tokens: &mut Tokens, overlap, now| {
        tokens.replace(Source::Old, &account(), LIFE, seconds(overlap), seconds(now)).0
    };
    let first = replace(&mut tokens, 0, 0);
    let second = replace(&mut tokens, 0, 1);
    assert_eq!(tokens.owner(&first, seconds(1)), Err(Invalid::Replaced));
    replace(&mut tokens, 300, 2);
    assert_eq!(tokens.owner(&second, seconds(301)), Ok(account()));
    assert_eq!(tokens.owner(&second, seconds(302)), Err(Invalid::Replaced));
}

#[test]
fn the_old_call_s_tokens_and_the_stable_one_leave_each_other_alone() {
    let mut tokens = Tokens::default();
    let (stable, _) = tokens.current(Source::Stable, &account(), LIFE, seconds(0));
    tokens.replace(Source::Old, &account(), LIFE, seconds(0), seconds(1));
    assert_eq!(tokens.owner(&stable, seconds(2)), Ok(account()));
    assert_eq!(tokens.current(Source::Stable, &account(), LIFE, seconds(2)).0, stable);
}

#[test]
fn what_is_expired_or_revoked_works_no_more_and_another_is_given() {
    let mut tokens = Tokens::default();
    let (first, _) = tokens.current(Source::Stable, &account(), LIFE, seconds(0));
    tokens.expire(seconds(5));
    assert_eq!(tokens.owner(&first, seconds(5)), Err(Invalid::Expired));
    let (second, _) = tokens.current(Source::Stable, &account(), LIFE, seconds(5));
    tokens.revoke("wx2", seconds(6));
    assert_eq!(tokens.owner(&second, seconds(6)), Ok(account()), "another account's");
    tokens.revoke("wx1", seconds(6));
    assert_eq!(tokens.owner(&second, seconds(6)), Err(Invalid::Replaced));
    assert_ne!(tokens.current(Source::Stable, &account(), LIFE, seconds(6)).0, second);
}

#[test]
fn what_was_never_given_out_is_no_token() {
    let tokens = Tokens::default();
    assert_eq!(tokens.owner("abc", seconds(0)), Err(Invalid::Malformed));
    let unknown = format!("{TOKEN_PREFIX}1");
    assert_eq!(tokens.owner(&unknown, seconds(0)), Err(Invalid::Replaced));
}

#[test]
fn no_more_than_so_many_tokens_are_remembered() {
    let mut tokens = Tokens::default();
    for number in 0..TOKENS_MAX + 10 {
        let account = Account::official(&format!("wx{number}"), "secret");
        tokens.current(Source::Stable, &account, LIFE, seconds(0));
    }
    let sizes = [tokens.grants.len(), tokens.order.len(), tokens.current.len()];
    assert_eq!(sizes, [TOKENS_MAX; 3]);
}
