//! The logs: their level changes while a service runs, for who may change it, and they contain no
//! data of a patient.

use anyhow::{Context, Result, ensure};
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::clients::http;
use ljwx_tests::fakes::wechat::APP_SECRET;
use ljwx_tests::fleet::TENANT;
use ljwx_tests::stack::launch::free_address;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use serde_json::json;

use super::watched::{SOON, Watched};
use crate::support::world;

/// The beginning of every token of the fake WeChat.
const TOKEN: &str = "token-of-the-stand-in";

/// Values that cannot be mistaken for others: no time has their digits.
const VALUES: [&str; 4] = ["22.540987", "114.061234", "8203.469137", "HW-APP-9731"];

/// A token of the admin port.
const ADMIN_TOKEN: &str = "b3c6f0d1a2e94758b3c6f0d1a2e94758";

/// The most detailed logs of the services' own code.
const LOUD: &str = "ljwx=trace,info";

async fn set_level(service: &Service, filter: &str) -> Result<http::Answer> {
    http::put(&service.admin("/loglevel"), filter).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_logged_is_changed_while_the_service_runs() -> Result<()> {
    let watched = Watched::start("oplevel", |launch| launch).await?;
    let load = watched.load();
    let level = http::get(&watched.worker.admin("/loglevel")).await?;
    ensure!(level.text.trim() == "info", "{}", level.text);
    ensure!(!watched.worker.output().contains("batch written"), "a line a batch is for debug");

    let wrong = set_level(&watched.worker, "ljwx=loud").await?;
    ensure!(wrong.status == 400 && wrong.text.contains("such as info"), "{}", wrong.text);
    let right = set_level(&watched.worker, "ljwx=debug,info").await?;
    ensure!(right.status == 200, "{}", right.text);
    eventually(SOON, "a line for a batch, with its trace", || async {
        let output = watched.worker.output();
        let line = output.lines().find(|line| line.contains("batch written")).context("no line")?;
        ensure!(line.contains("batch.id") && line.contains("trace_id"), "{line}");
        Ok(Some(()))
    })
    .await?;
    set_level(&watched.worker, "warn").await?;
    ensure!(http::get(&watched.worker.admin("/loglevel")).await?.text.trim() == "warn");
    drop(load);
    watched.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_changes_something_needs_the_token_and_leaves_a_line() -> Result<()> {
    let world = world("opadmin").await?;
    let gateway = world.gateway().env("ADMIN_TOKEN", ADMIN_TOKEN).start().await?;
    let url = gateway.admin("/loglevel");
    let (right, wrong) = (format!("Bearer {ADMIN_TOKEN}"), format!("Bearer {ADMIN_TOKEN}0"));
    let none: &[(&str, &str)] = &[];
    for headers in [none, &[("authorization", wrong.as_str())]] {
        let refused = http::put_with(&url, "debug", headers).await?;
        ensure!(refused.status == 401, "{}: {}", refused.status, refused.text);
    }
    ensure!(http::get(&url).await?.text.trim() == "info", "a refused call changes the level");
    ensure!(gateway.metric("admin_unauthorized_total", "").await? == 2.0);

    let headers = [("authorization", right.as_str())];
    let secret = http::put_with(&url, "info,rdkafka=trace", &headers).await?;
    ensure!(secret.status == 400 && secret.text.contains("not traced"), "{}", secret.text);
    let changed = http::put_with(&url, "error", &headers).await?;
    ensure!(changed.status == 200 && changed.text.trim() == "error", "{}", changed.text);
    let output = gateway.output();
    for (line, times) in
        [("admin call refused", 3), ("log level changed", 1), ("admin call answered", 1)]
    {
        ensure!(output.matches(line).count() == times, "not {times} times {line}:\n{output}");
    }
    ensure!(!output.contains(ADMIN_TOKEN), "the log holds the token");
    ensure!(gateway.terminate().await?.success(), "the gateway failed");

    // A port that others reach, without a token.
    let open = free_address()?;
    let listen = format!("0.0.0.0:{}", open.port());
    let gateway = world.gateway().arg("--admin-listen").arg(listen).spawn()?;
    let url = format!("http://{open}/loglevel");
    eventually(SOON, "the level can be read", || async {
        Ok((http::get(&url).await?.status == 200).then_some(()))
    })
    .await?;
    ensure!(http::put(&url, "debug").await?.status == 403, "anyone may change the level");
    gateway.kill().await?;
    let short = world.gateway().env("ADMIN_TOKEN", "short").finish().await?;
    ensure!(short.code == Some(2) && short.text.contains("--admin-token"), "{}", short.text);
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_line_span_or_metric_holds_a_health_value_a_token_or_a_secret() -> Result<()> {
    let watched = Watched::start("opsecret", |launch| launch.env("LOG_LEVEL", LOUD)).await?;
    let world = &watched.world;
    let password = "Passwort-1742";
    let url = watched.gateway.url("/upload_health_data");
    let now = jiff::Timestamp::now().as_second();
    let reading = |device: usize, age: i64, heart_rate: i32| {
        json!({
            "deviceSn": world.device(device), "customerId": TENANT.to_string(),
            "timestamp": wall_time(now - age), "heart_rate": heart_rate,
            "latitude": VALUES[0], "longitude": VALUES[1], "distance": VALUES[2],
        })
    };
    // Readings that are accepted, notified, and rejected by the database, and an item that is
    // rejected.
    watched.narrow().await?;
    let mut items: Vec<_> = (0..3).map(|step| reading(1, 60 - step * 15, 125)).collect();
    items.push(reading(2, 30, 201));
    let mut nobody = reading(3, 30, 70);
    nobody["deviceSn"] = VALUES[3].into();
    nobody["timestamp"] = format!("{} o'clock", VALUES[0]).into();
    items.push(nobody);
    let body = json!({ "data": items }).to_string();
    let answer = http::post(&url, body).await?;
    ensure!(answer.status == 200, "{}", answer.text);
    let broken = format!("{{\"data\": {{\"latitude\": {}, ", VALUES[0]);
    let rejected = http::post(&url, broken).await?;
    let traces = [&answer, &rejected].map(|answer| answer.json["request_id"].clone());
    eventually(SOON, "notified, dead-lettered, rejected", || async {
        let letters = watched.worker.metric("dead_letters_total", "").await?;
        let rejected = watched.gateway.metric("gateway_rejections_total", "").await?;
        let sent = watched.wechat.delivered();
        ensure!(letters >= 1.0 && rejected >= 1.0 && sent >= 1, "{letters} {rejected} {sent}");
        Ok(Some(()))
    })
    .await?;
    // A start that fails must not show secrets, either.
    let refused = world
        .worker()
        .env("MYSQL_URL", format!("mysql://root:{password}@127.0.0.1:1"))
        .finish()
        .await?;
    ensure!(refused.code == Some(2), "{}", refused.text);

    let jaeger = world.stack.jaeger_url.as_deref().context("Jaeger is needed here")?;
    let spans = eventually(SOON, "the trace of it all", || async {
        let mut found = String::new();
        for trace in &traces {
            let trace = trace.as_str().context("request_id")?;
            found += &http::get(&format!("{jaeger}/api/traces/{trace}")).await?.text;
        }
        let all = ["alert_check", "notify", "POST /upload_health_data", ".dlq"];
        let missing: Vec<_> = all.iter().filter(|name| !found.contains(**name)).collect();
        ensure!(missing.is_empty(), "no {missing:?}");
        Ok(Some(found))
    })
    .await?;
    let mut said = vec![("spans".to_owned(), spans), ("refusal".to_owned(), refused.text)];
    for service in [&watched.gateway, &watched.worker, &watched.alerter] {
        let page = http::get(&service.admin("/metrics")).await?.text;
        said.push((format!("metrics of {}", service.name()), page));
        said.push((format!("log of {}", service.name()), service.output()));
    }
    for (place, text) in said {
        for secret in VALUES.iter().chain(&[APP_SECRET, TOKEN, password]) {
            if let Some(line) = text.lines().find(|line| line.contains(secret)) {
                let at = line.find(secret).unwrap_or_default();
                let start = line.floor_char_boundary(at.saturating_sub(200));
                anyhow::bail!("{secret} in the {place}: {}", &line[start..at + secret.len()]);
            }
        }
    }
    watched.end().await
}
