//! The documents for device makers: each of their requests, sent to the real gateway, gets the
//! answer that they show or describe.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use ljwx_tests::clients::http::{self, Answer};
use ljwx_tests::repo::markdown;
use ljwx_tests::stack::process::Service;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{finish, gateway};

const PAGE: &str = include_str!("../../../docs/devices.md");
const OPENAPI: &str = include_str!("../../../docs/openapi.json");

/// The longest that a command of the page may take.
const RUN_WITHIN: Duration = Duration::from_secs(30);

/// Members that differ each time.
const CHANGING: [&str; 4] = ["server_time", "server_epoch_ms", "request_id", "received_at"];

/// Members of every answer, which most examples leave out.
const LEFT_OUT: [&str; 3] = ["server_time", "server_epoch_ms", "request_id"];

/// Compares a body with the one shown. Only what every answer has may be left out.
fn compare(shown: &Value, found: &Value) -> Result<()> {
    match (shown, found) {
        (Value::Object(shown), Value::Object(found)) => {
            for (name, shown) in shown {
                let found = found.get(name).with_context(|| format!("there is no {name}"))?;
                if !CHANGING.contains(&name.as_str()) {
                    compare(shown, found).with_context(|| name.clone())?;
                }
            }
            let is_shown = |name: &str| shown.contains_key(name) || LEFT_OUT.contains(&name);
            let hidden = found.keys().find(|name| !is_shown(name));
            ensure!(hidden.is_none(), "{hidden:?} is not shown");
        }
        (Value::Array(shown), Value::Array(found)) => {
            ensure!(shown.len() == found.len(), "{} of {}", found.len(), shown.len());
            for (index, (shown, found)) in shown.iter().zip(found).enumerate() {
                compare(shown, found).with_context(|| index.to_string())?;
            }
        }
        _ => ensure!(shown == found, "{found} and not {shown}"),
    }
    Ok(())
}

/// Checks an answer against what the OpenAPI document says of it. The document says nothing of other
/// routes and methods.
fn check_documented(method: &str, path: &str, answer: &Answer) -> Result<()> {
    let document: Value = serde_json::from_str(OPENAPI)?;
    let responses = &document["paths"][path][method.to_lowercase()]["responses"];
    let Some(responses) = responses.as_object() else { return Ok(()) };
    let status = answer.status.to_string();
    let response = responses.get(&status).or_else(|| responses.get("default"));
    let kind = answer.header("content-type").unwrap_or_default();
    let reference = &response.context("no such answer")?["content"][kind]["schema"]["$ref"];
    ensure!(reference.is_string(), "no answer {status} is {kind}");
    let schema = json!({ "$ref": reference, "components": document["components"] });
    let validator = jsonschema::validator_for(&schema).map_err(|error| anyhow!("{error}"))?;
    let problems = validator.iter_errors(&answer.json).map(|problem| problem.to_string());
    let problems: Vec<_> = problems.collect();
    ensure!(problems.is_empty(), "{problems:?} in {}", answer.text);
    Ok(())
}

/// Sends a request as the page shows it, and compares status, headers and body of the answer.
async fn exchange(request: &str, shown: &str, gateway: &Service) -> Result<()> {
    let (head, body) = request.split_once("\n\n").unwrap_or((request, ""));
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        bail!("no request line");
    };
    let headers: Vec<_> = lines.filter_map(|line| line.split_once(": ")).collect();
    let body = body.trim_end().to_owned();
    let answer = http::send(method, &gateway.url(target), &headers, body).await?;
    let path = target.split('?').next().unwrap_or_default();
    check_documented(method, path, &answer)?;

    let (head, body) = shown.split_once("\n\n").context("an answer without a body")?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    ensure!(answer.status.to_string() == status, "{}: {}", answer.status, answer.text);
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        ensure!(answer.header(name) == Some(value), "{name}: {:?}", answer.header(name));
    }
    compare(&serde_json::from_str(body)?, &answer.json).with_context(|| answer.text.clone())
}

/// Runs a command of the page and compares what it prints.
async fn run(script: &str, shown: &str, gateway: &Service) -> Result<()> {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]).env("GATEWAY", gateway.url(""));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(RUN_WITHIN, command.output()).await.context("no end")??;
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}{complaint}");
    let found = serde_json::from_str(&said).with_context(|| format!("{said}{complaint}"))?;
    compare(&serde_json::from_str(shown)?, &found).with_context(|| said.into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_of_the_page_for_device_makers_gets_the_answer_after_it() -> Result<()> {
    let (world, gateway) = gateway("devices").await?;
    let blocks = markdown::blocks(PAGE);
    let mut sent = 0;
    for pair in blocks.windows(2) {
        let [request, answer] = pair else { bail!("no pair") };
        let Some(language) = request.info.strip_suffix(" runnable") else { continue };
        let done = match (language, answer.info.as_str()) {
            ("http", "http") => exchange(&request.text, &answer.text, &gateway).await,
            ("sh", "json") => run(&request.text, &answer.text, &gateway).await,
            other => Err(anyhow!("blocks of {other:?}")),
        };
        done.with_context(|| format!("docs/devices.md:{}", request.line))?;
        sent += 1;
    }
    ensure!(sent >= 15, "only {sent} requests were found");
    finish(world, [gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_example_of_the_openapi_document_is_accepted_and_answered_as_it_says() -> Result<()> {
    let (world, gateway) = gateway("openapi").await?;
    let document: Value = serde_json::from_str(OPENAPI)?;
    for (path, methods) in document["paths"].as_object().context("paths")? {
        let content = &methods["post"]["requestBody"]["content"]["application/json"];
        for (name, example) in content["examples"].as_object().context("examples")? {
            let answer = http::post(&gateway.url(path), example["value"].to_string()).await?;
            ensure!(answer.status == 200, "{path}, {name}: {}", answer.text);
            check_documented("POST", path, &answer).with_context(|| format!("{path}, {name}"))?;
        }
    }
    finish(world, [gateway]).await
}
