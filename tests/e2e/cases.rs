//! The worked examples of the contract, unchanged, through the real gateway and real Kafka.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tests::http::{self, Answer};
use tests::kafka::{Record, TopicReader};
use tests::world::{TIME_ZONE, World};

const CASES: &str = include_str!("../cases/cases.json");

/// Members of a record's value that an example does not spell out.
const NOT_COMPARED: [&str; 3] = ["epoch_ms", "received_at", "warnings"];

#[derive(Deserialize)]
struct File {
    zone: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    route: String,
    body: String,
    status: u16,
    answer: Option<String>,
    details: Option<BTreeMap<String, u64>>,
    codes: Option<Vec<String>>,
    #[serde(default)]
    warnings: Vec<Map<String, Value>>,
    rejects: usize,
    readings: Vec<Value>,
}

/// What one example led to.
struct Outcome {
    answer: Answer,
    readings: Vec<Record>,
    rejects: Vec<Record>,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_worked_example_is_answered_and_published_as_written() -> Result<()> {
    let file: File = serde_json::from_str(CASES)?;
    ensure!(file.cases.len() == 60 && file.zone == TIME_ZONE, "another set of examples");
    // One partition, because an example gives an order across devices.
    let world = World::shared("cases").await?.with_partitions(1);
    world.migrate().await?;
    let gateway = world.gateway().start().await?;
    let brokers = &world.stack.kafka_brokers;
    let mut readings = TopicReader::from_start(brokers, &world.readings_topic).await?;
    let mut rejects = TopicReader::from_start(brokers, &world.rejects_topic).await?;
    let mut failures = Vec::new();
    for case in &file.cases {
        let outcome = Outcome {
            answer: http::post(&gateway.url(&case.route), case.body.as_bytes()).await?,
            readings: readings.read_new().await?,
            rejects: rejects.read_new().await?,
        };
        let problems = case.problems(&outcome);
        if !problems.is_empty() {
            failures.push(format!("{}:\n    {}", case.name, problems.join("\n    ")));
        }
    }
    let (failed, all) = (failures.len(), file.cases.len());
    ensure!(failures.is_empty(), "{failed} of {all} examples:\n{}", failures.join("\n"));
    gateway.terminate().await?;
    world.finish().await
}

impl Case {
    fn problems(&self, outcome: &Outcome) -> Vec<String> {
        let checks = [
            self.check_answer(&outcome.answer),
            self.check_readings(&outcome.readings),
            self.check_warnings(&outcome.readings),
            self.check_rejects(&outcome.rejects),
        ];
        checks
            .into_iter()
            .filter_map(|check| check.err().map(|error| format!("{error:#}")))
            .collect()
    }

    fn check_answer(&self, answer: &Answer) -> Result<()> {
        let text = &answer.text;
        ensure!(
            answer.status == self.status,
            "status {} for {}: {text}",
            answer.status,
            self.status
        );
        match &self.answer {
            Some(word) => {
                ensure!(answer.json["status"] == word.as_str(), "{word} expected: {text}")
            }
            None => {
                let kind = answer.header("content-type").unwrap_or_default();
                ensure!(kind.starts_with("application/problem+json"), "content type {kind}");
            }
        }
        for (name, count) in self.details.iter().flatten() {
            ensure!(answer.json["details"][name] == *count, "{name} {count} expected: {text}");
        }
        if let Some(codes) = &self.codes {
            let results = match &answer.json["details"]["results"] {
                Value::Null => &answer.json["results"],
                results => results,
            };
            let found: Vec<_> =
                results.as_array().into_iter().flatten().map(|result| &result["code"]).collect();
            ensure!(found == codes.iter().collect::<Vec<_>>(), "codes {codes:?} expected: {text}");
        }
        Ok(())
    }

    fn check_readings(&self, records: &[Record]) -> Result<()> {
        let found: Vec<Value> = records.iter().map(canonical).collect::<Result<_>>()?;
        let same = found.len() == self.readings.len()
            && found.iter().zip(&self.readings).all(|(found, expected)| equal(found, expected));
        ensure!(same, "readings {} expected: {}", json!(self.readings), json!(found));
        for record in records {
            let value: Value = serde_json::from_slice(&record.value)?;
            let key = record.key.as_deref().unwrap_or_default();
            ensure!(
                value["device_sn"].as_str().map(str::as_bytes) == Some(key),
                "the key is not the device"
            );
            ensure!(record.header("schema").as_deref() == Some("reading.v1"), "header schema");
            ensure!(record.header("traceparent").is_some(), "header traceparent");
            let received = value["received_at"].as_i64();
            ensure!(
                received == Some(record.timestamp_ms),
                "the record's time is not that of receipt"
            );
        }
        Ok(())
    }

    fn check_warnings(&self, records: &[Record]) -> Result<()> {
        let mut carried = Vec::new();
        for record in records {
            let value: Value = serde_json::from_slice(&record.value)?;
            carried.extend(value["warnings"].as_array().cloned().unwrap_or_default());
        }
        for expected in &self.warnings {
            let present = carried.iter().any(|warning| {
                expected.iter().all(|(name, value)| warning.get(name) == Some(value))
            });
            ensure!(present, "warning {} expected: {}", json!(expected), json!(carried));
        }
        Ok(())
    }

    fn check_rejects(&self, records: &[Record]) -> Result<()> {
        ensure!(records.len() == self.rejects, "{} rejects for {}", records.len(), self.rejects);
        for record in records {
            let item = std::str::from_utf8(&record.value).context("a reject")?;
            ensure!(self.body.contains(item), "a reject is not verbatim: {item}");
        }
        let codes: Vec<_> =
            records.iter().map(|record| record.header("code").unwrap_or_default()).collect();
        let expected = self.codes.clone().unwrap_or_default();
        ensure!(
            self.rejects == 0 || codes == expected,
            "codes {codes:?} of the rejects for {expected:?}"
        );
        Ok(())
    }
}

fn canonical(record: &Record) -> Result<Value> {
    let mut value: Map<String, Value> = serde_json::from_slice(&record.value)?;
    for name in NOT_COMPARED {
        value.remove(name);
    }
    Ok(Value::Object(value))
}

/// Equal with numbers by value: 84 is 84.0, but 19 digits are compared as they are.
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
