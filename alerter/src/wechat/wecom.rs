//! Messages of an application in WeCom.

use std::time::Duration;

use common::reading::wall_text;
use serde::{Deserialize, Serialize};

use super::Failure;
use super::account::WecomAccount;
use super::client::{Client, Sent};
use super::errcode::Remedy;
use super::platform::json;
use super::text::plain;
use crate::episode::To;
use crate::message::{Notice, cut};
use crate::severity::Severity;

const PATH: &str = "/cgi-bin/message/send";

/// Longest markdown the platform takes, in bytes.
const CONTENT_BYTES_MAX: usize = 4_096;

/// Longest short field, in bytes: names and serial numbers leave room for the rule's text.
const FIELD_BYTES_MAX: usize = 120;

/// For so long the platform takes the same bytes for the same message.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(1_800);

/// Sends messages of applications.
#[derive(Clone)]
pub struct Wecom(Client);

#[derive(Serialize)]
struct Message<'a> {
    touser: &'a str,
    msgtype: &'static str,
    agentid: i64,
    markdown: Markdown,
    enable_duplicate_check: u8,
    duplicate_check_interval: u64,
}

#[derive(Serialize)]
struct Markdown {
    content: String,
}

/// Of a stored request, whom it is for.
#[derive(Deserialize)]
struct For {
    touser: String,
}

/// The request that tells the member `userid` of `notice`. The platform knows a message that it has
/// delivered by its bytes, so the same notice is always the same bytes.
pub fn request(account: &WecomAccount, userid: &str, notice: &Notice) -> Vec<u8> {
    json(&Message {
        touser: userid,
        msgtype: "markdown",
        agentid: account.agent_id,
        markdown: Markdown { content: content(notice) },
        enable_duplicate_check: 1,
        duplicate_check_interval: DUPLICATE_WINDOW.as_secs(),
    })
}

fn content(notice: &Notice) -> String {
    let field = |text: &str| cut(&plain(text), FIELD_BYTES_MAX).into_owned();
    let head = format!(
        "**{}**\n> 告警类型：{}\n> 告警人员：{}\n> 设备：{}\n> 告警等级：<font color=\"{}\">{}</font>\n\
         > 告警时间：{}\n\n",
        field(&notice.headline()),
        field(notice.sign.label()),
        field(&notice.user),
        field(&notice.device_sn),
        colour(notice),
        notice.severity.label(),
        wall_text(notice.wall),
    );
    let room = CONTENT_BYTES_MAX.saturating_sub(head.len());
    format!("{head}{}", cut(&plain(&notice.text), room))
}

/// One of the three colours that the platform's markdown has: green, grey, orange.
fn colour(notice: &Notice) -> &'static str {
    match notice.severity {
        _ if notice.to == To::Resolved => "info",
        Severity::Major | Severity::Critical => "warning",
        Severity::Info | Severity::Minor | Severity::Moderate => "comment",
    }
}

impl Wecom {
    /// Sends through `client`.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    /// Sends stored bytes once, with one more attempt where the token turns out to be old. An answer
    /// without an error that names the recipient as not reached is a failure too.
    pub async fn send(&self, account: &WecomAccount, request: &[u8]) -> Result<(), Failure> {
        let sent = self.0.send(account, PATH, request).await?;
        let touser = serde_json::from_slice(request).map(|found: For| found.touser);
        match missed(&sent, &touser.unwrap_or_default()) {
            Some(field) => Err(Failure {
                remedy: Remedy::DropRecipient,
                errcode: Some(sent.errcode),
                uncertain: false,
                message: format!("{PATH}: {field} names the recipient"),
            }),
            None => Ok(()),
        }
    }
}

/// The field of an answer that says that `touser` was not reached.
fn missed(sent: &Sent, touser: &str) -> Option<&'static str> {
    [
        ("invaliduser", &sent.invaliduser),
        ("invalidparty", &sent.invalidparty),
        ("invalidtag", &sent.invalidtag),
        ("unlicenseduser", &sent.unlicenseduser),
    ]
    .into_iter()
    .find(|(_, names)| {
        let mut names = names.as_deref().unwrap_or_default().split('|');
        // The platform says them in lower case, whatever they were written in.
        names.any(|name| !name.is_empty() && name.eq_ignore_ascii_case(touser))
    })
    .map(|(field, _)| field)
}

#[cfg(test)]
#[path = "wecom_tests.rs"]
mod tests;
