//! Messages of an application in WeCom.
//!
//! Pure. Renders requests, and reads what the platform's answers say of the recipient and of the
//! application.

use std::time::Duration;

use ljwx_reading::wall_text;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::escape::{plain, plain_markdown};
use crate::notify::notice::{Notice, cut};

/// Path of the call that sends a message.
pub(super) const PATH: &str = "/cgi-bin/message/send";

/// Path of the call that reads an application.
pub(super) const APPLICATION_PATH: &str = "/cgi-bin/agent/get";

/// Longest text that the platform accepts, in bytes.
const CONTENT_BYTES_MAX: usize = 2_048;

/// Longest name, in bytes: it leaves room for the rule's text.
const NAME_BYTES_MAX: usize = 120;

/// Time for which the platform recognises the same bytes as the same message.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(1_800);

/// Fields of an answer that list members who were not reached although the errcode is 0, joined by
/// `|`.
const MISSED_FIELDS: [&str; 4] = ["invaliduser", "invalidparty", "invalidtag", "unlicenseduser"];

/// An application as the platform describes it. An answer without the field is not the platform's.
#[derive(Deserialize)]
pub(super) struct Application {
    /// 1: the application is disabled.
    close: i64,
}

impl Application {
    /// Returns what keeps the application from sending, in words.
    pub(super) fn faults(&self) -> Vec<String> {
        let fault = "the application is disabled: enable it at WeCom";
        (self.close == 1).then(|| fault.to_owned()).into_iter().collect()
    }
}

/// Renders the request that sends `notice` to the member `userid`. The platform recognises a
/// delivered message by its bytes, so equal notices give equal bytes.
pub(super) fn request(agent_id: i64, is_markdown: bool, userid: &str, notice: &Notice) -> Vec<u8> {
    let form = if is_markdown { "markdown" } else { "text" };
    let message = json!({
        "touser": userid,
        "msgtype": form,
        "agentid": agent_id,
        (form): { "content": content(notice, is_markdown) },
        "enable_duplicate_check": 1,
        "duplicate_check_interval": DUPLICATE_WINDOW.as_secs(),
    });
    message.to_string().into_bytes()
}

/// Headline; patient and ward; time, and since when; as much of the rule's text, or the digest's
/// lines, as fits; and a line for each other alert.
fn content(notice: &Notice, is_markdown: bool) -> String {
    let literally: fn(&str) -> String = if is_markdown { plain_markdown } else { plain };
    let mark = if is_markdown { "**" } else { "" };
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

/// Returns the answer's field that lists the recipient of a request as not reached.
pub(super) fn missed(answer: &Map<String, Value>, request: &[u8]) -> Option<&'static str> {
    let request: Value = serde_json::from_slice(request).unwrap_or_default();
    let touser = request["touser"].as_str().unwrap_or_default();
    MISSED_FIELDS.into_iter().find(|field| {
        let names = answer.get(*field).and_then(Value::as_str).unwrap_or_default();
        // The platform answers in lower case, whatever the case of the request.
        names.split('|').any(|name| !name.is_empty() && name.eq_ignore_ascii_case(touser))
    })
}

#[cfg(test)]
#[path = "wecom_tests.rs"]
mod tests;
