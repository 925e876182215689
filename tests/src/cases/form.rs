//! The form of a file of cases.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The body of a POST whose case has none.
pub const MINIMAL_BODY: &str =
    r#"{"data":{"deviceSn":"ABCDE25100000001","heart_rate":82,"timestamp":"2025-09-02 16:09:00"}}"#;

/// A file of cases.
#[derive(Debug, Deserialize)]
pub struct File {
    /// Time zone of the devices.
    pub zone: String,
    /// The cases.
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// Name of the case.
    pub name: String,
    pub(super) route: String,
    method: Option<String>,
    pub(super) port: Option<String>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Option<String>>,
    body: Option<String>,
    #[serde(default, deserialize_with = "base64")]
    body_base64: Option<Vec<u8>>,
    #[serde(default)]
    body_parts: Vec<Part>,
    #[serde(default)]
    pub(super) settings: BTreeMap<String, String>,
    pub(super) steps: Option<Vec<Step>>,
    pub(super) status: Option<u16>,
    pub(super) answer: Option<String>,
    pub(super) details: Option<BTreeMap<String, u64>>,
    pub(super) codes: Option<Vec<String>>,
    #[serde(default)]
    pub(super) warnings: Vec<Map<String, Value>>,
    #[serde(default)]
    pub(super) rejects: usize,
    pub(super) reject_codes: Option<Vec<String>>,
    #[serde(default)]
    pub(super) reject_headers: BTreeMap<String, Value>,
    #[serde(default)]
    pub(super) record_headers: BTreeMap<String, Value>,
    #[serde(default)]
    pub(super) readings: Vec<Value>,
    pub(super) readings_count: Option<Value>,
    pub(super) expect: Option<Expect>,
    #[serde(rename = "note")]
    _note: Option<String>,
    /// Members of features that are not built.
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// A part of a body: literal, or repeated with `{i}` or `{t}` as a running number.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Part {
    Text {
        text: String,
    },
    Repeat {
        repeat: String,
        times: u64,
        #[serde(default)]
        count_from: u64,
    },
}

/// The detailed expectations of an answer.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Expect {
    pub(super) status: Option<u16>,
    pub(super) not_status: Option<u16>,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, Value>,
    pub(super) json: Option<Value>,
    pub(super) within_ms: Option<(u64, u64)>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// A step of a raw connection.
#[derive(Debug, Deserialize)]
pub(super) struct Step {
    pub(super) send: Option<String>,
    #[serde(default, deserialize_with = "base64")]
    pub(super) send_base64: Option<Vec<u8>>,
    pub(super) send_repeat: Option<String>,
    pub(super) times: Option<u64>,
    pub(super) every_ms: Option<u64>,
    pub(super) send_parts: Option<Vec<Part>>,
    pub(super) rate_bytes_per_s: Option<u64>,
    pub(super) wait_ms: Option<u64>,
    pub(super) expect: Option<Expect>,
    pub(super) expect_closed_ms: Option<u64>,
    #[serde(default)]
    pub(super) without_answer: bool,
    pub(super) world: Option<String>,
    pub(super) expect_exit_ms: Option<u64>,
    pub(super) code: Option<i32>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

impl Case {
    pub(super) fn method(&self) -> &str {
        self.method.as_deref().unwrap_or("POST")
    }

    pub(super) fn body(&self) -> Vec<u8> {
        if let Some(body) = &self.body {
            return body.clone().into_bytes();
        }
        if let Some(body) = &self.body_base64 {
            return body.clone();
        }
        if !self.body_parts.is_empty() {
            return parts(&self.body_parts);
        }
        if self.method() == "POST" { MINIMAL_BODY.into() } else { Vec::new() }
    }

    pub(super) fn needs_a_gateway_of_its_own(&self) -> bool {
        let mut steps = self.steps.iter().flatten();
        !self.settings.is_empty() || steps.any(|step| step.world.is_some())
    }

    /// Returns the part of the case that the gateway or this runner does not know. `help` lists the
    /// gateway's settings.
    pub(super) fn not_built(&self, help: &str) -> Option<String> {
        // The help shows no value of a secret.
        let known = |name: &String| {
            ['=', ']'].iter().any(|end| help.contains(&format!("[env: {name}{end}")))
        };
        if let Some(name) = self.settings.keys().find(|name| !known(name)) {
            return Some(format!("the setting {name} is not built"));
        }
        let steps = || self.steps.iter().flatten();
        if let Some(world) =
            steps().filter_map(|step| step.world.as_ref()).find(|w| *w != "sigterm")
        {
            return Some(format!("the surroundings {world} are not built"));
        }
        let expectations = steps().filter_map(|step| step.expect.as_ref()).chain(&self.expect);
        let others = steps().flat_map(|step| step.others.keys());
        let others = others.chain(expectations.flat_map(|expect| expect.others.keys()));
        let name = self.others.keys().chain(others).next()?;
        Some(match self.others.get(name) {
            Some(Value::String(value)) => format!("{name} ({value}) is not built"),
            _ => format!("{name} is not built"),
        })
    }
}

pub(super) fn parts(parts: &[Part]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        match part {
            Part::Text { text } => bytes.extend_from_slice(text.as_bytes()),
            Part::Repeat { repeat, times, count_from } => {
                for number in *count_from..count_from + times {
                    let number = number.to_string();
                    let text = repeat.replace("{i}", &number).replace("{t}", &number);
                    bytes.extend_from_slice(text.as_bytes());
                }
            }
        }
    }
    bytes
}

fn base64<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map(Some).map_err(serde::de::Error::custom)
}
