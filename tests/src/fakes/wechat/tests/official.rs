use std::collections::HashSet;

use super::*;
use crate::fakes::wechat::tests::{
    asking, corp, errcode, official, old_token, send, stable_token, template, token, try_send,
};
use crate::fakes::wechat::{APP_SECRET, FakeWechat, NURSE, TEMPLATE_ID, TOKEN_PREFIX};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn start() -> FakeWechat {
    FakeWechat::start().await.unwrap()
}

fn names(names: &[&str]) -> HashSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn a_token_is_given_to_who_can_prove_that_the_account_is_theirs() {
    let wechat = start().await;
    let wrong = |name: &str, value: &str| {
        let mut request = asking("wx1");
        request[name] = value.into();
        request
    };
    for (request, code) in [
        (wrong("secret", "guess"), 40125),
        (wrong("secret", ""), 41004),
        (wrong("appid", "ww1"), 40013),
        (wrong("appid", ""), 41002),
        (wrong("grant_type", "password"), 40002),
        (json!("nothing"), 47001),
    ] {
        assert_eq!(errcode(&stable_token(&wechat, request.clone()).await), code, "{request}");
    }
    wechat.set(|settings| settings.accounts = Some(vec![Account::official("wx2", "own")]));
    assert_eq!(errcode(&stable_token(&wechat, asking("wx1")).await), 40013);
    assert_eq!(errcode(&stable_token(&wechat, asking("wx2")).await), 40125);
    let mut own = asking("wx2");
    own["secret"] = "own".into();
    assert!(token(&stable_token(&wechat, own).await).starts_with(TOKEN_PREFIX));
    assert_eq!((wechat.token_requests(), wechat.token_requests_of("wx2")), (9, 2));
}

#[tokio::test]
async fn the_stable_token_stays_until_it_ends_and_then_says_so() {
    let wechat = start().await;
    wechat.set(|settings| settings.token_life = seconds(100));
    let first = official(&wechat).await;
    assert_eq!(official(&wechat).await, first);
    assert_eq!(send(&wechat, &first, &template("1")).await, 0);
    wechat.advance(seconds(100));
    assert_eq!(send(&wechat, &first, &template("2")).await, 42001);
    let second = official(&wechat).await;
    assert_ne!(second, first);
    wechat.expire_token();
    assert_eq!(send(&wechat, &second, &template("2")).await, 42001);
    let third = official(&wechat).await;
    wechat.revoke_tokens("wx1");
    assert_eq!(send(&wechat, &third, &template("2")).await, 40001);
    assert_eq!(send(&wechat, "", &template("2")).await, 41001);
    assert_eq!(send(&wechat, "nonsense", &template("2")).await, 40014);
    assert_eq!(wechat.delivered(), 1);
}

#[tokio::test]
async fn a_token_of_the_other_platform_is_none() {
    let wechat = start().await;
    let corp = corp(&wechat).await;
    assert_eq!(send(&wechat, &corp, &template("1")).await, 40001);
}

#[tokio::test]
async fn the_old_call_replaces_its_token_each_time_and_leaves_the_stable_one_alone() {
    let wechat = start().await;
    let query = format!("grant_type=client_credential&appid=wx1&secret={APP_SECRET}");
    let (stable, first) = (official(&wechat).await, token(&old_token(&wechat, &query).await));
    assert_eq!(send(&wechat, &first, &template("1")).await, 0);
    let second = token(&old_token(&wechat, &query).await);
    assert_eq!(send(&wechat, &first, &template("2")).await, 40001);
    assert_eq!(send(&wechat, &second, &template("2")).await, 0);
    assert_eq!(send(&wechat, &stable, &template("3")).await, 0);
    wechat.set(|settings| settings.token_overlap = seconds(300));
    old_token(&wechat, &query).await;
    assert_eq!(send(&wechat, &second, &template("4")).await, 0, "within the overlap");
    let refused = old_token(&wechat, "grant_type=client_credential&appid=wx1&secret=a%26b").await;
    assert_eq!(errcode(&refused), 40125);
}

#[tokio::test]
async fn a_forced_refresh_replaces_the_token_and_is_rare() {
    let wechat = start().await;
    let mut forced = asking("wx1");
    forced["force_refresh"] = true.into();
    let first = official(&wechat).await;
    let second = token(&stable_token(&wechat, forced.clone()).await);
    assert_eq!(send(&wechat, &first, &template("1")).await, 40001);
    assert_eq!(send(&wechat, &second, &template("1")).await, 0);
    assert_eq!(errcode(&stable_token(&wechat, forced.clone()).await), 45011, "too soon");
    assert_eq!(official(&wechat).await, second, "an ordinary call may be repeated");
    for _ in 1..20 {
        wechat.advance(seconds(30));
        assert!(!token(&stable_token(&wechat, forced.clone()).await).is_empty());
    }
    wechat.advance(seconds(30));
    assert_eq!(errcode(&stable_token(&wechat, forced.clone()).await), 45009, "too often");
}

#[tokio::test]
async fn asking_for_tokens_too_often_is_refused_for_a_minute_or_a_day() {
    let wechat = start().await;
    wechat.set(|settings| {
        settings.token_minute = Some(Limit::a_minute(1));
        settings.token_day = Some(Limit::a_day(2));
    });
    official(&wechat).await;
    assert_eq!(errcode(&stable_token(&wechat, asking("wx1")).await), 45011);
    assert!(!token(&stable_token(&wechat, asking("wx2")).await).is_empty(), "another account");
    wechat.advance(seconds(60));
    assert!(!official(&wechat).await.is_empty());
    wechat.advance(seconds(60));
    assert_eq!(errcode(&stable_token(&wechat, asking("wx1")).await), 45009);
    wechat.advance(seconds(86_400));
    assert!(!official(&wechat).await.is_empty());
}

#[tokio::test]
async fn a_message_reaches_its_person_as_it_was_written() {
    let wechat = start().await;
    let token = official(&wechat).await;
    let answer = try_send(&wechat, &token, &template("1")).await.unwrap();
    assert_eq!(answer.json, json!({"errcode": 0, "errmsg": "ok", "msgid": 1}));
    let inbox = wechat.inbox(NURSE);
    assert_eq!((inbox.len(), wechat.inbox("another").len()), (1, 0));
    assert_eq!((inbox[0].kind, inbox[0].account.as_str()), (Kind::Official, "wx1"));
    assert_eq!(inbox[0].client_msg_id.as_deref(), Some("1"));
    assert_eq!((inbox[0].text(), inbox[0].title()), ("alarm 1 · look".into(), "alarm 1".into()));
    assert_eq!((wechat.sends(), wechat.sends_of("wx1"), wechat.sends_of("wx2")), (1, 1, 0));
}

#[tokio::test]
async fn the_same_id_is_delivered_once_within_ten_minutes_and_again_after_them() {
    let wechat = start().await;
    let token = official(&wechat).await;
    let mut other = template("1");
    other["touser"] = "openid-other".into();
    for (message, delivered) in [(template("1"), 1), (template("1"), 1), (other, 2)] {
        assert_eq!(send(&wechat, &token, &message).await, 0);
        assert_eq!(wechat.delivered(), delivered, "{message}");
    }
    wechat.advance(SAME_WITHIN_OFFICIAL);
    assert_eq!(send(&wechat, &token, &template("1")).await, 0);
    assert_eq!(wechat.inbox(NURSE).len(), 2);
    assert!(wechat.received_twice().is_empty(), "the window was over");
    // The same words under another id: the platform does not recognise the message, the person
    // does.
    let mut reworded = template("1");
    reworded["client_msg_id"] = "2".into();
    assert_eq!(send(&wechat, &token, &reworded).await, 0);
    let twice = wechat.received_twice();
    assert_eq!(twice.len(), 1);
    assert_eq!(twice[0].client_msg_id.as_deref(), Some("2"));
    assert_eq!(wechat.received_twice_by(|message| message.title()).len(), 1);
}

#[tokio::test]
async fn what_the_platform_would_not_take_is_refused_by_its_code() {
    let wechat = start().await;
    let token = official(&wechat).await;
    wechat.set(|settings| {
        settings.openids = Some(names(&[NURSE, "gone", "refusing"]));
        settings.not_following = names(&["gone"]);
        settings.refusing = names(&["refusing"]);
    });
    let with = |name: &str, value: Value| {
        let mut message = template("1");
        message[name] = value;
        message
    };
    let data = |length| json!({ "keyword1": { "value": "x".repeat(length) } });
    let overhead = data(0).to_string().len();
    for (message, code) in [
        (with("touser", Value::Null), 40003),
        (with("touser", "nobody".into()), 40003),
        (with("touser", "gone".into()), 43004),
        (with("touser", "refusing".into()), 43101),
        (with("template_id", "other".into()), 40037),
        (with("template_id", Value::Null), 40037),
        (with("data", Value::Null), 47003),
        (with("data", json!({ "keyword1": "plain" })), 47003),
        (with("data", data(4_097 - overhead)), 47003),
        (with("client_msg_id", 5.into()), 47001),
        (with("data", data(4_096 - overhead)), 0),
    ] {
        assert_eq!(send(&wechat, &token, &message).await, code, "{message}");
    }
    let url = format!("{}/cgi-bin/message/template/send?access_token={token}", wechat.url());
    let malformed = crate::clients::http::post(&url, "{\"touser\":").await.unwrap();
    assert_eq!(errcode(&malformed), 47001);
    assert_eq!(wechat.delivered(), 1);
    let today = ("other".to_owned(), vec!["thing1".to_owned()]);
    wechat.set(|settings| settings.templates = [today].into());
    assert_eq!(send(&wechat, &token, &with("template_id", TEMPLATE_ID.into())).await, 40037);
    let old = try_send(&wechat, &token, &with("template_id", "other".into())).await.unwrap();
    assert_eq!(errcode(&old), 47003);
    let errmsg = old.json["errmsg"].as_str().unwrap();
    assert!(errmsg.starts_with("argument invalid! data.thing1.value is empty rid: "), "{errmsg}");
}

#[tokio::test]
async fn templates_are_listed_with_a_place_for_each_field_and_no_send_is_counted() {
    let wechat = start().await;
    let list = async |token: &str| {
        let path = "/cgi-bin/template/get_all_private_template";
        let url = format!("{}{path}?access_token={token}", wechat.url());
        crate::clients::http::get(&url).await.unwrap()
    };
    assert_eq!(errcode(&list("").await), 41001);
    assert_eq!(errcode(&list(&corp(&wechat).await).await), 40001);
    let listed = list(&official(&wechat).await).await;
    let template = &listed.json["template_list"][0];
    assert_eq!(template["template_id"], TEMPLATE_ID);
    let content = template["content"].as_str().unwrap();
    assert!(content.contains("keyword1：{{keyword1.DATA}}\nkeyword2：{{"), "{content}");
    assert_eq!(wechat.sends(), 0);
}

#[tokio::test]
async fn a_blocked_word_is_no_success() {
    let wechat = start().await;
    let token = official(&wechat).await;
    wechat.set(|settings| settings.blocked_words = vec!["alarm 2".to_owned()]);
    assert_eq!(send(&wechat, &token, &template("2")).await, 40249);
    assert_eq!(send(&wechat, &token, &template("3")).await, 0);
    let inbox = wechat.inbox(NURSE);
    assert_eq!(inbox.len(), 1);
    assert_eq!(inbox[0].field("keyword1"), Some("alarm 3"));
    assert_eq!(inbox[0].field("first"), None);
}

#[tokio::test]
async fn limits_are_those_of_the_minute_the_day_and_the_person() {
    let wechat = start().await;
    let token = official(&wechat).await;
    wechat.set(|settings| {
        settings.openid = Some(Limit::a_minute(1));
        settings.account_minute = Some(Limit::a_minute(3));
        settings.account_day = Some(Limit::a_day(4));
    });
    assert_eq!(send(&wechat, &token, &template("1")).await, 0);
    assert_eq!(send(&wechat, &token, &template("2")).await, 43117);
    assert_eq!(send(&wechat, &token, &template("1")).await, 0, "known, so nobody is bothered");
    assert_eq!(send(&wechat, &token, &template("3")).await, 45011);
    wechat.advance(seconds(60));
    assert_eq!(send(&wechat, &token, &template("3")).await, 0);
    assert_eq!(send(&wechat, &token, &template("4")).await, 45009);
    assert_eq!(wechat.inbox(NURSE).len(), 2);
}
