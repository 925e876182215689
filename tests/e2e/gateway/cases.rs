//! Runs the worked examples of the contract, unchanged, through the real gateway and real Kafka.

use anyhow::{Result, ensure};
use ljwx_tests::cases::{self, File};
use ljwx_tests::stack::world::TIME_ZONE;

const CASES: &str = include_str!("../../cases/cases.json");

const GATEWAY_CASES: &str = include_str!("../../cases/gateway_cases.json");

/// The gateway's cases that hold. The other cases need features that are not built.
const HOLDING: &[&str] = &[
    "gzip_on_the_device_route",
    "gzip_on_the_api_route",
    "zstd_on_the_device_route",
    "zstd_made_by_the_zstd_program",
    "gzip_of_two_members",
    "zstd_bomb_that_states_its_size",
    "corrupt_gzip_on_the_api_route",
    "gzip_cut_short",
    "gzip_followed_by_something_else",
    "called_gzip_but_plain",
    "gzip_of_nothing",
    "brotli_on_the_device_route",
    "encoded_twice",
    "identity_encoding",
    "api_plain_text",
    "api_json_suffix",
    "api_gbk",
    "api_without_content_type",
    "device_route_takes_any_content_type",
    "server_time_and_request_id",
    "too_large_by_content_length",
    "too_large_with_expect_continue",
    "too_large_in_chunks",
    "a_thousand_and_one_on_the_device_route",
    "a_thousand_and_one_on_the_api_route",
    "head_too_large",
    "api_no_such_path",
    "wrong_method",
    "stalled_body",
    "stalled_body_on_the_api_route",
    "trickling_body",
    "two_pieces_with_a_pause",
    "half_a_head",
    "a_connection_that_says_nothing",
    "idle_between_requests",
    "sigterm_does_not_wait_for_half_a_head",
    "a_trusted_callers_trace",
    "log_level_with_a_wrong_token",
    "log_level_with_the_token",
];

/// The cases that hold while Kafka acknowledges nothing. No broker of the stack can refuse a producer,
/// so `acknowledgement::fatal_producer_heals` takes the place of the case of this name.
const HOLDING_WITHOUT_ACKNOWLEDGEMENTS: &[&str] =
    &["fails_fast_while_nothing_is_acknowledged", "a_whole_body_or_none"];

async fn holds(text: &str, chosen: impl Fn(&str) -> bool, count: usize) -> Result<()> {
    let mut file: File = serde_json::from_str(text)?;
    file.cases.retain(|case| chosen(&case.name));
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
    holds(GATEWAY_CASES, |name| HOLDING.contains(&name), HOLDING.len()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_holds_the_cases_of_a_kafka_that_acknowledges_nothing() -> Result<()> {
    let names = HOLDING_WITHOUT_ACKNOWLEDGEMENTS;
    holds(GATEWAY_CASES, |name| names.contains(&name), names.len()).await
}
