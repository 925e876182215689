//! The form of a file of cases.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The body of a POST whose case has none.
pub const MINIMAL_BODY: &str =
    r#"{"data":{"deviceSn":"ABCDE25100000001","heart_rate":82,"timestamp":"2025-09-02 16:09:00"}}"#;

/// The surroundings in which Kafka acknowledges nothing.
pub(super) const KAFKA_NO_ACK: &str = "kafka_no_ack";

/// The surroundings in which Kafka works.
const KAFKA_UP: &str = "kafka_up";

/// The surroundings in which connections to Kafka are refused.
pub(super) const KAFKA_AWAY: &str = "kafka_away";

/// The surroundings in which the topics do not exist.
pub(super) const TOPIC_MISSING: &str = "topic_missing";

/// The surroundings in which the gateway may not write to Kafka.
pub(super) const KAFKA_ACL_DENIED: &str = "kafka_acl_denied";

/// The surroundings in which the gateway may write to Kafka again.
pub(super) const KAFKA_ACL_GRANTED: &str = "kafka_acl_granted";

/// The surroundings that a turn of a sequence brings about.
const OF_TURNS: [&str; 3] = [KAFKA_NO_ACK, KAFKA_UP, KAFKA_ACL_GRANTED];

/// The surroundings of a case.
const OF_CASES: [&str; 3] = [KAFKA_AWAY, TOPIC_MISSING, KAFKA_ACL_DENIED];

/// A file of cases.
#[derive(Debug, Deserialize)]
pub struct File {
    /// Time zone of the devices.
    pub zone: String,
    /// The cases.
    #[serde(deserialize_with = "cases")]
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
    pub(super) world: Option<String>,
    pub(super) steps: Option<Vec<Step>>,
    pub(super) sequence: Option<Vec<Turn>>,
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
    pub(super) echo: Option<Vec<Value>>,
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
    /// Whether the filter of log lines must stay as it is.
    #[serde(default)]
    pub(super) level_unchanged: bool,
    /// Topics, by their names in production, and whether they exist afterwards.
    #[serde(default)]
    pub(super) topic_exists: BTreeMap<String, bool>,
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

/// A turn of a sequence.
#[derive(Debug, Deserialize)]
pub(super) struct Turn {
    pub(super) request: Option<Case>,
    /// A name, if the next turn does not wait for the answer.
    #[serde(rename = "async")]
    pub(super) in_background: Option<String>,
    pub(super) retry_for_ms: Option<u64>,
    pub(super) world: Option<String>,
    pub(super) wait_ms: Option<u64>,
    pub(super) ready: Option<Ready>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// The answer that `/readyz` has to reach.
#[derive(Debug, Deserialize)]
pub(super) struct Ready {
    pub(super) status: u16,
    pub(super) within_ms: u64,
    pub(super) body: Option<Value>,
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

    /// Returns whether the case is one request to the public address of any gateway.
    pub fn runs_anywhere(&self) -> bool {
        self.port.is_none() && self.steps.is_none() && !self.needs_a_gateway_of_its_own()
    }

    pub(super) fn needs_a_gateway_of_its_own(&self) -> bool {
        let mut steps = self.steps.iter().flatten();
        let changes = !self.settings.is_empty() || self.sequence.is_some() || self.world.is_some();
        changes || steps.any(|step| step.world.is_some())
    }

    /// Returns whether other users of Kafka notice the case, or the case its neighbours: it limits
    /// times, which a busy machine exceeds.
    pub(super) fn needs_the_servers_alone(&self) -> bool {
        let is_timed = self.expect.as_ref().is_some_and(|expect| expect.within_ms.is_some());
        let mut turns = self.sequence.iter().flatten();
        let has_such_a_turn = turns.any(|turn| {
            let freezes = turn.world.as_deref() == Some(KAFKA_NO_ACK);
            let request = turn.request.as_ref();
            freezes || turn.ready.is_some() || request.is_some_and(Self::needs_the_servers_alone)
        });
        is_timed || self.steps.is_some() || has_such_a_turn
    }

    /// Returns whether the case needs a broker that knows rights, or creates topics by accident.
    pub(super) fn needs_a_broker_of_its_own(&self) -> bool {
        self.world
            .as_deref()
            .is_some_and(|world| [TOPIC_MISSING, KAFKA_ACL_DENIED].contains(&world))
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
        let turns = || self.sequence.iter().flatten();
        let of_steps = steps().filter_map(|step| step.world.as_deref()).find(|w| *w != "sigterm");
        let mut of_turns = turns().filter_map(|turn| turn.world.as_deref());
        let of_turns = || of_turns.find(|w| !OF_TURNS.contains(w));
        let of_case = || self.world.as_deref().filter(|w| !OF_CASES.contains(w));
        if let Some(world) = of_steps.or_else(of_turns).or_else(of_case) {
            return Some(format!("the surroundings {world} are not built"));
        }
        let mut requests = turns().filter_map(|turn| turn.request.as_ref());
        if let Some(missing) = requests.find_map(|request| request.not_built(help)) {
            return Some(missing);
        }
        let expectations = steps().filter_map(|step| step.expect.as_ref()).chain(&self.expect);
        let ready = turns().filter_map(|turn| turn.ready.as_ref());
        let others = steps().flat_map(|step| step.others.keys());
        let others = others.chain(turns().flat_map(|turn| turn.others.keys()));
        let others = others.chain(ready.flat_map(|ready| ready.others.keys()));
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

/// Reads cases. A request of a sequence inherits from the case of the sequence.
fn cases<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Case>, D::Error> {
    let mut cases = Vec::<Map<String, Value>>::deserialize(deserializer)?;
    for case in &mut cases {
        let Some(Value::Array(mut sequence)) = case.remove("sequence") else { continue };
        for turn in &mut sequence {
            if let Some(Value::Object(request)) = turn.get_mut("request") {
                let own = std::mem::replace(request, case.clone());
                request.extend(own);
            }
        }
        case.insert("sequence".to_owned(), sequence.into());
    }
    let read = cases.into_iter().map(|case| serde_json::from_value::<Case>(case.into()));
    read.collect::<Result<_, _>>().map_err(serde::de::Error::custom)
}

fn base64<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_a_sequence_inherits_from_its_case() {
        let request = serde_json::json!({"status": 503, "expect": {"later": 1}});
        let case = serde_json::json!({
            "name": "a", "route": "/r", "headers": {"X": "y"}, "readings_count": 1,
            "sequence": [{"world": KAFKA_UP}, {"request": request}],
        });
        let file = serde_json::json!({"zone": "UTC", "cases": [case]});
        let file: File = serde_json::from_value(file).unwrap();
        let turns = file.cases[0].sequence.as_ref().unwrap();
        let request = turns[1].request.as_ref().unwrap();
        assert!(turns[0].request.is_none() && request.sequence.is_none());
        assert_eq!((request.route.as_str(), request.status), ("/r", Some(503)));
        assert_eq!(request.headers["X"].as_deref(), Some("y"));
        assert_eq!(file.cases[0].not_built(""), Some("later is not built".to_owned()));
    }

    #[test]
    fn a_case_that_limits_times_or_freezes_kafka_needs_the_servers_alone() {
        let timed = serde_json::json!({"within_ms": [0, 500]});
        for (more, alone) in [
            (serde_json::json!({"status": 200, "expect": {"status": 200}}), false),
            (serde_json::json!({"expect": timed}), true),
            (serde_json::json!({"steps": [{"wait_ms": 1}]}), true),
            (serde_json::json!({"sequence": [{"request": {"status": 200}}]}), false),
            (serde_json::json!({"sequence": [{"request": {"expect": timed}}]}), true),
            (serde_json::json!({"sequence": [{"world": KAFKA_NO_ACK}]}), true),
        ] {
            let mut case = serde_json::json!({"name": "a", "route": "/r"});
            case.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let file = serde_json::json!({"zone": "UTC", "cases": [case]});
            let file: File = serde_json::from_value(file).unwrap();
            assert_eq!(file.cases[0].needs_the_servers_alone(), alone, "{more}");
        }
    }
}
