//! A minimal caller of both platforms: one call, one answer, no retry.

#[cfg(test)]
mod fault;

use serde_json::{Value, json};

use super::*;
use crate::clients::http::{self, Answer};

/// A company that every test knows.
pub(super) const CORP: &str = "ww1";

pub(super) async fn stable_token(wechat: &FakeWechat, request: Value) -> Answer {
    let url = format!("{}/cgi-bin/stable_token", wechat.url());
    http::post(&url, request.to_string()).await.unwrap()
}

/// Returns the request for the stable token of an account.
pub(super) fn asking(appid: &str) -> Value {
    json!({ "grant_type": "client_credential", "appid": appid, "secret": APP_SECRET })
}

pub(super) async fn old_token(wechat: &FakeWechat, query: &str) -> Answer {
    http::get(&format!("{}/cgi-bin/token?{query}", wechat.url())).await.unwrap()
}

pub(super) async fn corp_token(wechat: &FakeWechat, query: &str) -> Answer {
    http::get(&format!("{}/cgi-bin/gettoken?{query}", wechat.url())).await.unwrap()
}

/// Returns the token in an answer.
pub(super) fn token(answer: &Answer) -> String {
    answer.json["access_token"].as_str().unwrap_or_default().to_owned()
}

/// Requests the stable token of `wx1`.
pub(super) async fn official(wechat: &FakeWechat) -> String {
    token(&stable_token(wechat, asking("wx1")).await)
}

/// Requests the token of an application of [`CORP`].
pub(super) async fn corp(wechat: &FakeWechat) -> String {
    let query = format!("corpid={CORP}&corpsecret={CORP_SECRET}");
    token(&corp_token(wechat, &query).await)
}

/// Returns a template message for the nurse.
pub(super) fn template(id: &str) -> Value {
    json!({
        "touser": NURSE, "template_id": TEMPLATE_ID, "client_msg_id": id,
        "data": { "keyword1": { "value": format!("alarm {id}") }, "keyword2": { "value": "look" } },
    })
}

/// Returns a markdown message for `touser`.
pub(super) fn markdown(touser: &str, content: &str) -> Value {
    json!({
        "touser": touser, "agentid": 1, "msgtype": "markdown", "markdown": { "content": content },
    })
}

/// Sends a template message. Errors if no answer arrives.
pub(super) async fn try_send(
    wechat: &FakeWechat,
    token: &str,
    message: &Value,
) -> anyhow::Result<Answer> {
    let url = format!("{}/cgi-bin/message/template/send?access_token={token}", wechat.url());
    http::post(&url, message.to_string()).await
}

/// Sends a template message and returns the errcode of the answer.
pub(super) async fn send(wechat: &FakeWechat, token: &str, message: &Value) -> i64 {
    errcode(&try_send(wechat, token, message).await.unwrap())
}

/// Sends a message in WeCom.
pub(super) async fn tell(wechat: &FakeWechat, token: &str, message: &Value) -> Answer {
    let url = format!("{}/cgi-bin/message/send?access_token={token}", wechat.url());
    http::post(&url, message.to_string()).await.unwrap()
}

/// Returns the errcode of an answer. Every answer here has one.
pub(super) fn errcode(answer: &Answer) -> i64 {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json["errcode"].as_i64().unwrap_or_else(|| panic!("no errcode: {}", answer.text))
}
