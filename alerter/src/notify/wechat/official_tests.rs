use serde_json::{Value, json};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::*;
use crate::notify::wechat::account::Account;
use crate::notify::wechat::client::Platforms;
use crate::notify::wechat::error::{ErrcodeRemedy, Failure, Reset};
use crate::notify::wechat::request;
use crate::notify::wechat::test_support::*;
use crate::test_support::official_account;

const TOKEN: &str = "/cgi-bin/stable_token";

fn account() -> Account {
    official_account(FieldMap::default())
}

fn asks_for_a_token(request: &Request) -> bool {
    let expected = json!({"grant_type": "client_credential", "appid": "wx7", "secret": "hush"});
    request.method.as_str() == "POST"
        && request.body_json::<Value>().is_ok_and(|body| body == expected)
}

/// A platform that hands out `tokens` one after the other, the last one for ever.
async fn platform(tokens: &[&str]) -> (MockServer, Platforms) {
    let server = hand_out(tokens, TOKEN, asks_for_a_token).await;
    let official = platforms(&server.uri());
    (server, official)
}

/// Sends `times` messages at the same time.
async fn send_at_once(official: &Platforms, times: usize) -> Vec<Result<(), Failure>> {
    let mut sends = tokio::task::JoinSet::new();
    for _ in 0..times {
        let official = official.clone();
        sends.spawn(async move { official.send(&account(), b"{}").await });
    }
    sends.join_all().await
}

#[test]
fn a_request_holds_what_the_template_shows() {
    let bytes = request(&account(), "o123", "0123456789abcdef0123456789abcdef", &notice());
    let request: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(request["touser"], "o123");
    assert_eq!(request["template_id"], "t1");
    assert_eq!(request["client_msg_id"], "0123456789abcdef0123456789abcdef");
    let shown = |value: &str| json!({ "value": value });
    let expected = json!({
        "keyword1": shown("A1"), "keyword2": shown("心率过高 133"), "keyword3": shown("严重"),
        "keyword4": shown("2025-09-02 12:00:00"),
    });
    assert_eq!(request["data"], expected);
}

#[test]
fn a_template_and_its_map_have_the_same_fields_or_the_check_names_the_difference() {
    let template = |id: &str, content: &str| Template {
        template_id: id.to_owned(),
        content: content.to_owned(),
    };
    let old = "{{first.DATA}}\n姓名：{{keyword1.DATA}}\n{{keyword2.DATA}} {{keyword3.DATA}}\n\
               时间：{{keyword4.DATA}}\n{{remark.DATA}}";
    let faults = |map: &FieldMap, all: Vec<Template>| {
        template_faults("t1", map, &Templates { template_list: all })
    };
    let other = || template("t0", "{{thing1.DATA}}");
    let default = FieldMap::default();
    assert_eq!(faults(&default, vec![other(), template("t1", old)]), [""; 0]);
    let found = faults(&default, vec![other()]);
    assert!(found.len() == 1 && found[0].contains("no template t1: correct template_id"));
    let map = FieldMap::parse(r#"{"thing1": "patient", "time4": "time"}"#).unwrap();
    let faults = faults(&map, vec![template("t1", "{{thing1.DATA}}\n{{const2.DATA}}")]);
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].contains("lacks the template's field const2"), "{faults:?}");
    assert!(faults[1].contains("the template lacks the field time4"), "{faults:?}");
}

#[test]
fn no_name_makes_a_field_too_long_or_writes_a_line_of_its_own() {
    for user in ["\"", "\u{1}", "心", "\n", "a", "😀"].map(|one| one.repeat(10_000)) {
        let notice =
            Notice { user, digest_of: Some(10_000), delayed: true, repeat: true, ..notice() };
        let bytes = request(&account(), "o1", &"0".repeat(32), &notice);
        let request: Value = serde_json::from_slice(&bytes).unwrap();
        for field in request["data"].as_object().unwrap().values() {
            let value = field["value"].as_str().unwrap();
            assert!((1..=20).contains(&value.chars().count()), "{value}");
            assert!(!value.contains(char::is_control), "{value}");
        }
    }
}

#[tokio::test]
async fn one_token_serves_everybody_and_is_asked_for_once() {
    let (server, official) = platform(&["T1"]).await;
    answer(&server, PATH, "T1", errcode(0)).await;
    assert!(send_at_once(&official, 20).await.iter().all(Result::is_ok));
    assert_eq!(asked(&server, TOKEN).await, 1);
    assert_eq!(asked(&server, PATH).await, 20);
}

#[tokio::test]
async fn an_old_token_is_replaced_once_however_many_find_it_old() {
    for code in [40001, 40014, 42001] {
        let (server, official) = platform(&["OLD", "NEW"]).await;
        answer(&server, PATH, "OLD", errcode(code)).await;
        answer(&server, PATH, "NEW", errcode(0)).await;
        assert!(send_at_once(&official, 10).await.iter().all(Result::is_ok), "{code}");
        assert_eq!(asked(&server, TOKEN).await, 2, "{code}");
    }
}

#[tokio::test]
async fn a_token_refused_twice_is_a_failure_and_no_loop() {
    let (server, official) = platform(&["T1"]).await;
    answer(&server, PATH, "T1", errcode(40001)).await;
    let failure = official.send(&account(), b"{}").await.unwrap_err();
    assert_eq!((failure.remedy, failure.errcode), (ErrcodeRemedy::RefreshToken, Some(40001)));
    assert_eq!(asked(&server, PATH).await, 2);
}

#[tokio::test]
async fn a_refused_token_is_asked_for_once_by_all_who_wait_for_it() {
    let server = MockServer::start().await;
    let refusal = errcode(40001).set_delay(TIMEOUT / 5);
    Mock::given(wiremock::matchers::path(TOKEN)).respond_with(refusal).mount(&server).await;
    let official = platforms(&server.uri());
    for result in send_at_once(&official, 10).await {
        let failure = result.unwrap_err();
        assert_eq!((failure.remedy, failure.uncertain), (ErrcodeRemedy::ConfigError, false));
        assert!(!failure.message.contains("hush"));
    }
    assert_eq!(asked(&server, TOKEN).await, 1);
    assert!(official.send(&account(), b"{}").await.is_err());
    assert_eq!(asked(&server, TOKEN).await, 2, "who comes later asks anew");
}

#[tokio::test]
async fn every_class_of_code_comes_back_as_its_remedy() {
    for (code, remedy) in [
        (-1, ErrcodeRemedy::Retry),
        (45009, ErrcodeRemedy::WaitUntil(Reset::AccountDay)),
        (45011, ErrcodeRemedy::WaitUntil(Reset::AccountMinute)),
        (43117, ErrcodeRemedy::WaitUntil(Reset::Recipient)),
        (43004, ErrcodeRemedy::DropRecipient),
        (40164, ErrcodeRemedy::ConfigError),
        (40037, ErrcodeRemedy::RetryThenConfigError),
        (47001, ErrcodeRemedy::Permanent),
        (12345, ErrcodeRemedy::RetryThenPermanent),
    ] {
        let (server, official) = platform(&["T1"]).await;
        answer(&server, PATH, "T1", errcode(code)).await;
        let failure = official.send(&account(), b"{}").await.unwrap_err();
        assert_eq!((failure.remedy, failure.errcode), (remedy, Some(code)));
        assert!(!failure.uncertain, "the platform has said what became of it");
        assert_eq!(asked(&server, PATH).await, 1, "one call is one attempt");
    }
}

#[tokio::test]
async fn what_is_no_answer_of_the_platform_is_tried_again_and_may_have_arrived() {
    for garbage in [
        ResponseTemplate::new(502).set_body_string("<html>"),
        ResponseTemplate::new(200).set_body_string("ok"),
        ResponseTemplate::new(200).set_body_json(json!({"status": "fine"})),
        ResponseTemplate::new(500).set_body_json(json!({"errcode": 0})),
        ResponseTemplate::new(302).insert_header("location", "http://127.0.0.1:9/"),
    ] {
        let (server, official) = platform(&["T1"]).await;
        answer(&server, PATH, "T1", garbage).await;
        let failure = official.send(&account(), b"{}").await.unwrap_err();
        assert_eq!((failure.remedy, failure.errcode), (ErrcodeRemedy::Retry, None));
        assert!(failure.uncertain);
    }
}

#[tokio::test]
async fn a_platform_too_slow_to_answer_is_tried_again_and_its_error_tells_no_token() {
    let (server, official) = platform(&["SECRET-TOKEN"]).await;
    answer(&server, PATH, "SECRET-TOKEN", errcode(0).set_delay(TIMEOUT * 10)).await;
    let failure = official.send(&account(), b"{}").await.unwrap_err();
    assert_eq!((failure.remedy, failure.uncertain), (ErrcodeRemedy::Retry, true));
    assert!(!format!("{failure} {failure:?}").contains("SECRET-TOKEN"), "{failure}");
}

#[tokio::test]
async fn a_message_is_in_doubt_once_it_was_on_its_way_and_not_before() {
    for (cuts, uncertain) in [(0, false), (1, true)] {
        let url = cut_off_after_a_token(cuts).await;
        let official = platforms(&url);
        let failure = official.send(&account(), b"{}").await.unwrap_err();
        assert_eq!(
            (failure.remedy, failure.uncertain),
            (ErrcodeRemedy::Retry, uncertain),
            "{failure}"
        );
    }
    let nobody = platforms("http://127.0.0.1:9");
    assert!(!nobody.send(&account(), b"{}").await.unwrap_err().uncertain);
}
