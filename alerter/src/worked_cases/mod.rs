//! Plays worked examples of alerts: what is written, what happens, and what must follow.
//!
//! An example runs through loading, engine, router and rendering, without a server and without a
//! clock. [`episodes`] plays rules and readings, [`fields`] the fields of a template, and the tests
//! of the sender play the queue of a person.

mod episodes;
pub(crate) mod fields;
pub(crate) mod people;
mod result;
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;

use crate::notify::sender::queue_tests;
use result::list;

/// Why an example that asks for a platform's answers is not played here.
const NEEDS_SERVERS: &str = "needs servers";

/// Why an example of acknowledgement or hand-over is not played.
const LATER: &str = "later";

/// The keys that say what must come of rules and readings.
const OF_EPISODES: [&str; 6] =
    ["transitions", "told", "unreachable", "operators", "status", "loads"];

/// The other keys of an example.
const OTHER_KEYS: [&str; 18] = [
    "name",
    "section",
    "note",
    "rules",
    "readings",
    "events",
    "people",
    "waiting",
    "limit",
    "goes",
    "notice",
    "map",
    "refused_fields",
    "shown",
    "requests",
    "answers",
    "ended",
    "acknowledged_by",
];

/// What came of an example.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything came out as written.
    Held,
    /// Something came out otherwise.
    Failed(String),
    /// The example is not played here, for this reason.
    NotHere(&'static str),
}

/// Plays one example.
pub(crate) fn play(case: &Value) -> Outcome {
    let mut keys = case.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
    // A misspelt key would compare nothing.
    if let Some(key) = keys.find(|key| !OF_EPISODES.contains(key) && !OTHER_KEYS.contains(key)) {
        return Outcome::Failed(format!("the key {key} is unknown"));
    }
    let section = case["section"].as_str().unwrap_or_default();
    if section.starts_with("7.") || section == "8.1" {
        return Outcome::NotHere(LATER);
    }
    if list(&case["events"]).iter().any(|event| event["do"] == "answer") {
        return Outcome::NotHere(NEEDS_SERVERS);
    }
    let has = |key: &str| case.get(key).is_some();
    let part = match ["shown", "goes", "readings"].map(has) {
        [true, _, _] => fields::play,
        [_, true, _] => queue_tests::play,
        [_, _, true] if OF_EPISODES.into_iter().any(has) => episodes::play,
        _ => {
            return Outcome::Failed("it has no form that is played, or expects nothing".to_owned());
        }
    };
    // An example in another form must not end the examples behind it.
    match catch_unwind(AssertUnwindSafe(|| part(case))) {
        Ok(Ok(())) => Outcome::Held,
        Ok(Err(reason)) => Outcome::Failed(reason),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Outcome::Failed(format!("panicked: {}", text.unwrap_or_default()))
        }
    }
}
