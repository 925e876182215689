//! Handles the official accounts' calls: both token APIs, the list of templates, and template
//! messages.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Said, answer, send_through, through};
use super::fault::Endpoint;
use super::limits::Limit;
use super::message::{Message, SAME_WITHIN_OFFICIAL};
use super::platform::{Platform, Shared, parameter};
use super::recent::Key;
use super::settings::{Account, Kind, Settings};
use super::template;
use super::token::Source;
use crate::fakes::http_server::Connection;
use crate::fakes::lock;

/// Forced refreshes of one account: the time between two of them, and the number a day.
const FORCED_APART: Limit = Limit { times: 1, within: Duration::from_secs(30) };
const FORCED_DAY: Limit = Limit::a_day(20);

/// Longest data of a template message, in bytes of its JSON.
const DATA_BYTES_MAX: usize = 4_096;

/// Names and values of fields.
type Fields = Vec<(String, String)>;

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenRequest {
    grant_type: String,
    appid: String,
    secret: String,
    force_refresh: bool,
}

impl TokenRequest {
    fn account(&self, platform: &mut Platform) -> Result<Account, i64> {
        if self.grant_type != "client_credential" {
            return Err(40002);
        }
        platform.account(Kind::Official, &self.appid, &self.secret)
    }
}

/// `POST /cgi-bin/stable_token`: returns the same token to every caller, unless a caller forces a
/// new one.
pub(super) async fn stable_token(
    State(platform): State<Shared>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    body: Bytes,
) -> Response {
    let request = serde_json::from_slice::<TokenRequest>(&body);
    let account = request.as_ref().map_or("", |request| request.appid.as_str()).to_owned();
    lock(&platform).token_requests.note(&account);
    through(&platform, &connection, (Endpoint::Token, &account), |platform| {
        let request = request.map_err(|_| 47001)?;
        let account = request.account(platform)?;
        let (now, life) = (platform.now(), platform.settings.token_life);
        if !request.force_refresh {
            return Ok(given(platform.tokens.current(Source::Stable, &account, life, now)));
        }
        let limits = &mut platform.limits;
        if !limits.take("forced lately", &account.id, Some(FORCED_APART), now) {
            return Err(45011);
        }
        if !limits.take("forced a day", &account.id, Some(FORCED_DAY), now) {
            return Err(45009);
        }
        let overlap = platform.settings.token_overlap;
        Ok(given(platform.tokens.replace(Source::Stable, &account, life, overlap, now)))
    })
    .await
}

/// `GET /cgi-bin/token`: every call replaces the token of the call before.
pub(super) async fn token(
    State(platform): State<Shared>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let request = TokenRequest {
        grant_type: parameter(&query, "grant_type"),
        appid: parameter(&query, "appid"),
        secret: parameter(&query, "secret"),
        force_refresh: true,
    };
    lock(&platform).token_requests.note(&request.appid);
    through(&platform, &connection, (Endpoint::Token, &request.appid), |platform| {
        let account = request.account(platform)?;
        let (now, life) = (platform.now(), platform.settings.token_life);
        let overlap = platform.settings.token_overlap;
        Ok(given(platform.tokens.replace(Source::Old, &account, life, overlap, now)))
    })
    .await
}

fn given((token, left): (String, Duration)) -> Value {
    json!({ "access_token": token, "expires_in": left.as_secs() })
}

/// `GET /cgi-bin/template/get_all_private_template`: lists the account's templates.
pub(super) async fn templates(
    State(platform): State<Shared>,
    RawQuery(query): RawQuery,
) -> Response {
    let platform = lock(&platform);
    let holder = platform.holder(Kind::Official, &query.unwrap_or_default());
    answer(holder.map(|_| list(&platform.settings.templates)))
}

/// Returns the templates with their contents, in which each field has a place.
fn list(templates: &HashMap<String, Vec<String>>) -> Value {
    let describe = |(id, fields): (&String, &Vec<String>)| {
        let places: Vec<_> =
            fields.iter().map(|field| format!("{field}：{{{{{field}.DATA}}}}")).collect();
        json!({
            "template_id": id, "title": "告警通知", "primary_industry": "医疗护理",
            "deputy_industry": "保健与卫生", "content": places.join("\n"), "example": "",
        })
    };
    json!({ "template_list": templates.iter().map(describe).collect::<Vec<_>>() })
}

/// `POST /cgi-bin/message/template/send`: sends one message to one openid.
pub(super) async fn send(
    State(platform): State<Shared>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response {
    let query = query.unwrap_or_default();
    send_through(&platform, &connection, (Kind::Official, &query), |platform, account| {
        take(platform, account, &body)
    })
    .await
}

fn take(platform: &mut Platform, account: &Account, body: &[u8]) -> Said {
    platform.charge(account)?;
    let now = platform.now();
    let Platform { settings, limits, recent, inbox, .. } = platform;
    let request: Value = serde_json::from_slice(body).map_err(|_| 47001)?;
    let openid = request["touser"].as_str().unwrap_or_default();
    let known = settings.openids.as_ref().is_none_or(|openids| openids.contains(openid));
    if openid.is_empty() || !known {
        return Err(40003);
    }
    let fields = match fields(settings, &request)? {
        Ok(fields) => fields,
        Err(rejected) => return Ok(invalid(&rejected)),
    };
    let client_msg_id = match &request["client_msg_id"] {
        Value::Null => None,
        Value::String(id) => Some(id.clone()),
        _ => return Err(47001),
    };
    if settings.not_following.contains(openid) {
        return Err(43004);
    }
    if settings.refusing.contains(openid) {
        return Err(43101);
    }
    let key = client_msg_id
        .as_ref()
        .map(|id| Key::of(&[b"official", account.id.as_bytes(), openid.as_bytes(), id.as_bytes()]));
    // The same message for the same person: the answer is the same, and nothing is delivered.
    if let Some(number) = key.and_then(|key| recent.find(key, now)) {
        return Ok(taken(number));
    }
    let person = format!("{} {openid}", account.id);
    if !limits.take("openid", &person, settings.openid, now) {
        return Err(43117);
    }
    let number = inbox.deliver(Message {
        number: 0,
        arrived: now,
        kind: Kind::Official,
        account: account.id.clone(),
        touser: openid.to_owned(),
        client_msg_id,
        fields,
    });
    if let Some(key) = key {
        recent.remember(key, now + SAME_WITHIN_OFFICIAL, number);
    }
    Ok(taken(number))
}

/// Returns the fields of a message as its template shows them, or the platform's words about the
/// field that it rejects. Fails with the errcode of another invalid message.
fn fields(settings: &Settings, request: &Value) -> Result<Result<Fields, String>, i64> {
    let template = request["template_id"].as_str().and_then(|id| settings.templates.get(id));
    let template = template.ok_or(40037)?;
    let data = &request["data"];
    let text = data.to_string();
    if !data.is_object() || text.len() > DATA_BYTES_MAX {
        return Err(47003);
    }
    if settings.blocked_words.iter().any(|word| text.contains(word.as_str())) {
        return Err(40249);
    }
    Ok(template::show(template, data))
}

fn taken(number: u64) -> Value {
    json!({ "errcode": 0, "errmsg": "ok", "msgid": number })
}

/// Returns the answer that names the field whose value is invalid, in the platform's own form.
fn invalid(rejected: &str) -> Value {
    let errmsg = format!("argument invalid! {rejected} rid: 64d4912a-5e4f2ce4-13323c1a");
    json!({ "errcode": 47003, "errmsg": errmsg })
}

#[cfg(test)]
#[path = "tests/official.rs"]
mod tests;
