use super::*;
use crate::notify::wechat::{OfficialAccount, WecomAccount};

/// Accounts of these kinds, with default addresses.
fn accounts(kinds: &str) -> Accounts {
    let official = OfficialAccount {
        app_id: "wx7".into(),
        app_secret: "hush".to_owned().into(),
        template_id: "t1".into(),
        default_address: Some("duty".into()),
    };
    let wecom = WecomAccount {
        corp_id: "ww7".into(),
        agent_id: 5,
        secret: "hush".to_owned().into(),
        default_address: Some("duty".into()),
    };
    Accounts {
        official: kinds.contains('o').then(|| Arc::new(official)),
        wecom: kinds.contains('w').then(|| Arc::new(wecom)),
    }
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

/// Addresses in the outbox's form, by user.
fn addresses(known: &[(i64, &[&str])]) -> Addresses {
    let parse = |text: &&str| Address::parse(text).unwrap();
    known.iter().map(|(user, texts)| (*user, texts.iter().map(parse).collect())).collect()
}

fn told(words: &str, kinds: &str, people: &[i64], known: &[(i64, &[&str])]) -> Vec<String> {
    let (accounts, channels) = (accounts(kinds), channels(words));
    let account_channels = account_channels(&accounts, channels);
    let (told, cut) =
        choose(people, &addresses(known), &accounts, &account_channels, channels.message, &[]);
    assert_eq!(cut, 0);
    told.iter().map(ToString::to_string).collect()
}

#[test]
fn a_person_is_told_once_by_the_first_kind_that_tenant_and_person_have() {
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
        assert_eq!(told(words, kinds, people, known), expected, "{words} by {kinds} to {people:?}");
    }
}

#[test]
fn who_has_no_address_is_told_by_the_tenant_s_and_nobody_at_all_by_the_account_s() {
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
        assert_eq!(told(words, kinds, people, known), expected, "{words} by {kinds} to {people:?}");
    }
}

#[test]
fn an_alert_tells_a_bounded_number_and_first_whom_it_concerns_most() {
    let accounts = accounts("o");
    let people: Vec<i64> = (1..=200).rev().collect();
    let known: Addresses = people
        .iter()
        .map(|user| (*user, Arc::from([Address::parse(&format!("openid:o{user:03}")).unwrap()])))
        .collect();
    let account_channels = account_channels(&accounts, channels("wechat"));
    let (told, cut) = choose(&people, &known, &accounts, &account_channels, false, &[]);
    assert_eq!((told.len(), cut), (RECIPIENTS_MAX, 150));
    assert!(told.is_sorted() && told[RECIPIENTS_MAX - 1].name == "o200");
}

#[test]
fn what_is_left_out_is_replaced_by_the_next_kind_then_by_everybody_s_then_by_the_default() {
    let known = addresses(&[(1, &["openid:o1", "wecom:w1"]), (0, &["openid:desk"])]);
    let accounts = accounts("ow");
    let account_channels = account_channels(&accounts, channels("wechat"));
    for (without, expected, owner) in [
        (&[][..], "openid:o1", 1),
        (&["openid:o1"], "wecom:w1", 1),
        (&["openid:o1", "wecom:w1"], "openid:desk", 0),
        (&["openid:o1", "wecom:w1", "openid:desk"], "openid:duty", -1),
        (&["openid:o1", "wecom:w1", "openid:desk", "openid:duty"], "wecom:duty", -1),
    ] {
        let without: Vec<_> = without.iter().map(|text| Address::parse(text).unwrap()).collect();
        let (told, _) = choose(&[1], &known, &accounts, &account_channels, false, &without);
        let found = recipient(told[0].clone(), &[1], &known);
        assert_eq!((found.address.to_string().as_str(), found.user_id), (expected, owner));
        assert_eq!(told.len(), 1);
    }
}

#[test]
fn an_address_that_several_share_is_told_once() {
    let known: &[(i64, &[&str])] =
        &[(1, &["openid:desk"]), (2, &["openid:desk"]), (0, &["openid:desk"])];
    assert_eq!(told("wechat", "o", &[1, 2, 3], known), ["openid:desk"]);
}
