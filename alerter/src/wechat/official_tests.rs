use std::time::Duration;

use serde_json::json;
use wiremock::matchers::{body_partial_json, method, path, query_param};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::episode::To;
use crate::severity::Severity;
use crate::sign::Sign;
use crate::wechat::base_url;

const TIMEOUT: Duration = Duration::from_millis(500);
use crate::wechat::errcode::Reset;

fn account() -> Account {
    Account {
        customer_id: Some(7),
        app_id: "wx7".into(),
        app_secret: "hush".to_owned().into(),
        template_id: "t1".into(),
        default_address: None,
    }
}

fn notice() -> Notice {
    Notice {
        flapping: false,
        to: To::Opened,
        severity: Severity::Critical,
        sign: Sign::HeartRate,
        device_sn: "A1".into(),
        user: "A1".into(),
        wall: "2025-09-02T12:00:00".parse().unwrap(),
        text: "心率\"异常\"\n".repeat(200),
        delayed: false,
        repeat: false,
        digest_of: None,
    }
}

/// A platform that hands out `tokens` one after the other, the last one for ever.
async fn platform(tokens: &[&str]) -> (MockServer, Official) {
    let server = MockServer::start().await;
    for (at, token) in tokens.iter().enumerate() {
        let times = if at + 1 < tokens.len() { 1 } else { 1_000 };
        let answer = ResponseTemplate::new(200)
            .set_body_json(json!({"access_token": token, "expires_in": 7200}))
            .set_delay(Duration::from_millis(20));
        Mock::given(path("/cgi-bin/stable_token"))
            .and(body_partial_json(
                json!({"grant_type": "client_credential", "appid": "wx7", "secret": "hush"}),
            ))
            .respond_with(answer)
            .up_to_n_times(times)
            .mount(&server)
            .await;
    }
    let platform = Platform::new(base_url(&server.uri()).unwrap(), TIMEOUT).unwrap();
    let tokens = Arc::new(Tokens::new(platform.clone(), None));
    (server, Official::new(platform, tokens))
}

async fn answer(server: &MockServer, token: &str, answer: ResponseTemplate) {
    Mock::given(method("POST"))
        .and(path(PATH))
        .and(query_param("access_token", token))
        .respond_with(answer)
        .mount(server)
        .await;
}

fn errcode(errcode: i64) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({"errcode": errcode, "errmsg": "said"}))
}

async fn asked(server: &MockServer, of: &str) -> usize {
    let requests = server.received_requests().await.unwrap();
    requests.iter().filter(|request| request.url.path() == of).count()
}

#[test]
fn a_request_holds_what_the_template_shows() {
    let bytes = request(&account(), "o123", "0123456789abcdef0123456789abcdef", &notice());
    let request: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(request["touser"], "o123");
    assert_eq!(request["template_id"], "t1");
    assert_eq!(request["client_msg_id"], "0123456789abcdef0123456789abcdef");
    let data = &request["data"];
    assert_eq!(data["first"], json!({"value": "【严重】心率告警", "color": "#FF0000"}));
    assert_eq!(data["keyword1"]["value"], "A1");
    assert_eq!(data["keyword2"]["value"], "心率");
    assert_eq!(data["keyword3"]["value"], "严重");
    assert_eq!(data["keyword4"]["value"], "2025-09-02 12:00:00");
    assert!(data["remark"]["value"].as_str().unwrap().ends_with('…'));
    assert!(bytes.len() <= 4_096, "{}", bytes.len());
}

#[tokio::test]
async fn one_token_serves_everybody_and_is_asked_for_once() {
    let (server, official) = platform(&["T1"]).await;
    answer(&server, "T1", errcode(0)).await;
    assert!(send_at_once(&official, 20).await.iter().all(Result::is_ok));
    assert_eq!(asked(&server, "/cgi-bin/stable_token").await, 1);
    assert_eq!(asked(&server, PATH).await, 20);
}

/// Sends `times` messages side by side.
async fn send_at_once(official: &Official, times: usize) -> Vec<Result<(), Failure>> {
    let mut sends = tokio::task::JoinSet::new();
    for _ in 0..times {
        let official = official.clone();
        sends.spawn(async move { official.send(&account(), b"{}").await });
    }
    sends.join_all().await
}

#[tokio::test]
async fn an_old_token_is_replaced_once_however_many_find_it_old() {
    for code in [40001, 40014, 42001] {
        let (server, official) = platform(&["OLD", "NEW"]).await;
        answer(&server, "OLD", errcode(code)).await;
        answer(&server, "NEW", errcode(0)).await;
        assert!(send_at_once(&official, 10).await.iter().all(Result::is_ok), "{code}");
        assert_eq!(asked(&server, "/cgi-bin/stable_token").await, 2, "{code}");
    }
}

#[tokio::test]
async fn a_token_refused_twice_is_a_failure_and_no_loop() {
    let (server, official) = platform(&["T1"]).await;
    answer(&server, "T1", errcode(40001)).await;
    let failure = official.send(&account(), b"{}").await.unwrap_err();
    assert_eq!((failure.remedy, failure.errcode), (Remedy::RefreshToken, Some(40001)));
    assert_eq!(asked(&server, PATH).await, 2);
}

#[tokio::test]
async fn every_class_of_code_comes_back_as_its_remedy() {
    for (code, remedy) in [
        (-1, Remedy::Retry),
        (45009, Remedy::WaitUntil(Reset::AccountDay)),
        (45011, Remedy::WaitUntil(Reset::AccountMinute)),
        (43117, Remedy::WaitUntil(Reset::Recipient)),
        (43004, Remedy::DropRecipient),
        (40164, Remedy::ConfigError),
        (40037, Remedy::RetryThenConfigError),
        (47001, Remedy::Permanent),
        (12345, Remedy::RetryThenPermanent),
    ] {
        let (server, official) = platform(&["T1"]).await;
        answer(&server, "T1", errcode(code)).await;
        let failure = official.send(&account(), b"{}").await.unwrap_err();
        assert_eq!((failure.remedy, failure.errcode), (remedy, Some(code)));
        assert_eq!(asked(&server, PATH).await, 1, "one call is one attempt");
    }
}

#[tokio::test]
async fn what_is_no_answer_of_the_platform_is_tried_again() {
    for garbage in [
        ResponseTemplate::new(502).set_body_string("<html>"),
        ResponseTemplate::new(200).set_body_string("ok"),
        ResponseTemplate::new(200).set_body_json(json!({"status": "fine"})),
        ResponseTemplate::new(500).set_body_json(json!({"errcode": 0})),
    ] {
        let (server, official) = platform(&["T1"]).await;
        answer(&server, "T1", garbage).await;
        let failure = official.send(&account(), b"{}").await.unwrap_err();
        assert_eq!((failure.remedy, failure.errcode), (Remedy::Retry, None));
    }
}

#[tokio::test]
async fn an_unreachable_platform_is_tried_again_and_its_error_tells_no_token() {
    let (server, official) = platform(&["SECRET-TOKEN"]).await;
    answer(&server, "SECRET-TOKEN", errcode(0).set_delay(TIMEOUT * 10)).await;
    let failure = official.send(&account(), b"{}").await.unwrap_err();
    assert_eq!(failure.remedy, Remedy::Retry);
    assert!(!format!("{failure} {failure:?}").contains("SECRET-TOKEN"), "{failure}");
}

#[tokio::test]
async fn a_wrong_secret_is_for_the_operator() {
    let server = MockServer::start().await;
    Mock::given(path("/cgi-bin/stable_token")).respond_with(errcode(40001)).mount(&server).await;
    let platform = Platform::new(base_url(&server.uri()).unwrap(), TIMEOUT).unwrap();
    let official = Official::new(platform.clone(), Arc::new(Tokens::new(platform, None)));
    let failure = official.send(&account(), b"{}").await.unwrap_err();
    assert_eq!(failure.remedy, Remedy::ConfigError);
    assert!(!failure.message.contains("hush"));
}

#[test]
fn the_base_address_is_read_in_both_forms() {
    let old = "https://api.weixin.qq.com/cgi-bin/message/template/send?access_token={ACCESS_TOKEN}";
    assert_eq!(base_url(old).unwrap().as_str(), "https://api.weixin.qq.com/");
    assert!(base_url("http://127.0.0.1:8080").is_ok());
    for wrong in ["api.weixin.qq.com", "ftp://x", "https://u:p@x", "https://x/?token=1"] {
        assert!(base_url(wrong).is_err(), "{wrong}");
    }
}
