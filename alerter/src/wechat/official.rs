//! Template messages of an official account.

use std::sync::Arc;

use common::reading::wall_text;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::errcode::{Remedy, Step};
use super::token::Tokens;
use super::{Account, Failure, Platform};
use crate::message::{Notice, cut};

const PATH: &str = "/cgi-bin/message/template/send";

/// Longest short field of a template, in bytes.
const KEYWORD_BYTES_MAX: usize = 120;

/// Longest text of a template, in bytes; the whole stays far below the platform's 4,096.
const REMARK_BYTES_MAX: usize = 1_200;

/// Sends template messages.
#[derive(Clone)]
pub struct Official {
    platform: Platform,
    tokens: Arc<Tokens>,
}

#[derive(Serialize)]
struct Message<'a> {
    touser: &'a str,
    template_id: &'a str,
    client_msg_id: &'a str,
    data: Value,
}

/// The request that tells `openid` of `notice`. The same bytes are sent again on a retry, with the
/// same `client_msg_id`, by which the platform knows that it has delivered them.
pub fn request(account: &Account, openid: &str, client_msg_id: &str, notice: &Notice) -> Vec<u8> {
    let short = |text: &str| json!({ "value": cut(text, KEYWORD_BYTES_MAX) });
    let colour = notice.severity.colour();
    let data = json!({
        "first": { "value": cut(&notice.headline(), KEYWORD_BYTES_MAX), "color": colour },
        "keyword1": short(&notice.user),
        "keyword2": short(notice.sign.label()),
        "keyword3": { "value": notice.severity.label(), "color": colour },
        "keyword4": short(&wall_text(notice.wall)),
        "remark": { "value": cut(&notice.text, REMARK_BYTES_MAX) },
    });
    super::json(&Message { touser: openid, template_id: &account.template_id, client_msg_id, data })
}

impl Official {
    /// Sends through `platform` with `tokens`.
    pub fn new(platform: Platform, tokens: Arc<Tokens>) -> Self {
        Self { platform, tokens }
    }

    /// Sends stored bytes once, with one more attempt where the token turns out to be old.
    pub async fn send(&self, account: &Account, request: &[u8]) -> Result<(), Failure> {
        let token = self.tokens.get(account, None).await?;
        let first = self.attempt(token.expose(), request).await;
        match first {
            Err(failure) if failure.remedy == Remedy::RefreshToken => {
                let fresh = self.tokens.get(account, Some(&token)).await?;
                self.attempt(fresh.expose(), request).await
            }
            other => other,
        }
    }

    async fn attempt(&self, token: &str, request: &[u8]) -> Result<(), Failure> {
        let answer: Result<Box<RawValue>, Failure> =
            self.platform.call(Step::Send, PATH, Some(token), request.to_vec()).await;
        answer.and_then(|answer| match answer.get().contains("\"errcode\"") {
            true => Ok(()),
            // A proxy's page in JSON is no word of the platform.
            false => Err(Failure {
                remedy: Remedy::Retry,
                errcode: None,
                message: format!("{PATH}: the answer holds no errcode"),
            }),
        })
    }
}

#[cfg(test)]
#[path = "official_tests.rs"]
mod tests;
