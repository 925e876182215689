//! The conformance kit and the gateway agree on every worked example and on every code.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::kafka;
use serde_json::Value;
use tokio::process::Command;

use super::dry_run::{ITEM_CODES, every_fault};
use crate::support::{finish, gateway};

/// The longest that the kit may take.
const DONE_WITHIN: Duration = Duration::from_secs(120);

/// Runs the kit; returns its exit code, and what it prints as JSON.
async fn kit(arguments: &[&str]) -> Result<(Option<i32>, Value)> {
    let kit = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("conformance/conformance.py");
    let mut command = Command::new("python3");
    command.arg("-B").arg(kit).args(arguments).arg("--json");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let done = tokio::time::timeout(DONE_WITHIN, command.output());
    let done = done.await.context("the kit does not end")?.context("python3 could not be run")?;
    let said = serde_json::from_slice(&done.stdout)
        .with_context(|| String::from_utf8_lossy(&done.stderr).into_owned())?;
    Ok((done.status.code(), said))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kit_holds_and_stores_nothing_unless_it_is_told_to() -> Result<()> {
    let (world, gateway) = gateway("kit").await?;
    let (brokers, url) = (&world.stack.kafka_brokers, gateway.url(""));
    let (code, said) = kit(&["check", &url]).await?;
    ensure!(code == Some(0) && said["of"].as_i64() > Some(80), "{said:#}");
    for topic in [&world.readings_topic, &world.rejects_topic] {
        let stored = kafka::records(brokers, topic).await?.len();
        ensure!(stored == 0, "dry runs left {stored} records in {topic}");
    }
    let (code, said) = kit(&["check", &url, "--store"]).await?;
    ensure!(code == Some(0) && said["of"].as_i64() > Some(80), "{said:#}");
    ensure!(!kafka::records(brokers, &world.readings_topic).await?.is_empty(), "nothing is stored");
    finish(world, [gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kit_explains_a_body_with_every_code_of_items_in_both_languages() -> Result<()> {
    let (world, gateway) = gateway("explain").await?;
    let file = world.logs.join("body.json");
    std::fs::write(&file, every_fault(&world)?).context("a body")?;
    let (url, file) = (gateway.url(""), file.display().to_string());
    let mut explanations = Vec::new();
    for language in ["zh", "en"] {
        let (code, said) = kit(&["payload", &url, &file, "--language", language]).await?;
        ensure!(code == Some(1), "{code:?}: {said:#}");
        let remarks = said["remarks"].as_array().context("remarks")?;
        let codes: Vec<_> = remarks.iter().filter_map(|remark| remark["code"].as_str()).collect();
        ensure!(codes == ITEM_CODES, "{said:#}");
        ensure!(said["readings"].as_array().map(Vec::len) == Some(2), "{said:#}");
        let texts = remarks.iter().filter_map(|remark| remark["explanation"].as_str());
        explanations.push(texts.map(str::to_owned).collect::<Vec<_>>());
    }
    let [chinese, english] = &explanations[..] else { anyhow::bail!("{explanations:?}") };
    ensure!(english.iter().all(|text| text.is_ascii()), "{english:?}");
    ensure!(chinese.iter().all(|text| !text.is_ascii()), "{chinese:?}");
    finish(world, [gateway]).await
}
