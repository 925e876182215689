//! Carries out one call through the active faults. The answer is JSON with an errcode and HTTP 200,
//! even for a failure. Choosing the fault belongs to [`super::fault`].

use axum::Json;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};

use super::fault::{Effect, Endpoint, Moment};
use super::platform::{Platform, Shared};
use super::settings::{Account, Kind};
use crate::fakes::http_server::Connection;
use crate::fakes::lock;
use crate::stack::wait;

/// The platform's answer, or the errcode of a failure.
pub(super) type Said = Result<Value, i64>;

/// Answers a call of `account`. `handle` is the platform's work, unless a fault prevents it.
pub(super) async fn through(
    platform: &Shared,
    connection: &Connection,
    (endpoint, account): (Endpoint, &str),
    handle: impl FnOnce(&mut Platform) -> Said,
) -> Response {
    let fault = lock(platform).faults.strike(endpoint, account);
    let handle = || answer(handle(&mut lock(platform)));
    let Some((effect, ended)) = fault else { return handle() };
    match effect {
        Effect::Errcode(code) => answer(Err(code)),
        Effect::Delay(time) => {
            wait::pass(time).await;
            handle()
        }
        Effect::Hang(Moment::Before) => {
            ended.cancelled().await;
            handle()
        }
        Effect::Hang(Moment::After) => {
            let answer = handle();
            ended.cancelled().await;
            answer
        }
        Effect::Cut(moment) => {
            if moment == Moment::After {
                handle();
            }
            connection.cut();
            ().into_response()
        }
        Effect::Page(status) => page(status),
        Effect::NoErrcode => without_errcode(),
    }
}

/// Answers a send. `take` takes in the message of the account whose token the query has.
pub(super) async fn send_through(
    platform: &Shared,
    connection: &Connection,
    (kind, query): (Kind, &str),
    take: impl FnOnce(&mut Platform, &Account) -> Said,
) -> Response {
    let admitted = lock(platform).admit(kind, query);
    match admitted {
        Ok(account) => {
            let call = (Endpoint::Send, account.id.as_str());
            through(platform, connection, call, |platform| take(platform, &account)).await
        }
        Err(code) => answer(Err(code)),
    }
}

/// Turns a result into the response to a call.
pub(super) fn answer(said: Said) -> Response {
    let value = said.unwrap_or_else(|code| json!({ "errcode": code, "errmsg": errmsg(code) }));
    Json(value).into_response()
}

/// Returns the error page of a proxy that could not reach the platform.
fn page(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Html(format!("<html><body><h1>{status}</h1><hr>nginx</body></html>"))).into_response()
}

/// Returns JSON without an errcode.
fn without_errcode() -> Response {
    Json(json!({ "status": "fine" })).into_response()
}

fn errmsg(code: i64) -> &'static str {
    match code {
        -1 => "system error",
        40001 => "invalid credential, access_token is invalid or not latest",
        40002 => "invalid grant_type",
        40003 => "invalid openid",
        40008 => "invalid message type",
        40013 => "invalid appid or corpid",
        40014 => "invalid access_token",
        40037 => "invalid template_id",
        40056 => "invalid agentid",
        40125 => "invalid appsecret",
        40241 => "duplicate message within 60s",
        40249 => "content risky",
        40252 => "content under review",
        41001 => "access_token missing",
        41002 => "appid or corpid missing",
        41004 => "appsecret or corpsecret missing",
        42001 => "access_token expired",
        43004 => "require subscribe",
        43101 => "user refuse to accept the msg",
        43116 => "template is banned",
        43117 => "too many messages to this user",
        44004 => "empty content",
        45002 => "content size out of limit",
        45009 => "reach max api daily quota limit",
        45011 => "api minute-quota reach limit, must slower, retry next minute",
        47001 => "data format error",
        47003 => "argument invalid! hint: [26.orA01123945]",
        81013 => "user & party & tag all invalid",
        82001 => "all touser & toparty & totag are empty",
        301002 => "not allow operate another agent with this accesstoken",
        _ => "refused",
    }
}
