//! The access token of each account: requested once, kept until shortly before it expires, and
//! shared with other replicas through Redis.
//!
//! Replicas need no lock among each other. Both `stable_token` and WeCom's `gettoken` return the
//! present token, so concurrent requests get the same one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use fred::interfaces::KeysInterface;
use fred::types::Expiration;
use jiff::Timestamp;
use metrics::counter;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::api::{ApiCall, Platform};
use super::error::ErrcodeRemedy;
use crate::metrics::TOKEN_REFRESHES;
use crate::notify::wechat::error::Failure;

/// Time before its expiry in which a token is not used, because the platform may replace it.
const MARGIN: Duration = Duration::from_secs(300);

/// Time for which a token is used whose life is shorter than the margin.
const KEPT_MIN: Duration = Duration::from_secs(10);

/// An account to which its platform gives tokens.
pub trait TokenHolder {
    /// The account's name, unique among accounts of every kind.
    fn name(&self) -> String;
    /// Returns the call that requests a token from the platform.
    fn token_call(&self) -> ApiCall;
}

/// A token, and the time until which it is used.
#[derive(Debug, Clone)]
pub struct Token {
    secret: SecretString,
    until_ms: i64,
}

impl Token {
    /// Returns the token itself.
    pub fn expose(&self) -> &str {
        self.secret.expose_secret()
    }

    fn is_usable(&self, failed: Option<&Self>) -> bool {
        let same = failed.is_some_and(|failed| failed.expose() == self.expose());
        !same && now_ms() < self.until_ms
    }
}

/// The tokens of all accounts of one platform.
pub struct Tokens {
    platform: Platform,
    redis: Option<fred::clients::Client>,
    /// Whether it has been logged that Redis does not share tokens.
    unshared_logged: AtomicBool,
    slots: std::sync::Mutex<HashMap<String, Arc<tokio::sync::Mutex<TokenSlot>>>>,
}

/// The state of one account's token. The holder of the slot's lock requests the token.
#[derive(Debug, Default)]
struct TokenSlot {
    cached: Option<Token>,
    last_failure: Option<(Instant, Failure)>,
}

#[derive(Deserialize)]
struct TokenReply {
    access_token: String,
    expires_in: u64,
}

/// The form in which Redis holds a token.
#[derive(Serialize, Deserialize)]
struct SharedToken {
    token: String,
    until_ms: i64,
}

impl Tokens {
    /// Tokens from `platform`, shared through `redis` if there is one.
    pub fn new(platform: Platform, redis: Option<fred::clients::Client>) -> Self {
        let unshared_logged = AtomicBool::new(false);
        Self { platform, redis, unshared_logged, slots: std::sync::Mutex::default() }
    }

    /// Returns the account's token. `failed` is a token that the platform rejected. Another token
    /// is requested only if the kept or shared token is `failed`.
    pub async fn get(
        &self,
        holder: &impl TokenHolder,
        failed: Option<&Token>,
    ) -> Result<Token, Failure> {
        let (name, since) = (holder.name(), Instant::now());
        let slot = self.slot(&name);
        let mut slot = slot.lock().await;
        if let Some(token) = slot.cached.as_ref().filter(|token| token.is_usable(failed)) {
            return Ok(token.clone());
        }
        // Share one failure with all callers that waited for it. Otherwise each of them would make
        // the same failing request in turn.
        if let Some((_, failure)) = slot.last_failure.as_ref().filter(|(at, _)| *at >= since) {
            return Err(failure.clone());
        }
        let token = match self.shared(&name).await.filter(|token| token.is_usable(failed)) {
            Some(token) => {
                counter!(TOKEN_REFRESHES, "outcome" => "shared").increment(1);
                token
            }
            None => match self.fetch(&name, holder).await {
                Ok(token) => token,
                Err(failure) => {
                    slot.last_failure = Some((Instant::now(), failure.clone()));
                    return Err(failure);
                }
            },
        };
        *slot = TokenSlot { cached: Some(token.clone()), last_failure: None };
        Ok(token)
    }

    fn slot(&self, name: &str) -> Arc<tokio::sync::Mutex<TokenSlot>> {
        // A panic while the lock was held leaves the map usable.
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(name.to_owned()).or_default())
    }

    async fn fetch(&self, name: &str, holder: &impl TokenHolder) -> Result<Token, Failure> {
        // Read before the request: a slow answer would otherwise extend the token's life.
        let asked_ms = now_ms();
        let call = holder.token_call();
        let path = call.path;
        let answer: Result<TokenReply, Failure> = self.platform.call(call).await;
        let outcome = if answer.is_ok() { "fetched" } else { "failed" };
        counter!(TOKEN_REFRESHES, "outcome" => outcome).increment(1);
        let answer = answer?;
        if answer.access_token.is_empty() {
            let message = format!("{path}: the answer holds no token");
            return Err(Failure {
                remedy: ErrcodeRemedy::Retry,
                errcode: None,
                uncertain: false,
                message,
            });
        }
        let cached = Duration::from_secs(answer.expires_in).saturating_sub(MARGIN).max(KEPT_MIN);
        let until_ms =
            asked_ms.saturating_add(i64::try_from(cached.as_millis()).unwrap_or(i64::MAX));
        let token = Token { secret: answer.access_token.into(), until_ms };
        self.share(name, &token, cached).await;
        Ok(token)
    }

    async fn shared(&self, name: &str) -> Option<Token> {
        let text: Option<String> = self
            .redis
            .as_ref()?
            .get(key(name))
            .await
            .inspect_err(|error| self.log_unshared(Some(error)))
            .ok()?;
        let shared: SharedToken = serde_json::from_str(&text?).ok()?;
        Some(Token { secret: shared.token.into(), until_ms: shared.until_ms })
    }

    /// Shares a token through Redis. Without Redis every replica requests its own token.
    async fn share(&self, name: &str, token: &Token, cached: Duration) {
        let Some(redis) = &self.redis else { return };
        let shared = SharedToken { token: token.expose().to_owned(), until_ms: token.until_ms };
        let Ok(text) = serde_json::to_string(&shared) else { return };
        let seconds = Expiration::EX(i64::try_from(cached.as_secs()).unwrap_or(i64::MAX).max(1));
        let set: Result<(), _> = redis.set(key(name), text, Some(seconds), None, false).await;
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

fn key(name: &str) -> String {
    format!("ljwx:wechat:token:{name}")
}

fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}
