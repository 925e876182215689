//! Sends a case as one request.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Method, RequestBuilder};

use super::check;
use super::form::Case;
use crate::clients::http::{self, ANSWER_WITHIN, Answer};
use crate::stack::process::Service;

/// Returns the case's request.
pub(super) fn of(case: &Case, gateway: &Service) -> Result<RequestBuilder> {
    let url = match case.port.as_deref() {
        Some("admin") => gateway.admin(&case.route),
        _ => gateway.url(&case.route),
    };
    let client = Client::builder().timeout(ANSWER_WITHIN).no_proxy().build()?;
    let method: Method = case.method().parse()?;
    let mut request = client.request(method, &url);
    let body = case.body();
    if !body.is_empty() {
        request = request.body(body);
    }
    let own = |name: &str| case.headers.keys().any(|own| own.eq_ignore_ascii_case(name));
    if case.method() == "POST" && !own("content-type") {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    for (name, value) in &case.headers {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    Ok(request)
}

/// Sends the case's request and checks the answer. The error is the reason why the case does not
/// hold.
pub(super) async fn ask(case: &Case, gateway: &Service) -> Result<()> {
    let request = of(case, gateway)?;
    let level_stays = case.expect.as_ref().is_some_and(|expect| expect.level_unchanged);
    let level = if level_stays { log_level(gateway).await? } else { String::new() };
    let asked = Instant::now();
    let response = request.send().await.context("no answer")?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.context("no whole answer")?;
    let took = asked.elapsed();
    let json = serde_json::from_str(&text).unwrap_or_default();
    let answer = Answer { status, headers, text, json };
    check::answer(case, &answer)?;
    if let Some(expected) = &case.expect {
        check::expected(expected, &answer, took)?;
    }
    ensure!(!level_stays || log_level(gateway).await? == level, "another filter of log lines");
    ensure!(case.status.is_some(), "the case does not say what is expected");
    Ok(())
}

/// Returns the filter of the gateway's log lines.
async fn log_level(gateway: &Service) -> Result<String> {
    Ok(http::get(&gateway.admin("/loglevel")).await?.text)
}
