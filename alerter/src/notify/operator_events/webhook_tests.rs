use serde_json::Value;
use wiremock::matchers::method;
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::*;

const SECRET: &str = "key-of-the-operators";

fn event() -> OperatorEvent {
    OperatorEvent::about("rules_shrunk", "the source has no rule".into(), Timestamp::UNIX_EPOCH)
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
    webhook(&server).await.deliver(&event()).await;
    let requests = server.received_requests().await.unwrap();
    assert_eq!(requests.len(), 3);
    let last = &requests[2];
    let body: Value = serde_json::from_slice(&last.body).unwrap();
    assert_eq!(body["event"], "rules_shrunk");
    let header = last.headers["X-Signature"].to_str().unwrap();
    let (time, signed) = header.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    assert_eq!(signed, signature(SECRET, time.parse().unwrap(), &last.body).unwrap());
}

#[tokio::test]
async fn a_receiver_that_never_takes_it_is_asked_a_few_times_only() {
    let server = MockServer::start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(500)).mount(&server).await;
    webhook(&server).await.deliver(&event()).await;
    assert_eq!(server.received_requests().await.unwrap().len(), ATTEMPTS_MAX as usize);
}
