//! Compares answers and records with the expectations of a case.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use regex::Regex;
use serde_json::{Value, json};

use super::form::{Case, Expect};
use crate::clients::http::Answer;
use crate::clients::kafka::Record;

/// Members of a record's value that an example omits.
const NOT_COMPARED: [&str; 3] = ["epoch_ms", "received_at", "warnings"];

/// The records that a case published.
pub(super) struct Published {
    pub(super) readings: Vec<Record>,
    pub(super) rejects: Vec<Record>,
}

/// Checks an answer against the case's main members.
pub(super) fn answer(case: &Case, answer: &Answer) -> Result<()> {
    let text = &answer.text;
    if let Some(status) = case.status {
        ensure!(answer.status == status, "status {} for {status}: {text}", answer.status);
    }
    match &case.answer {
        Some(word) => ensure!(answer.json["status"] == word.as_str(), "{word} expected: {text}"),
        None => {
            ensure!(!answer.json["status"].is_string(), "no status word expected: {text}");
            let kind = answer.header("content-type").unwrap_or_default();
            let problem = answer.status < 400 || case.port.is_some();
            ensure!(problem || kind == "application/problem+json", "content type {kind}");
        }
    }
    for (name, count) in case.details.iter().flatten() {
        ensure!(answer.json["details"][name] == *count, "{name} {count} expected: {text}");
    }
    if let Some(codes) = &case.codes {
        let results = match &answer.json["details"]["results"] {
            Value::Null => &answer.json["results"],
            results => results,
        };
        let found: Vec<_> =
            results.as_array().into_iter().flatten().map(|result| &result["code"]).collect();
        ensure!(found == codes.iter().collect::<Vec<_>>(), "codes {codes:?} expected: {text}");
    }
    match &case.echo {
        Some(expected) => echo(case, expected, &answer.json["readings"]).context("readings"),
        None => Ok(()),
    }
}

/// Checks the readings in the answer to a dry run.
fn echo(case: &Case, expected: &[Value], found: &Value) -> Result<()> {
    let found = found.as_array().context("none in the answer")?;
    check_warnings(case, found)?;
    let found: Vec<_> = found.iter().cloned().map(canonical).collect();
    let same = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| equal(found, expected));
    ensure!(same, "{} expected: {}", json!(expected), json!(found));
    Ok(())
}

/// Checks that the readings carry the warnings.
fn check_warnings(case: &Case, readings: &[Value]) -> Result<()> {
    let warnings = readings.iter().filter_map(|reading| reading["warnings"].as_array());
    let carried: Vec<_> = warnings.flatten().collect();
    for expected in &case.warnings {
        let present = carried
            .iter()
            .any(|warning| expected.iter().all(|(name, value)| warning.get(name) == Some(value)));
        ensure!(present, "warning {} expected: {}", json!(expected), json!(carried));
    }
    Ok(())
}

/// Checks an answer against detailed expectations.
pub(super) fn expected(expect: &Expect, answer: &Answer, took: Duration) -> Result<()> {
    let text = &answer.text;
    if let Some(status) = expect.status {
        ensure!(answer.status == status, "status {} for {status}: {text}", answer.status);
    }
    if let Some((least, most)) = expect.within_ms {
        let took = took.as_millis();
        ensure!((least.into()..=most.into()).contains(&took), "it took {took} ms");
    }
    for (name, expected) in &expect.headers {
        let found = answer.header(name).map_or(Value::Null, Value::from);
        matches(expected, &found).with_context(|| format!("header {name}"))?;
    }
    match &expect.json {
        Some(expected) => matches(expected, &answer.json).with_context(|| format!("in {text}")),
        None => Ok(()),
    }
}

/// Compares a value with its expectation: a literal, `{re}`, `{min, max}`, or null for absent. Only
/// the named members of an object and the first items of a list are compared.
pub(super) fn matches(expected: &Value, found: &Value) -> Result<()> {
    match expected {
        Value::Object(members) if members.contains_key("re") => {
            let pattern = members["re"].as_str().context("re is no text")?;
            let text = found.as_str().with_context(|| format!("{found} is no text"))?;
            ensure!(Regex::new(pattern)?.is_match(text), "{text:?} is not {pattern:?}");
            return Ok(());
        }
        Value::Object(members) if members.contains_key("not_re") => {
            let pattern = members["not_re"].as_str().context("not_re is no text")?;
            let text = found.as_str().unwrap_or_default();
            ensure!(!Regex::new(pattern)?.is_match(text), "{text:?} is {pattern:?}");
            return Ok(());
        }
        Value::Object(members) if members.contains_key("min") || members.contains_key("max") => {
            let number = found.as_f64().with_context(|| format!("{found} is no number"))?;
            let bound = |name: &str| members.get(name).and_then(Value::as_f64);
            let inside = bound("min").is_none_or(|min| number >= min)
                && bound("max").is_none_or(|max| number <= max);
            ensure!(inside, "{number} is not within {expected}");
            return Ok(());
        }
        Value::Object(members) => {
            for (name, expected) in members {
                matches(expected, &found[name]).with_context(|| name.clone())?;
            }
            return Ok(());
        }
        Value::Array(items) => {
            for (index, expected) in items.iter().enumerate() {
                matches(expected, &found[index]).with_context(|| index.to_string())?;
            }
            return Ok(());
        }
        _ => {}
    }
    ensure!(equal(expected, found), "{found} for {expected}");
    Ok(())
}

impl Published {
    /// Returns the differences to the case's expectations.
    pub(super) fn problems(&self, case: &Case) -> Vec<String> {
        let checks = [
            self.check_readings(case),
            self.check_count(case),
            self.check_warnings(case),
            self.check_rejects(case),
        ];
        let errors = checks.into_iter().filter_map(Result::err);
        errors.map(|error| format!("{error:#}")).collect()
    }

    fn check_readings(&self, case: &Case) -> Result<()> {
        if case.readings_count.is_none() {
            let found: Vec<_> = self.values()?.into_iter().map(canonical).collect();
            let same = found.len() == case.readings.len()
                && found.iter().zip(&case.readings).all(|(found, expected)| equal(found, expected));
            ensure!(same, "readings {} expected: {}", json!(case.readings), json!(found));
        }
        for record in &self.readings {
            let value: Value = serde_json::from_slice(&record.value)?;
            let key = record.key.as_deref().unwrap_or_default();
            let device = value["device_sn"].as_str().map(str::as_bytes);
            ensure!(device == Some(key), "the key is not the device");
            ensure!(record.header("schema").as_deref() == Some("reading.v1"), "header schema");
            ensure!(record.header("traceparent").is_some(), "header traceparent");
            let received = value["received_at"].as_i64();
            let at = record.timestamp_ms;
            ensure!(received == Some(at), "the record's time is not that of receipt");
            headers(record, &case.record_headers)?;
        }
        Ok(())
    }

    fn check_count(&self, case: &Case) -> Result<()> {
        let Some(expected) = &case.readings_count else { return Ok(()) };
        let found = Value::from(self.readings.len());
        matches(expected, &found).context("number of readings")?;
        for never in expected["none_of"].as_array().into_iter().flatten() {
            let never = never.as_str().map(str::as_bytes);
            let key = |record: &Record| record.key.as_deref() == never;
            ensure!(!self.readings.iter().any(key), "{never:?} was published");
        }
        Ok(())
    }

    fn check_warnings(&self, case: &Case) -> Result<()> {
        // A dry run has its readings in the answer.
        if case.echo.is_some() { Ok(()) } else { check_warnings(case, &self.values()?) }
    }

    /// Returns the values of the readings' records.
    fn values(&self) -> Result<Vec<Value>> {
        let values = self.readings.iter().map(|record| serde_json::from_slice(&record.value));
        Ok(values.collect::<Result<_, _>>()?)
    }

    fn check_rejects(&self, case: &Case) -> Result<()> {
        let records = &self.rejects;
        ensure!(records.len() == case.rejects, "{} rejects for {}", records.len(), case.rejects);
        let sent = case.body();
        for record in records {
            let value = &record.value;
            let opened = case.headers.contains_key("Content-Encoding") && *value != sent;
            let verbatim = opened || sent.windows(value.len().max(1)).any(|part| part == value);
            ensure!(verbatim, "a reject is not verbatim: {}", String::from_utf8_lossy(value));
            headers(record, &case.reject_headers)?;
        }
        let codes: Vec<_> =
            records.iter().map(|record| record.header("code").unwrap_or_default()).collect();
        let expected = case.reject_codes.as_ref().or(case.codes.as_ref());
        let same = case.rejects == 0 || expected.is_some_and(|expected| *expected == codes);
        ensure!(same, "codes {codes:?} of the rejects for {expected:?}");
        Ok(())
    }
}

fn headers(record: &Record, expected: &std::collections::BTreeMap<String, Value>) -> Result<()> {
    for (name, expected) in expected {
        let found = record.header(name).map_or(Value::Null, Value::from);
        matches(expected, &found).with_context(|| format!("record header {name}"))?;
    }
    Ok(())
}

/// Returns a reading without what an example omits.
fn canonical(mut reading: Value) -> Value {
    if let Value::Object(members) = &mut reading {
        members.retain(|name, _| !NOT_COMPARED.contains(&name.as_str()));
    }
    reading
}

/// Compares numbers by value: 84 equals 84.0. Integers of 19 digits are compared exactly.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => left == right,
            _ => left.as_f64() == right.as_f64(),
        },
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len()
                && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(name, value)| right.get(name).is_some_and(|other| equal(value, other)))
        }
        _ => left == right,
    }
}
