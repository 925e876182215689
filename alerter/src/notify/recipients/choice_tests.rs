use super::*;
use crate::notify::wechat::{Account, FieldMap};
use crate::test_support::{official_account, wecom_account};

/// Accounts of the kinds `usable`, with these default addresses, and rows of the kinds `rows`.
fn accounts(usable: &str, rows: &str, default_address: Option<&str>) -> Accounts {
    let all = [('o', official_account(FieldMap::default())), ('w', wecom_account(5))];
    let (mut channels, mut found) = (Vec::new(), Vec::new());
    for (kind, account) in all {
        channels.extend(rows.contains(kind).then_some(account.channel()));
        let default_address = default_address.map(str::to_owned);
        found.extend(usable.contains(kind).then_some(Account { default_address, ..account }));
    }
    let mut accounts: Accounts = found.into_iter().collect();
    for channel in channels {
        accounts.row(channel);
    }
    accounts
}

/// The channel words of a rule that are set.
fn channels(words: &str) -> Channels {
    Channels {
        wechat: words.contains("wechat"),
        wecom: words.contains("wecom"),
        message: words.contains("message"),
        log: false,
    }
}

/// Addresses in the outbox's form, by user. `!` marks a disabled one.
fn addresses(known: &[(i64, &[&str])]) -> Addresses {
    let parse = |text: &&str| KnownAddress {
        address: Address::parse(text.trim_start_matches('!')).unwrap(),
        is_disabled: text.starts_with('!'),
    };
    known.iter().map(|(user, texts)| (*user, texts.iter().map(parse).collect())).collect()
}

/// The contacts of a tenant with these kinds of account.
fn contacts(kinds: &str, known: &[(i64, &[&str])]) -> TenantContacts {
    TenantContacts::new(Arc::new(accounts(kinds, kinds, Some("duty"))), addresses(known))
}

fn texts(choice: &Choice) -> Vec<String> {
    choice.recipients.iter().map(|recipient| recipient.address.to_string()).collect()
}

fn chosen(words: &str, kinds: &str, people: &[i64], known: &[(i64, &[&str])]) -> Vec<String> {
    let choice = choose(&contacts(kinds, known), people, channels(words), &|_| false);
    assert_eq!(choice.omitted, 0);
    texts(&choice)
}

#[test]
fn a_person_is_notified_once_by_the_first_kind_that_tenant_and_person_have() {
    let known: &[(i64, &[&str])] =
        &[(1, &["openid:o1", "wecom:w1"]), (2, &["wecom:w2"]), (3, &["openid:o3", "openid:p3"])];
    for (words, kinds, people, expected) in [
        ("wechat", "ow", &[1, 2, 3][..], &["openid:o1", "openid:o3", "openid:p3", "wecom:w2"][..]),
        ("wechat", "o", &[1, 3], &["openid:o1", "openid:o3", "openid:p3"]),
        ("wechat", "w", &[1, 2], &["wecom:w1", "wecom:w2"]),
        ("wecom", "ow", &[1, 2], &["wecom:w1", "wecom:w2"]),
        ("wechat wecom", "ow", &[1, 2], &["openid:o1", "wecom:w1", "wecom:w2"]),
        ("message", "", &[2, 1], &["message:1", "message:2"]),
        ("message wechat", "o", &[1], &["openid:o1", "message:1"]),
        ("message wechat", "", &[1], &["message:1"]),
    ] {
        assert_eq!(
            chosen(words, kinds, people, known),
            expected,
            "{words} by {kinds} to {people:?}"
        );
    }
}

#[test]
fn who_has_no_address_is_notified_by_the_tenant_s_and_nobody_at_all_by_the_account_s() {
    let everybody: (i64, &[&str]) = (0, &["openid:desk", "wecom:desk"]);
    let one: (i64, &[&str]) = (1, &["openid:o1"]);
    let in_wecom: (i64, &[&str]) = (2, &["wecom:w2"]);
    for (words, kinds, people, known, expected) in [
        // All people have their own address.
        (
            "wechat",
            "ow",
            &[1, 2][..],
            &[everybody, one, in_wecom][..],
            &["openid:o1", "wecom:w2"][..],
        ),
        // Some have no address, or none of the tenant's kinds.
        ("wechat", "ow", &[1, 3], &[everybody, one], &["openid:desk", "openid:o1"]),
        ("wechat", "o", &[1, 2], &[everybody, one, in_wecom], &["openid:desk", "openid:o1"]),
        ("wecom", "ow", &[1], &[everybody, one], &["wecom:desk"]),
        // No person is known.
        ("wechat", "ow", &[], &[everybody], &["openid:desk"]),
        ("wechat", "ow", &[], &[], &["openid:duty"]),
        ("wechat", "w", &[1, 3], &[one], &["wecom:duty"]),
        ("wecom wechat", "ow", &[], &[], &["openid:duty", "wecom:duty"]),
        // A person is known: the account's default address is not used.
        ("wechat", "ow", &[1, 3], &[one], &["openid:o1"]),
        ("message", "ow", &[], &[everybody], &[]),
        ("wechat", "", &[1], &[everybody, one], &[]),
    ] {
        assert_eq!(
            chosen(words, kinds, people, known),
            expected,
            "{words} by {kinds} to {people:?}"
        );
    }
}

#[test]
fn an_alert_notifies_a_bounded_number_and_first_whom_it_concerns_most() {
    let people: Vec<i64> = (1..=200).rev().collect();
    let known = people.iter().map(|user| {
        let address = Address::parse(&format!("openid:o{user:03}")).unwrap();
        (*user, Arc::from([KnownAddress { address, is_disabled: false }]))
    });
    let contacts = TenantContacts::new(Arc::new(accounts("o", "o", None)), known.collect());
    let choice = choose(&contacts, &people, channels("wechat"), &|_| false);
    assert_eq!((choice.recipients.len(), choice.omitted), (RECIPIENTS_MAX, 150));
    let last = &choice.recipients[RECIPIENTS_MAX - 1];
    assert!(choice.recipients.is_sorted() && last.address.name == "o200");
}

#[test]
fn what_is_left_out_is_replaced_by_the_next_kind_then_by_everybody_s_then_by_the_default() {
    let known: &[(i64, &[&str])] =
        &[(1, &["openid:o1", "wecom:w1"]), (EVERYBODY, &["openid:desk"]), (DEFAULT_USER, &[])];
    let steps = [
        ("openid:o1", 1),
        ("wecom:w1", 1),
        ("openid:desk", EVERYBODY),
        ("openid:duty", DEFAULT_USER),
        ("wecom:duty", DEFAULT_USER),
    ];
    let mut contacts = contacts("ow", known);
    for (expected, owner) in steps {
        let recipients = choose(&contacts, &[1], channels("wechat"), &|_| false).recipients;
        let [found] = &recipients[..] else { panic!("{recipients:?}") };
        assert_eq!((found.address.to_string().as_str(), found.user_id), (expected, owner));
        contacts.leave_out(&found.address);
    }
    let nobody = choose(&contacts, &[1], channels("wechat"), &|_| false);
    assert_eq!(nobody.routed(), Routed::Nobody(OwedReason::Refused));
}

#[test]
fn an_address_that_several_share_is_notified_once() {
    let known: &[(i64, &[&str])] =
        &[(1, &["openid:desk"]), (2, &["openid:desk"]), (0, &["openid:desk"])];
    assert_eq!(chosen("wechat", "o", &[1, 2, 3], known), ["openid:desk"]);
}

/// What a rule with these words reaches, where the accounts `ready` of all `rows` can be used: the
/// recipients, those that do not count in brackets, and the words that reach no one.
fn routed(words: &str, rows: &str, ready: &str, known: &[(i64, &[&str])]) -> Vec<String> {
    let accounts = Arc::new(accounts(ready, rows, Some("duty")));
    let contacts = TenantContacts::new(accounts, addresses(known));
    let choice = choose(&contacts, &[1], channels(words), &|_| false);
    let recipients = choice.recipients.iter().map(|recipient| {
        let address = &recipient.address;
        if choice.counts(recipient) { address.to_string() } else { format!("[{address}]") }
    });
    let unreachable =
        choice.unreachable.iter().map(|(word, reason)| format!("{word}:{}", reason.as_str()));
    let unserved = choice.unserved.iter().map(|word| format!("no {word}"));
    let reaches = match choice.routed() {
        Routed::Somebody => "yes".to_owned(),
        Routed::Nobody(reason) => reason.as_str().to_owned(),
        Routed::NoChannel => panic!("a rule with words"),
    };
    std::iter::once(reaches).chain(recipients).chain(unreachable).chain(unserved).collect()
}

#[test]
fn a_word_counts_where_the_tenant_has_an_account_for_it_whatever_its_state() {
    let known: &[(i64, &[&str])] = &[(1, &["openid:o1", "wecom:w1"])];
    let no_wecom: &[(i64, &[&str])] = &[(1, &["openid:o1"])];
    for (words, rows, ready, known, expected) in [
        ("message", "ow", "ow", known, &["yes", "message:1"][..]),
        ("message wechat", "o", "o", known, &["yes", "openid:o1", "[message:1]"]),
        ("message wechat", "o", "", known, &["no_account", "[message:1]", "wechat:no_account"]),
        ("message wechat", "ow", "w", known, &["yes", "wecom:w1", "[message:1]"]),
        ("message wechat", "", "", known, &["yes", "message:1", "no wechat"]),
        ("message wechat wecom", "", "", known, &["yes", "message:1", "no wechat", "no wecom"]),
        ("message wechat wecom", "o", "o", known, &["yes", "openid:o1", "[message:1]", "no wecom"]),
        ("wechat", "", "", known, &["no_account", "wechat:no_account"]),
        ("wechat wecom", "", "", known, &["no_account", "wechat:no_account", "wecom:no_account"]),
        ("wechat wecom", "o", "o", known, &["yes", "openid:o1", "no wecom"]),
        ("wechat wecom", "ow", "o", no_wecom, &["yes", "openid:o1", "wecom:no_account"]),
    ] {
        assert_eq!(routed(words, rows, ready, known), expected, "{words} by {ready} of {rows}");
    }
}

#[test]
fn a_disabled_address_is_passed_over_and_the_next_one_is_notified() {
    type Case<'a> = (&'a str, &'a str, &'a [(i64, &'a [&'a str])], &'a [&'a str]);
    let cases: [Case<'_>; 6] = [
        ("wechat", "ow", &[(1, &["!openid:o1", "wecom:w1"])], &["yes", "wecom:w1"]),
        (
            "wechat",
            "o",
            &[(1, &["!openid:o1"]), (EVERYBODY, &["openid:desk"])],
            &["yes", "openid:desk"],
        ),
        ("wechat", "o", &[(1, &["!openid:o1"])], &["yes", "openid:duty"]),
        (
            "wechat",
            "o",
            &[(1, &["!openid:o1"]), (DEFAULT_USER, &["!openid:duty"])],
            &["refused", "wechat:refused"],
        ),
        // The default address of the other kind is left.
        ("wechat", "ow", &[(DEFAULT_USER, &["!openid:duty"])], &["yes", "wecom:duty"]),
        (
            "message wechat",
            "o",
            &[(1, &["!openid:o1"]), (DEFAULT_USER, &["!openid:duty"])],
            &["refused", "[message:1]", "wechat:refused"],
        ),
    ];
    for (words, kinds, known, expected) in cases {
        assert_eq!(routed(words, kinds, kinds, known), expected, "{words} by {kinds}: {known:?}");
    }
}

#[test]
fn an_account_that_rests_is_passed_over() {
    let both: &[(i64, &[&str])] = &[(1, &["openid:o1", "wecom:w1"])];
    let only_openid: &[(i64, &[&str])] = &[(1, &["openid:o1"])];
    let official_rests = |name: &str| name.starts_with("official");
    let choice = |known| {
        let accounts = Arc::new(accounts("ow", "ow", None));
        let contacts = TenantContacts::new(accounts, addresses(known));
        choose(&contacts, &[1], channels("wechat"), &official_rests)
    };
    assert_eq!(texts(&choice(both)), ["wecom:w1"]);
    assert_eq!(choice(only_openid).routed(), Routed::Nobody(OwedReason::NoAccount));
    assert_eq!(choice(&[]).routed(), Routed::Nobody(OwedReason::NoRecipient));
    let all = choose(&contacts("ow", both), &[1], channels("wechat"), &|_| true);
    assert_eq!(all.routed(), Routed::Nobody(OwedReason::NoAccount));
}

/// Where a user who is reached by `account` is reached without it.
fn elsewhere(words: &str, user_id: i64, account: &str, known: &[(i64, &[&str])]) -> Vec<String> {
    let rests = |name: &str| name.starts_with(account);
    let choice = choose(&contacts("ow", known), &[user_id], channels(words), &rests);
    let own = choice.recipients.iter().filter(|to| to.user_id == user_id);
    own.map(|to| to.address.to_string()).collect()
}

#[test]
fn a_row_goes_to_every_other_address_of_its_person_and_stays_without_one() {
    let known: &[(i64, &[&str])] = &[
        (5, &["openid:o5", "wecom:a", "wecom:b"]),
        (6, &["openid:o6"]),
        (EVERYBODY, &["wecom:c"]),
    ];
    assert_eq!(elsewhere("wechat", 5, "official", known), ["wecom:a", "wecom:b"]);
    assert_eq!(elsewhere("wechat", 6, "official", known), [""; 0]);
    assert_eq!(elsewhere("wechat", EVERYBODY, "official", known), ["wecom:c"]);
}

#[test]
fn a_rule_that_names_wecom_alone_stays_there() {
    let known: &[(i64, &[&str])] = &[(5, &["wecom:w5", "openid:o5"])];
    assert_eq!(elsewhere("wecom", 5, "wecom", known), [""; 0]);
    assert_eq!(elsewhere("wechat wecom", 5, "wecom", known), ["openid:o5"]);
}

#[test]
fn the_watch_is_omitted_before_those_who_count() {
    let people: Vec<i64> = (1..=60).collect();
    let choice = choose(
        &contacts("o", &[(60, &["openid:o60"])]),
        &people,
        channels("message wechat"),
        &|_| false,
    );
    assert_eq!((choice.recipients.len(), choice.omitted), (RECIPIENTS_MAX, 11));
    assert_eq!(choice.routed(), Routed::Somebody);
}

#[test]
fn one_s_own_addresses_are_those_of_an_alert_and_disabled_ones_only_if_there_are_no_others() {
    for (kinds, known, expected) in [
        ("ow", &["openid:o1", "openid:o2", "wecom:m1"][..], &["openid:o1", "openid:o2"][..]),
        ("ow", &["!openid:o1", "openid:o2"], &["openid:o2"]),
        ("ow", &["!openid:o1", "wecom:m1"], &["wecom:m1"]),
        ("w", &["openid:o1", "wecom:m1"], &["wecom:m1"]),
        ("o", &["!openid:o1", "wecom:m1"], &["openid:o1"]),
        ("o", &["wecom:m1"], &[]),
        ("", &["openid:o1"], &[]),
    ] {
        let own = contacts(kinds, &[(5, known)]).own(5);
        let own: Vec<_> = own.iter().map(ToString::to_string).collect();
        assert_eq!(own, expected, "{kinds} {known:?}");
    }
}
