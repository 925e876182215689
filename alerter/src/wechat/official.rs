//! Template messages of an official account.

use common::reading::wall_text;
use serde::Serialize;
use serde_json::{Value, json};

use super::Failure;
use super::account::OfficialAccount;
use super::client::Client;
use super::platform::json as bytes;
use super::text::{cut_json, one_line};
use crate::message::Notice;

const PATH: &str = "/cgi-bin/message/template/send";

/// Longest short field of a template, in bytes of JSON.
const KEYWORD_BYTES_MAX: usize = 120;

/// Longest text of a template, in bytes of JSON; the whole stays far below the platform's 4,096.
const REMARK_BYTES_MAX: usize = 1_200;

/// Sends template messages.
#[derive(Clone)]
pub struct Official(Client);

#[derive(Serialize)]
struct Message<'a> {
    touser: &'a str,
    template_id: &'a str,
    client_msg_id: &'a str,
    data: Value,
}

/// The request that tells `openid` of `notice`. The same bytes are sent again on a retry, with the
/// same `client_msg_id`, by which the platform knows that it has delivered them.
pub fn request(
    account: &OfficialAccount,
    openid: &str,
    client_msg_id: &str,
    notice: &Notice,
) -> Vec<u8> {
    // Templates know no markup: what is left to fear is a name that writes a line of its own.
    let short = |text: &str| cut_json(&one_line(text), KEYWORD_BYTES_MAX).into_owned();
    let colour = notice.severity.colour();
    let data = json!({
        "first": { "value": short(&notice.headline()), "color": colour },
        "keyword1": { "value": short(&notice.user) },
        "keyword2": { "value": short(notice.sign.label()) },
        "keyword3": { "value": notice.severity.label(), "color": colour },
        "keyword4": { "value": short(&wall_text(notice.wall)) },
        "remark": { "value": cut_json(&notice.text, REMARK_BYTES_MAX) },
    });
    bytes(&Message { touser: openid, template_id: &account.template_id, client_msg_id, data })
}

impl Official {
    /// Sends through `client`.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    /// Sends stored bytes once, with one more attempt where the token turns out to be old.
    pub async fn send(&self, account: &OfficialAccount, request: &[u8]) -> Result<(), Failure> {
        self.0.send(account, PATH, request).await.map(|_| ())
    }
}

#[cfg(test)]
#[path = "official_tests.rs"]
mod tests;
