//! Template messages of an official account.

use ljwx_reading::wall_text;
use serde::Serialize;
use serde_json::{Value, json};

use super::account::OfficialAccount;
use super::api::json as bytes;
use super::client::PlatformSender;
use super::escape::field;
use crate::notify::notice::Notice;
use crate::notify::wechat::error::Failure;

const PATH: &str = "/cgi-bin/message/template/send";

/// Sends template messages.
#[derive(Clone)]
pub struct Official(PlatformSender);

#[derive(Serialize)]
struct TemplateMessage<'a> {
    touser: &'a str,
    template_id: &'a str,
    client_msg_id: &'a str,
    data: Value,
}

/// Renders the request that sends `notice` to `openid`: patient, event, level and time in the
/// template's fields keyword1 to keyword4.
///
/// The request has no `first`, no `remark` and no colour, because the platform no longer displays
/// them. A retry sends the same bytes with the same `client_msg_id`, by which the platform
/// recognises a delivered message.
pub fn request(
    account: &OfficialAccount,
    openid: &str,
    client_msg_id: &str,
    notice: &Notice,
) -> Vec<u8> {
    let shown = |text: &str| json!({ "value": field(text) });
    let data = json!({
        "keyword1": shown(&notice.user),
        "keyword2": shown(&notice.event()),
        "keyword3": shown(notice.level()),
        "keyword4": shown(&wall_text(notice.wall)),
    });
    bytes(&TemplateMessage {
        touser: openid,
        template_id: &account.template_id,
        client_msg_id,
        data,
    })
}

impl Official {
    /// Sends through `client`.
    pub fn new(client: PlatformSender) -> Self {
        Self(client)
    }

    /// Sends stored bytes once, and once more if the token has expired.
    pub async fn send(&self, account: &OfficialAccount, request: &[u8]) -> Result<(), Failure> {
        self.0.send(account, PATH, request).await.map(|_| ())
    }
}

#[cfg(test)]
#[path = "official_tests.rs"]
mod tests;
