//! A receiver of webhooks: it keeps its posts and checks their signatures, like an operator's own
//! receiver. The content of a post belongs to its tests.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::fakes::http_server::Server;
use crate::fakes::lock;

/// The header with the time of the post and its signature: `t=…,v1=…`.
const SIGNATURE: &str = "x-signature";

/// Greatest age of a signature, in seconds: an older signature may be a replay.
const AGE_MAX: i64 = 300;

/// Most posts kept.
const KEPT_MAX: usize = 10_000;

/// The only path that takes posts.
const PATH: &str = "/operators";

/// One post.
#[derive(Debug, Clone)]
pub struct Post {
    /// All headers.
    pub headers: HeaderMap,
    /// The body, unchanged.
    pub body: Bytes,
    /// The body if it is JSON, else null.
    pub json: Value,
    /// Whether the secret signed the post; if not, the reason.
    pub signed: Result<(), String>,
}

#[derive(Debug)]
struct Receiver {
    secret: String,
    posts: VecDeque<Post>,
    answers: VecDeque<u16>,
}

type Shared = Arc<Mutex<Receiver>>;

/// The running receiver. It stops when dropped.
#[derive(Debug)]
pub struct Webhook {
    server: Server,
    receiver: Shared,
}

impl Webhook {
    /// Receives posts signed with `secret` on a free local port.
    pub async fn start(secret: &str) -> anyhow::Result<Self> {
        let receiver = Receiver {
            secret: secret.to_owned(),
            posts: VecDeque::new(),
            answers: VecDeque::new(),
        };
        let receiver = Arc::new(Mutex::new(receiver));
        let router = Router::new().route(PATH, post(receive)).with_state(Arc::clone(&receiver));
        let server = Server::start(SocketAddr::from(([127, 0, 0, 1], 0)), router).await?;
        Ok(Self { server, receiver })
    }

    /// URL to post to.
    pub fn url(&self) -> String {
        format!("{}{PATH}", self.server.url())
    }

    /// The posts, oldest first, including rejected posts.
    pub fn posts(&self) -> Vec<Post> {
        lock(&self.receiver).posts.iter().cloned().collect()
    }

    /// Answers the next posts with these statuses.
    pub fn answer_next(&self, statuses: &[u16]) {
        lock(&self.receiver).answers.extend(statuses);
    }

    /// Stops: ends every connection, and every new one at once.
    pub fn down(&self) {
        self.server.down();
    }

    /// Starts again under the same address.
    pub fn up(&self) {
        self.server.up();
    }
}

async fn receive(State(receiver): State<Shared>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let mut receiver = lock(&receiver);
    let header = headers.get(SIGNATURE).and_then(|value| value.to_str().ok());
    let now = jiff::Timestamp::now().as_second();
    let signed = verify(&receiver.secret, header.unwrap_or_default(), &body, now);
    let refused = signed.is_err();
    let json = serde_json::from_slice(&body).unwrap_or_default();
    receiver.posts.push_back(Post { headers, body, json, signed });
    if receiver.posts.len() > KEPT_MAX {
        receiver.posts.pop_front();
    }
    match receiver.answers.pop_front() {
        Some(status) => StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        None if refused => StatusCode::UNAUTHORIZED,
        None => StatusCode::OK,
    }
}

/// Verifies that `header` signs `body` with `secret`, not long before `now` (seconds of the epoch).
fn verify(secret: &str, header: &str, body: &[u8], now: i64) -> Result<(), String> {
    let part = |name: &str| {
        header.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
    };
    let (Some(time), Some(given)) = (part("t"), part("v1")) else {
        return Err(format!("write {SIGNATURE}: t=<epoch seconds>,v1=<hex>, not {header:?}"));
    };
    let seconds: i64 = time.parse().map_err(|_| format!("t is no whole number: {time:?}"))?;
    if now.abs_diff(seconds) > AGE_MAX.unsigned_abs() {
        return Err(format!("t is more than {AGE_MAX} s away from now, {now}: {seconds}"));
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|e| e.to_string())?;
    mac.update(time.as_bytes());
    mac.update(b".");
    mac.update(body);
    let tag = mac.finalize().into_bytes();
    let expected: String = tag.iter().map(|byte| format!("{byte:02x}")).collect();
    if given == expected { Ok(()) } else { Err("v1 is not this body's signature".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clients::http;

    /// The signature of `{"a":1}` at 1700000000 with the secret `hush`, made by another tool.
    const TAG: &str = "7cfd1df542c33ab7251748ffdc6e7fed278c63b83d4ece95a4534b0ad465571b";
    const TIME: i64 = 1_700_000_000;

    #[test]
    fn a_signature_holds_for_its_secret_its_body_and_its_time() {
        let header = format!("t={TIME},v1={TAG}");
        let verify = |secret, header: &str, body: &str, now| {
            verify(secret, header, body.as_bytes(), now).is_ok()
        };
        assert!(verify("hush", &header, "{\"a\":1}", TIME));
        assert!(verify("hush", &header, "{\"a\":1}", TIME + AGE_MAX));
        assert!(verify("hush", &format!("v1={TAG}, t={TIME}"), "{\"a\":1}", TIME), "any order");
        assert!(!verify("hush", &header, "{\"a\":1}", TIME + AGE_MAX + 1), "a copy");
        assert!(!verify("hush", &header, "{\"a\":1}", TIME - AGE_MAX - 1), "of the future");
        assert!(!verify("loud", &header, "{\"a\":1}", TIME));
        assert!(!verify("hush", &header, "{\"a\":2}", TIME));
        let later = format!("t={},v1={TAG}", TIME + 1);
        assert!(!verify("hush", &later, "{\"a\":1}", TIME), "the time is signed too");
        for malformed in ["", "t=1", "v1=00", "t=x,v1=00", TAG] {
            assert!(!verify("hush", malformed, "{\"a\":1}", TIME), "{malformed}");
        }
    }

    #[tokio::test]
    async fn posts_are_kept_and_those_of_strangers_refused() {
        let webhook = Webhook::start("hush").await.unwrap();
        let answer = http::post_with(&webhook.url(), "{\"a\":1}", &[("x-b", "c")]).await.unwrap();
        assert_eq!(answer.status, 401);
        webhook.answer_next(&[503]);
        assert_eq!(http::post(&webhook.url(), "no json").await.unwrap().status, 503);
        let posts = webhook.posts();
        assert_eq!(posts.len(), 2);
        assert_eq!(posts[0].json["a"], 1);
        assert_eq!(posts[0].headers["x-b"], "c");
        assert!(posts[0].signed.as_ref().unwrap_err().contains("x-signature"));
        assert_eq!((posts[1].json.clone(), &posts[1].body[..]), (Value::Null, &b"no json"[..]));
    }

    #[tokio::test]
    async fn a_signed_post_is_taken_and_none_while_the_receiver_is_away() {
        let webhook = Webhook::start("hush").await.unwrap();
        let time = jiff::Timestamp::now().as_second();
        let mut mac = Hmac::<Sha256>::new_from_slice(b"hush").unwrap();
        mac.update(format!("{time}.{{}}").as_bytes());
        let tag: String =
            mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let header = format!("t={time},v1={tag}");
        let post =
            async || http::post_with(&webhook.url(), "{}", &[("X-Signature", &header)]).await;
        assert_eq!(post().await.unwrap().status, 200);
        webhook.down();
        assert!(post().await.is_err());
        webhook.up();
        assert_eq!(post().await.unwrap().status, 200);
        assert!(webhook.posts().iter().all(|post| post.signed.is_ok()));
        assert_eq!(webhook.posts().len(), 2);
    }
}
