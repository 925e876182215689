use serde_json::{Value, json};
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;
use crate::notify::wechat::error::ErrcodeRemedy;

const SECRET: &str = "key-of-the-operators";

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn broken() -> OperatorEvent {
    let failure = Failure {
        uncertain: false,
        remedy: ErrcodeRemedy::ConfigError,
        errcode: Some(40164),
        message: "/cgi-bin/stable_token: invalid ip".into(),
    };
    OperatorEvent::new("wx7", breaker::AccountChange::Opened, Some(&failure), at(1_756_785_600))
}

async fn webhook(server: &MockServer) -> Webhook {
    Webhook {
        http: reqwest::Client::new(),
        url: server.uri().parse().unwrap(),
        secret: SECRET.to_owned().into(),
        wait_min: Duration::from_millis(1),
    }
}

#[test]
fn news_say_which_account_since_when_and_why() {
    let operator_event = serde_json::to_value(broken()).unwrap();
    assert_eq!(
        operator_event,
        json!({
            "event": "wechat_broken", "account": "wx7", "errcode": 40164,
            "since": "2025-09-02T04:00:00Z", "at": "2025-09-02T04:00:00Z",
            "text": "WeChat account wx7 does not send: /cgi-bin/stable_token: invalid ip; its \
                     notifications wait",
        })
    );
    let works =
        OperatorEvent::new("wx7", breaker::AccountChange::Closed(Instant::now()), None, at(60));
    assert_eq!((works.event, works.errcode), ("wechat_works", None));
}

#[test]
fn a_signature_is_hmac_sha256_over_time_and_body() {
    assert_eq!(
        signature(SECRET, 1_756_785_600, br#"{"event":"x"}"#).unwrap(),
        "c227ef47f8b8e572034c67480d38ecdc94f8d3a29e7c1415759364c32041f9a3"
    );
}

#[tokio::test]
async fn the_receiver_gets_signed_news_though_it_refuses_at_first() {
    let server = MockServer::start().await;
    let refusal = Mock::given(method("POST")).respond_with(ResponseTemplate::new(500));
    refusal.up_to_n_times(2).mount(&server).await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(204)).mount(&server).await;
    webhook(&server).await.deliver(&broken()).await;
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests.len(), 3);
    let last = &requests[2];
    let body: Value = serde_json::from_slice(&last.body).unwrap();
    assert_eq!(body["account"], "wx7");
    let header = last.headers["X-Signature"].to_str().unwrap();
    let (time, signed) = header.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    assert_eq!(signed, signature(SECRET, time.parse().unwrap(), &last.body).unwrap());
}

#[tokio::test]
async fn a_receiver_that_never_takes_it_is_asked_a_few_times_only() {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(500)).mount(&server).await;
    webhook(&server).await.deliver(&broken()).await;
    assert_eq!(server.received_requests().await.unwrap().len(), ATTEMPTS_MAX as usize);
}

#[test]
fn operators_hear_of_a_refused_field_once_an_hour() {
    let (operators, begun) = (OperatorEvents::silent(), Instant::now());
    for (account, field, seconds, due) in [
        ("official:wx7", "thing1", 0, true),
        ("official:wx7", "thing1", 3_599, false),
        ("official:wx7", "thing2", 3_599, true),
        ("official:wx8", "thing1", 3_599, true),
        ("official:wx7", "thing1", 3_600, true),
    ] {
        let now = begun + Duration::from_secs(seconds);
        assert_eq!(operators.is_due(account, field, now), due, "{account} {field} {seconds}");
    }
}

#[test]
fn a_webhook_without_its_secret_is_refused_and_so_is_an_address_that_is_none() {
    let problems = |url: Option<&str>, secret: Option<&str>| {
        let secret_string = |text: &str| SecretString::from(text.to_owned());
        let args = OperatorsArgs {
            operators_webhook_url: url.map(secret_string),
            operators_webhook_secret: secret.map(secret_string),
        };
        let mut problems = Problems::default();
        args.validate(&mut problems);
        problems.list().len()
    };
    assert_eq!(problems(None, None), 0);
    assert_eq!(problems(Some("https://ops.example/hook"), Some(SECRET)), 0);
    assert_eq!(problems(Some("https://ops.example/hook"), None), 1);
    assert_eq!(problems(None, Some(SECRET)), 1);
    assert_eq!(problems(Some("ops.example"), None), 2);
}
