//! Handles WeCom's calls: the token of an application, its description, and its messages to
//! members.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, RawQuery, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::call::{Said, answer, send_through, through};
use super::fault::Endpoint;
use super::message::{Message, SAME_WITHIN_WECOM};
use super::platform::{Platform, Shared, parameter};
use super::recent::Key;
use super::settings::{Account, Kind, Settings};
use super::token::Source;
use crate::fakes::http_server::Connection;
use crate::fakes::lock;

/// Longest time for which a request can ask for a duplicate check.
const SAME_WITHIN_MAX: Duration = Duration::from_secs(4 * 3_600);

/// The address of all members of an application.
const EVERYBODY: &str = "@all";

/// `GET /cgi-bin/gettoken`: returns the application's token, the same until it expires.
pub(super) async fn token(
    State(platform): State<Shared>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let (id, secret) = (parameter(&query, "corpid"), parameter(&query, "corpsecret"));
    lock(&platform).token_requests.note(&id);
    through(&platform, &connection, (Endpoint::Token, &id), |platform| {
        let account = platform.account(Kind::Wecom, &id, &secret)?;
        let (now, life) = (platform.now(), platform.settings.token_life);
        let (token, left) = platform.tokens.current(Source::Corp, &account, life, now);
        Ok(json!({
            "errcode": 0, "errmsg": "ok", "access_token": token, "expires_in": left.as_secs(),
        }))
    })
    .await
}

/// `GET /cgi-bin/agent/get`: describes the application.
pub(super) async fn application(
    State(platform): State<Shared>,
    RawQuery(query): RawQuery,
) -> Response {
    let query = query.unwrap_or_default();
    let holder = lock(&platform).holder(Kind::Wecom, &query);
    answer(holder.and_then(|account| {
        let agent: i64 = parameter(&query, "agentid").parse().map_err(|_| 40056)?;
        if account.agent_id.is_some_and(|own| own != agent) {
            return Err(301_002);
        }
        let said = json!({ "errcode": 0, "errmsg": "ok", "agentid": agent, "close": 0 });
        Ok(said)
    }))
}

/// `POST /cgi-bin/message/send`: sends one message to any number of members.
pub(super) async fn send(
    State(platform): State<Shared>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Response {
    let query = query.unwrap_or_default();
    send_through(&platform, &connection, (Kind::Wecom, &query), |platform, account| {
        take(platform, account, &body)
    })
    .await
}

fn take(platform: &mut Platform, account: &Account, body: &[u8]) -> Said {
    platform.charge(account)?;
    let now = platform.now();
    let request: Value = serde_json::from_slice(body).map_err(|_| 47001)?;
    let agent = request["agentid"].as_i64().ok_or(40056)?;
    if account.agent_id.is_some_and(|own| own != agent) {
        return Err(301_002);
    }
    let content = content(&platform.settings, &request)?;
    let (members, invalid) = addressed(&platform.settings, &request["touser"])?;
    let same_within = same_within(&request);
    let agent = format!("{} {agent}", account.id);
    // The key is the request's unchanged bytes: a sender may rely on no more than that the same
    // bytes are recognised.
    let key = Key::of(&[b"wecom", agent.as_bytes(), body]);
    if same_within.is_some()
        && let Some(first) = platform.recent.find(key, now)
    {
        return Ok(taken(&invalid, first));
    }
    for member in members {
        let person = format!("{agent} {member}");
        // Beyond this limit the message is dropped. Neither the caller nor the member is notified.
        if platform.limits.take("member", &person, platform.settings.member, now) {
            platform.inbox.deliver(Message {
                number: 0,
                arrived: now,
                kind: Kind::Wecom,
                account: account.id.clone(),
                touser: member,
                client_msg_id: None,
                fields: vec![("content".to_owned(), content.clone())],
            });
        } else {
            platform.inbox.dropped += 1;
        }
    }
    let number = platform.inbox.delivered;
    if let Some(within) = same_within {
        platform.recent.remember(key, now + within, number);
    }
    Ok(taken(&invalid, number))
}

fn taken(invalid: &[String], number: u64) -> Value {
    json!({
        "errcode": 0, "errmsg": "ok", "invaliduser": invalid.join("|"), "invalidparty": "",
        "invalidtag": "", "msgid": number.to_string(),
    })
}

/// Returns the text that the members read, or the errcode of an invalid message.
fn content(settings: &Settings, request: &Value) -> Result<String, i64> {
    let form = request["msgtype"].as_str().unwrap_or_default();
    let most = match form {
        "markdown" => settings.markdown_bytes_max,
        "text" => settings.text_bytes_max,
        _ => return Err(40008),
    };
    let content = request[form]["content"].as_str().unwrap_or_default();
    if content.is_empty() {
        return Err(44004);
    }
    if content.len() > most { Err(45002) } else { Ok(content.to_owned()) }
}

/// Returns the addressed members, and the unknown addresses in lower case, as WeCom answers them.
/// Fails with the errcode for a message without any known member.
fn addressed(settings: &Settings, touser: &Value) -> Result<(Vec<String>, Vec<String>), i64> {
    let touser = touser.as_str().unwrap_or_default();
    let named = touser.split('|').map(str::trim).filter(|name| !name.is_empty());
    let (mut members, mut invalid) = (Vec::new(), Vec::new());
    for name in named {
        match &settings.members {
            None => members.push(name.to_owned()),
            Some(known) if name == EVERYBODY => members.extend(known.iter().cloned()),
            Some(known) => match known.iter().find(|member| member.eq_ignore_ascii_case(name)) {
                Some(member) => members.push(member.clone()),
                None => invalid.push(name.to_lowercase()),
            },
        }
    }
    // A member gets one copy, however often a message names the member.
    members.sort_unstable();
    members.dedup();
    match (members.is_empty(), invalid.is_empty()) {
        (true, true) => Err(82001),
        (true, false) => Err(81013),
        _ => Ok((members, invalid)),
    }
}

/// Returns the time for which the request asks for a duplicate check.
fn same_within(request: &Value) -> Option<Duration> {
    let asked = request["enable_duplicate_check"].as_i64() == Some(1);
    let seconds = request["duplicate_check_interval"].as_u64().filter(|seconds| *seconds > 0);
    let within = seconds.map_or(SAME_WITHIN_WECOM, Duration::from_secs);
    asked.then(|| within.min(SAME_WITHIN_MAX))
}

#[cfg(test)]
#[path = "tests/wecom.rs"]
mod tests;
