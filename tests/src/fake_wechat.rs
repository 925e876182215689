//! A stand-in for the official-account platform: tokens, template messages, idempotency by
//! `client_msg_id`, and error codes on demand. It keeps what a nurse would have received.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use axum::extract::{RawQuery, State};
use axum::routing::post;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Secret of every account here.
pub const APP_SECRET: &str = "secret-of-the-stand-in";

/// Template of every account here.
pub const TEMPLATE_ID: &str = "template-alarm";

/// The person who receives the alarms.
pub const NURSE: &str = "openid-nurse";

/// Most messages kept; a demo may run for days.
const KEPT_MAX: usize = 10_000;

/// A message that reached a person.
#[derive(Debug, Clone)]
pub struct Message {
    /// Who received it.
    pub touser: String,
    /// The sender's idempotency key.
    pub client_msg_id: Option<String>,
    /// The filled-in fields of the template, in their order.
    pub fields: Vec<(String, String)>,
}

impl Message {
    /// The message as the person reads it.
    pub fn text(&self) -> String {
        let fields = self.fields.iter().map(|(_, value)| value.as_str());
        fields.filter(|value| !value.is_empty()).collect::<Vec<_>>().join(" · ")
    }
}

/// What the platform has seen.
#[derive(Debug, Default)]
struct Platform {
    token_requests: usize,
    sends: usize,
    token: String,
    scripted: VecDeque<i64>,
    ids: HashMap<(String, String), u64>,
    messages: VecDeque<Message>,
    delivered: u64,
}

type Shared = Arc<Mutex<Platform>>;

fn lock(platform: &Shared) -> MutexGuard<'_, Platform> {
    platform.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The running stand-in; dropped, it stops.
#[derive(Debug)]
pub struct FakeWechat {
    address: SocketAddr,
    platform: Shared,
    server: JoinHandle<()>,
}

impl FakeWechat {
    /// Serves on `address`; port 0 takes a free one.
    pub async fn serve(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| address.to_string())?;
        let address = listener.local_addr()?;
        let platform = Shared::default();
        let router = Router::new()
            .route("/cgi-bin/stable_token", post(stable_token))
            .route("/cgi-bin/message/template/send", post(send))
            .with_state(Arc::clone(&platform));
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("the stand-in for WeChat stopped: {error}");
            }
        });
        Ok(Self { address, platform, server })
    }

    /// Serves on a free local port.
    pub async fn start() -> anyhow::Result<Self> {
        Self::serve(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Its base address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The messages people have received, oldest first.
    pub fn messages(&self) -> Vec<Message> {
        lock(&self.platform).messages.iter().cloned().collect()
    }

    /// The messages received since the first `seen`, and how many there are now.
    pub fn messages_since(&self, seen: u64) -> (Vec<Message>, u64) {
        let platform = lock(&self.platform);
        let new = usize::try_from(platform.delivered - seen).unwrap_or_default();
        let kept = platform.messages.len();
        let new = platform.messages.iter().skip(kept.saturating_sub(new)).cloned().collect();
        (new, platform.delivered)
    }

    /// How many messages people have received.
    pub fn delivered(&self) -> u64 {
        lock(&self.platform).delivered
    }

    /// How many sends were asked for, refused and repeated ones included.
    pub fn sends(&self) -> usize {
        lock(&self.platform).sends
    }

    /// How many tokens were asked for.
    pub fn token_requests(&self) -> usize {
        lock(&self.platform).token_requests
    }

    /// Answers the next sends with these error codes instead of taking them.
    pub fn refuse_next(&self, codes: &[i64]) {
        lock(&self.platform).scripted.extend(codes);
    }

    /// Lets the token that is out expire.
    pub fn expire_token(&self) {
        lock(&self.platform).token.clear();
    }
}

impl Drop for FakeWechat {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[derive(Deserialize)]
struct TokenRequest {
    #[serde(default)]
    appid: String,
    #[serde(default)]
    secret: String,
    #[serde(default)]
    force_refresh: bool,
}

async fn stable_token(
    State(platform): State<Shared>,
    Json(request): Json<TokenRequest>,
) -> Json<Value> {
    let mut platform = lock(&platform);
    platform.token_requests += 1;
    if request.secret != APP_SECRET {
        return refusal(40125, "invalid appsecret");
    }
    // Repeated calls return the same token while it is valid, as on the platform.
    if platform.token.is_empty() || request.force_refresh {
        platform.token = format!("token-{}-{}", request.appid, platform.token_requests);
    }
    Json(json!({ "access_token": platform.token, "expires_in": 7200 }))
}

#[derive(Deserialize)]
struct SendRequest {
    touser: String,
    #[serde(default)]
    template_id: String,
    client_msg_id: Option<String>,
    #[serde(default)]
    data: serde_json::Map<String, Value>,
}

async fn send(
    State(platform): State<Shared>,
    RawQuery(query): RawQuery,
    Json(request): Json<SendRequest>,
) -> Json<Value> {
    let mut platform = lock(&platform);
    platform.sends += 1;
    // The tokens given out here need no percent-decoding.
    let query = query.unwrap_or_default();
    let token = query.split('&').find_map(|pair| pair.strip_prefix("access_token="));
    if platform.token.is_empty() || token != Some(&platform.token) {
        return refusal(40001, "invalid credential, access_token is invalid or not latest");
    }
    if let Some(code) = platform.scripted.pop_front() {
        return refusal(code, "as the test asked for");
    }
    if request.template_id != TEMPLATE_ID {
        return refusal(40037, "invalid template_id");
    }
    let number = platform.delivered + 1;
    if let Some(id) = &request.client_msg_id {
        let key = (request.touser.clone(), id.clone());
        // The same message for the same person: the platform answers as it did and delivers nothing.
        if let Some(first) = platform.ids.get(&key) {
            return Json(json!({ "errcode": 0, "errmsg": "ok", "msgid": first }));
        }
        platform.ids.insert(key, number);
    }
    platform.delivered = number;
    platform.messages.push_back(message(request));
    if platform.messages.len() > KEPT_MAX {
        platform.messages.pop_front();
    }
    Json(json!({ "errcode": 0, "errmsg": "ok", "msgid": number }))
}

fn message(request: SendRequest) -> Message {
    let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
    let fields = request.data.iter().map(|(name, value)| (name.clone(), text(value)));
    Message {
        fields: fields.collect(),
        touser: request.touser,
        client_msg_id: request.client_msg_id,
    }
}

fn refusal(code: i64, text: &str) -> Json<Value> {
    Json(json!({ "errcode": code, "errmsg": text }))
}
