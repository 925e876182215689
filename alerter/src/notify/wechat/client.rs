//! Sends stored bytes to a platform with the account's token.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::api::{ApiCall, Platform};
use super::error::{ApiOperation, ErrcodeRemedy};
use super::token::{TokenHolder, Tokens};
use crate::notify::wechat::error::Failure;

/// A platform and the tokens of its accounts.
#[derive(Clone)]
pub struct PlatformSender {
    platform: Platform,
    tokens: Arc<Tokens>,
}

/// The answer to a message. An answer without an errcode is not the platform's: a proxy can answer
/// in JSON too.
#[derive(Debug, Deserialize)]
pub(super) struct SendReply {
    pub(super) errcode: i64,
    /// WeCom's list of members that it did not reach although the errcode is 0, joined by `|`.
    pub(super) invaliduser: Option<String>,
    pub(super) invalidparty: Option<String>,
    pub(super) invalidtag: Option<String>,
    pub(super) unlicenseduser: Option<String>,
}

impl PlatformSender {
    /// Sends through `platform`. Tokens are shared through `redis` if there is one.
    pub fn new(platform: Platform, redis: Option<fred::clients::Client>) -> Self {
        let tokens = Arc::new(Tokens::new(platform.clone(), redis));
        Self { platform, tokens }
    }

    /// Posts stored bytes once, and once more if the token has expired.
    pub(super) async fn send(
        &self,
        holder: &impl TokenHolder,
        path: &'static str,
        request: &[u8],
    ) -> Result<SendReply, Failure> {
        self.call(holder, path, &[], Some(request)).await
    }

    /// Reads once, and once more if the token has expired.
    pub(super) async fn read<T: DeserializeOwned>(
        &self,
        holder: &impl TokenHolder,
        path: &'static str,
        query: &[(&'static str, String)],
    ) -> Result<T, Failure> {
        self.call(holder, path, query, None).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        holder: &impl TokenHolder,
        path: &'static str,
        query: &[(&'static str, String)],
        body: Option<&[u8]>,
    ) -> Result<T, Failure> {
        let token = self.tokens.get(holder, None).await?;
        let first = self.attempt(path, token.expose(), query, body).await;
        match first {
            Err(failure) if failure.remedy == ErrcodeRemedy::RefreshToken => {
                let fresh = self.tokens.get(holder, Some(&token)).await?;
                self.attempt(path, fresh.expose(), query, body).await
            }
            other => other,
        }
    }

    async fn attempt<T: DeserializeOwned>(
        &self,
        path: &'static str,
        token: &str,
        query: &[(&'static str, String)],
        body: Option<&[u8]>,
    ) -> Result<T, Failure> {
        let token = ("access_token", token.to_owned());
        let call = ApiCall {
            step: ApiOperation::Send,
            path,
            query: std::iter::once(token).chain(query.iter().cloned()).collect(),
            body: body.map(<[u8]>::to_vec),
        };
        self.platform.call(call).await
    }
}
