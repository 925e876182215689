//! Template messages of an official account.

use serde::Serialize;
use serde_json::Value;

use super::account::OfficialAccount;
use super::api::json as bytes;
use super::client::PlatformSender;
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

/// Renders the request that sends `notice` to `openid`, in the fields of the account's template.
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
    bytes(&TemplateMessage {
        touser: openid,
        template_id: &account.template_id,
        client_msg_id,
        data: account.fields.data(notice),
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
