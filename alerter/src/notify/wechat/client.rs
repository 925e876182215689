//! Calls WeChat's platforms, or servers that stand in for them, with the access token of an account.
//!
//! One call is one attempt. The callers decide when to retry. A token is requested once, kept until
//! shortly before it expires, and shared with other replicas through Redis. Replicas need no lock
//! among each other: both `stable_token` and WeCom's `gettoken` return the present token, so
//! concurrent requests get the same one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::KeysInterface;
use fred::types::Expiration;
use jiff::Timestamp;
use metrics::counter;
use moka::future::Cache;
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::account::{Account, AccountKind};
use super::error::{ErrcodeRemedy, Failure};
use super::settings::WechatArgs;
use crate::metrics::TOKEN_REFRESHES;
use crate::notify::notice::cut;
use crate::rules::Channel;

/// Time limit of one call. The lease of a claimed notification is several times as long.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);

/// Longest part of the platform's error message that an error keeps, in bytes.
const ERRMSG_BYTES_MAX: usize = 200;

/// Time before its expiry in which a token is not used, because the platform may replace it.
const MARGIN: Duration = Duration::from_secs(300);

/// Time for which a token is used whose life is shorter than the margin.
const KEPT_MIN: Duration = Duration::from_secs(10);

/// Most accounts whose tokens are kept.
const ACCOUNTS_MAX: u64 = 10_000;

/// Both platforms, and the tokens of their accounts.
#[derive(Clone)]
pub struct Platforms {
    http: reqwest::Client,
    official: Url,
    wecom: Url,
    /// By the names of the accounts. A failure is kept for those who wait for the same request.
    tokens: Cache<String, Result<Token, Failure>>,
    redis: Option<Client>,
    /// Whether it has been logged that Redis does not share tokens.
    unshared_logged: Arc<AtomicBool>,
}

/// A token, and the time until which it is used, as Redis holds them. A secret has no `Debug`.
#[derive(Clone, Serialize, Deserialize)]
struct Token {
    token: String,
    until_ms: i64,
}

#[derive(Deserialize)]
struct TokenReply {
    access_token: String,
    expires_in: u64,
}

impl Token {
    fn is_usable(&self, failed: Option<&Self>) -> bool {
        failed.is_none_or(|failed| failed.token != self.token)
            && Timestamp::now().as_millisecond() < self.until_ms
    }
}

impl Platforms {
    /// The platforms at the settings' addresses. Tokens are shared through `redis` if there is one.
    pub fn new(settings: &WechatArgs, redis: Option<Client>) -> Result<Self, reqwest::Error> {
        let (official, wecom) = (&settings.wechat_api_url, &settings.wecom_api_url);
        Self::at(official.clone(), wecom.clone(), CALL_TIMEOUT, redis)
    }

    /// The platforms at these addresses. One call may take `timeout`.
    pub(super) fn at(
        official: Url,
        wecom: Url,
        timeout: Duration,
        redis: Option<Client>,
    ) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(timeout)
            // Shorter than `timeout`, so that an absent server is distinguished from a slow one.
            .connect_timeout(timeout / 2)
            // A redirect would send the token to another server.
            .redirect(Policy::none())
            .build()?;
        let (tokens, unshared_logged) = (Cache::new(ACCOUNTS_MAX), Arc::default());
        Ok(Self { http, official, wecom, tokens, redis, unshared_logged })
    }

    /// Calls an account's platform: posts `body`, or gets without one. Calls once more if the token
    /// has expired.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        account: &Account,
        path: &'static str,
        query: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<T, Failure> {
        let mut failed: Option<Token> = None;
        loop {
            let token = self.token(account, failed.as_ref()).await?;
            let answer = {
                let query = [&[("access_token", token.token.as_str())][..], query].concat();
                let body = body.map(<[u8]>::to_vec);
                self.attempt(account.channel(), path, &query, body).await
            };
            match answer {
                Err(failure)
                    if failure.remedy == ErrcodeRemedy::RefreshToken && failed.is_none() =>
                {
                    failed = Some(token);
                }
                answer => return answer,
            }
        }
    }

    /// Makes one call. An errcode other than 0 is a failure, whatever the HTTP status.
    async fn attempt<T: DeserializeOwned>(
        &self,
        channel: Channel,
        path: &'static str,
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<T, Failure> {
        let base = if channel == Channel::Wecom { &self.wecom } else { &self.official };
        let mut url = base.clone();
        url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let content_type = "application/json; charset=utf-8";
        let request = match body {
            Some(body) => self.http.post(url).header(CONTENT_TYPE, content_type).body(body),
            None => self.http.get(url),
        };
        let lost = |message: String, uncertain: bool| Failure {
            uncertain,
            ..Failure::new(ErrcodeRemedy::Retry, None, format!("{path}: {message}"))
        };
        // Without the URL: it holds the token, and reqwest's errors hold the URL.
        let unreachable = |error: reqwest::Error| {
            let reached = !error.is_connect() && !error.is_builder();
            lost(format!("{:#}", anyhow::Error::new(error.without_url())), reached)
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let answer = response.bytes().await.map_err(unreachable)?;
        let garbage = || lost(format!("HTTP {status} without a usable answer"), true);
        let said: Value = serde_json::from_slice(&answer).map_err(|_| garbage())?;
        match said["errcode"].as_i64() {
            Some(errcode) if errcode != 0 => {
                let errmsg = cut(said["errmsg"].as_str().unwrap_or_default(), ERRMSG_BYTES_MAX);
                let remedy = ErrcodeRemedy::of(channel, errcode);
                Err(Failure::new(remedy, Some(errcode), format!("{path}: {errmsg}")))
            }
            _ if !status.is_success() => Err(garbage()),
            _ => serde_json::from_value(said).map_err(|_| garbage()),
        }
    }

    /// Returns the account's token. `failed` is a token that the platform rejected. Another token
    /// is requested only if the kept or shared token is `failed`. All callers who wait for a request
    /// share its outcome, a failure too. Otherwise each of them would make the same failing request
    /// in turn.
    async fn token(&self, account: &Account, failed: Option<&Token>) -> Result<Token, Failure> {
        let entry = self.tokens.entry(account.name.clone());
        let entry = entry.or_insert_with_if(self.renewed(account, failed), |known| {
            !known.as_ref().is_ok_and(|token| token.is_usable(failed))
        });
        entry.await.into_value()
    }

    /// Takes over the token that another replica shares, or requests one.
    async fn renewed(&self, account: &Account, failed: Option<&Token>) -> Result<Token, Failure> {
        let key = format!("ljwx:wechat:token:{}", account.name);
        if let Some(token) = self.shared(&key).await.filter(|token| token.is_usable(failed)) {
            counter!(TOKEN_REFRESHES, "outcome" => "shared").increment(1);
            return Ok(token);
        }
        // Read before the request: a slow answer would otherwise extend the token's life.
        let asked_ms = Timestamp::now().as_millisecond();
        let answer = self.request_token(account).await;
        let outcome = if answer.is_ok() { "fetched" } else { "failed" };
        counter!(TOKEN_REFRESHES, "outcome" => outcome).increment(1);
        let TokenReply { access_token, expires_in } = answer?;
        let kept = Duration::from_secs(expires_in).saturating_sub(MARGIN).max(KEPT_MIN);
        let kept_ms = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
        let token = Token { token: access_token, until_ms: asked_ms.saturating_add(kept_ms) };
        self.share(&key, &token, kept).await;
        Ok(token)
    }

    /// Requests a token of an account. A request without an answer leaves no message in doubt.
    async fn request_token(&self, account: &Account) -> Result<TokenReply, Failure> {
        let (id, secret) = (account.app_id.as_str(), account.secret.expose_secret());
        let (path, query, body) = match account.kind {
            AccountKind::Official { .. } => {
                let body =
                    json!({"grant_type": "client_credential", "appid": id, "secret": secret});
                ("/cgi-bin/stable_token", Vec::new(), Some(body.to_string().into_bytes()))
            }
            AccountKind::Wecom { .. } => {
                ("/cgi-bin/gettoken", vec![("corpid", id), ("corpsecret", secret)], None)
            }
        };
        match self.attempt(account.channel(), path, &query, body).await {
            Ok(TokenReply { access_token, .. }) if access_token.is_empty() => {
                let message = format!("{path}: the answer holds no token");
                Err(Failure::new(ErrcodeRemedy::Retry, None, message))
            }
            Err(failure) => Err(Failure {
                remedy: failure.remedy.of_token_request(),
                uncertain: false,
                ..failure
            }),
            reply => reply,
        }
    }

    async fn shared(&self, key: &str) -> Option<Token> {
        let text: Option<String> = self
            .redis
            .as_ref()?
            .get(key)
            .await
            .inspect_err(|error| self.log_unshared(Some(error)))
            .ok()?;
        serde_json::from_str(&text?).ok()
    }

    /// Shares a token through Redis. Without Redis every replica requests its own token.
    async fn share(&self, key: &str, token: &Token, kept: Duration) {
        let Some(redis) = &self.redis else { return };
        let Ok(text) = serde_json::to_string(token) else { return };
        let seconds = Expiration::EX(i64::try_from(kept.as_secs()).unwrap_or(i64::MAX).max(1));
        let set: Result<(), _> = redis.set(key, text, Some(seconds), None, false).await;
        self.log_unshared(set.as_ref().err());
    }

    /// Logs the start and the end of an outage in which each replica fetches its own tokens.
    fn log_unshared(&self, error: Option<&fred::error::Error>) {
        let logged = self.unshared_logged.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !logged => warn!(%error, "cannot share tokens, continuing without"),
            None if logged => info!("sharing of tokens recovered"),
            _ => {}
        }
    }
}
