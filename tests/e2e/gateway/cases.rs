//! Runs the worked examples, unchanged, through the real gateway and real Kafka.

use anyhow::{Context, Result, ensure};
use ljwx_tests::cases::{self, File};
use ljwx_tests::stack::world::TIME_ZONE;
use serde_json::Value;

const CASES: &str = include_str!("../../cases/cases.json");

const GATEWAY_CASES: &str = include_str!("../../cases/gateway_cases.json");

/// The cases in which Kafka acknowledges nothing.
const WITHOUT_ACKNOWLEDGEMENTS: [&str; 2] =
    ["fails_fast_while_nothing_is_acknowledged", "a_whole_body_or_none"];

/// The cases that need a broker of their own: one that refuses a producer, or creates topics.
const ON_A_BROKER_OF_THEIR_OWN: [&str; 2] =
    ["fatal_producer_heals", "no_topic_is_made_by_accident"];

/// Whether the gateway has what the case needs. It has no credentials and limits of senders, speaks
/// one language, and serves no documents.
fn is_built(case: &Value) -> bool {
    let has = |member: &str, name: &str| case[member].get(name).is_some();
    let is_document = case["route"].as_str().is_some_and(|route| route.starts_with("/schemas/"));
    !has("settings", "ACCESS_FILE") && !has("headers", "Accept-Language") && !is_document
}

fn is_one_of(case: &Value, names: &[&str]) -> bool {
    case["name"].as_str().is_some_and(|name| names.contains(&name))
}

async fn holds(text: &str, chosen: impl Fn(&Value) -> bool, count: usize) -> Result<()> {
    let mut file: Value = serde_json::from_str(text)?;
    file["cases"].as_array_mut().context("cases")?.retain(chosen);
    let file: File = serde_json::from_value(file)?;
    let all = file.cases.len();
    ensure!(all == count && file.zone == TIME_ZONE, "another set of examples: {all}");
    let outcomes = cases::run(&file).await?;
    let failed = outcomes.iter().filter(|outcome| !outcome.problems.is_empty());
    let failed: Vec<_> = failed
        .map(|outcome| format!("{}:\n    {}", outcome.name, outcome.problems.join("\n    ")))
        .collect();
    ensure!(failed.is_empty(), "{} of {all} examples:\n{}", failed.len(), failed.join("\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_worked_example_is_answered_and_published_as_written() -> Result<()> {
    holds(CASES, |_| true, 60).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_holds_the_cases_of_what_is_built() -> Result<()> {
    let apart = [WITHOUT_ACKNOWLEDGEMENTS, ON_A_BROKER_OF_THEIR_OWN].concat();
    holds(GATEWAY_CASES, |case| is_built(case) && !is_one_of(case, &apart), 49).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_holds_the_cases_of_a_kafka_that_acknowledges_nothing() -> Result<()> {
    holds(GATEWAY_CASES, |case| is_one_of(case, &WITHOUT_ACKNOWLEDGEMENTS), 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_holds_the_cases_of_a_broker_that_refuses_it_or_creates_topics() -> Result<()> {
    holds(GATEWAY_CASES, |case| is_one_of(case, &ON_A_BROKER_OF_THEIR_OWN), 2).await
}
