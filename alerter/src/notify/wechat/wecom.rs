//! Messages of an application in WeCom.

use std::time::Duration;

use ljwx_reading::wall_text;
use serde::{Deserialize, Serialize};

use super::account::{WecomAccount, WecomForm};
use super::api::json;
use super::client::{PlatformSender, SendReply};
use super::error::ErrcodeRemedy;
use super::escape::{plain, plain_markdown};
use crate::notify::notice::{Notice, cut};
use crate::notify::wechat::error::Failure;

const PATH: &str = "/cgi-bin/message/send";

const APPLICATION_PATH: &str = "/cgi-bin/agent/get";

/// Longest text that the platform accepts, in bytes.
const CONTENT_BYTES_MAX: usize = 2_048;

/// Longest name, in bytes: it leaves room for the rule's text.
const NAME_BYTES_MAX: usize = 120;

/// Time for which the platform recognises the same bytes as the same message.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(1_800);

/// Sends messages of applications.
#[derive(Clone)]
pub struct Wecom(PlatformSender);

#[derive(Serialize)]
struct AppMessage<'a> {
    touser: &'a str,
    msgtype: &'static str,
    agentid: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    markdown: Option<Text>,
    enable_duplicate_check: u8,
    duplicate_check_interval: u64,
}

#[derive(Serialize)]
struct Text {
    content: String,
}

/// The addressee of a stored request.
#[derive(Deserialize)]
struct Addressee {
    touser: String,
}

/// An application as the platform describes it. An answer without the field is not the platform's.
#[derive(Deserialize)]
struct Application {
    /// 1: the application is disabled.
    close: i64,
}

/// Renders the request that sends `notice` to the member `userid`. The platform recognises a
/// delivered message by its bytes, so equal notices give equal bytes.
pub fn request(account: &WecomAccount, userid: &str, notice: &Notice) -> Vec<u8> {
    let content = Text { content: content(notice, account.form) };
    let (msgtype, text, markdown) = match account.form {
        WecomForm::Text => ("text", Some(content), None),
        WecomForm::Markdown => ("markdown", None, Some(content)),
    };
    json(&AppMessage {
        touser: userid,
        msgtype,
        agentid: account.agent_id,
        text,
        markdown,
        enable_duplicate_check: 1,
        duplicate_check_interval: DUPLICATE_WINDOW.as_secs(),
    })
}

/// Headline; patient and ward; time, and since when; as much of the rule's text, or the digest's
/// lines, as fits; and a line for each other alert.
fn content(notice: &Notice, form: WecomForm) -> String {
    let literally: fn(&str) -> String = match form {
        WecomForm::Text => plain,
        WecomForm::Markdown => plain_markdown,
    };
    let mark = if form == WecomForm::Markdown { "**" } else { "" };
    let name = |text: &str| cut(&literally(text), NAME_BYTES_MAX).into_owned();
    let ward = notice.ward.as_deref().map(|ward| format!(" · {}", name(ward)));
    let since = notice.since_text().map(|since| format!(" {since}"));
    let head = format!(
        "{mark}{}{mark}\n{}{}\n{}{}\n",
        notice.headline(),
        name(&notice.user),
        ward.unwrap_or_default(),
        wall_text(notice.wall),
        since.unwrap_or_default(),
    );
    // A digest's lines are ours. A rule's text is foreign and must stay in one line.
    let text = match notice.digest_of {
        Some(_) => notice.text.lines().map(literally).collect::<Vec<_>>().join("\n"),
        None => literally(&notice.text),
    };
    let lines = notice.beside_lines();
    let beside: String = lines.iter().map(|line| format!("\n{}", literally(line))).collect();
    let room = CONTENT_BYTES_MAX.saturating_sub(head.len() + beside.len());
    format!("{head}{}{beside}", cut(&text, room))
}

impl Wecom {
    /// Sends through `client`.
    pub fn new(client: PlatformSender) -> Self {
        Self(client)
    }

    /// Sends stored bytes once, and once more if the token has expired. An answer without an error
    /// that lists the recipient as not reached is a failure too.
    pub async fn send(&self, account: &WecomAccount, request: &[u8]) -> Result<(), Failure> {
        let sent = self.0.send(account, PATH, request).await?;
        let touser = serde_json::from_slice(request).map(|found: Addressee| found.touser);
        match missed(&sent, &touser.unwrap_or_default()) {
            Some(field) => Err(Failure {
                remedy: ErrcodeRemedy::DropRecipient,
                errcode: Some(sent.errcode),
                uncertain: false,
                message: format!("{PATH}: {field} names the recipient"),
            }),
            None => Ok(()),
        }
    }

    /// Reads the application. Returns what keeps the application from sending, in words.
    pub async fn check(&self, account: &WecomAccount) -> Result<Vec<String>, Failure> {
        let query = [("agentid", account.agent_id.to_string())];
        let application: Application = self.0.read(account, APPLICATION_PATH, &query).await?;
        Ok(match application.close {
            1 => vec!["the application is disabled: enable it at WeCom".to_owned()],
            _ => Vec::new(),
        })
    }
}

/// Returns the answer's field that lists `touser` as not reached.
fn missed(sent: &SendReply, touser: &str) -> Option<&'static str> {
    [
        ("invaliduser", &sent.invaliduser),
        ("invalidparty", &sent.invalidparty),
        ("invalidtag", &sent.invalidtag),
        ("unlicenseduser", &sent.unlicenseduser),
    ]
    .into_iter()
    .find(|(_, names)| {
        let mut names = names.as_deref().unwrap_or_default().split('|');
        // The platform answers in lower case, whatever the case of the request.
        names.any(|name| !name.is_empty() && name.eq_ignore_ascii_case(touser))
    })
    .map(|(field, _)| field)
}

#[cfg(test)]
#[path = "wecom_tests.rs"]
mod tests;
