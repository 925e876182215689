//! Readings, rules, notices and accounts for tests.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ljwx_reading::Reading;
use serde_json::{Map, Value, json};

use crate::engine::episode::{EpisodeKey, Transition, TransitionKind};
use crate::notify::notice::Notice;
use crate::notify::outbox::Notification;
use crate::notify::wechat::{Account, AccountKind, FieldMap};
use crate::rules::validation::{RuleStatus, check};
use crate::rules::{Rule, Severity, Vital};

/// Returns a rule on heart rate above 100, changed by `fields`.
pub fn rule(fields: Value) -> Rule {
    let mut all = json!({
        "id": 1, "customer_id": 7, "version": 1, "rule_type": "metric", "physical_sign": "heart_rate",
        "threshold_max": 100, "severity_level": "major",
    });
    merge(&mut all, fields);
    let Value::Object(all) = all else { panic!("fields must be an object") };
    match check(&all, 1).checked {
        RuleStatus::Valid(rule) => *rule,
        other => panic!("{other:?}"),
    }
}

/// Returns a reading from its canonical fields: `timestamp` in Asia/Shanghai, receipt at the same
/// time.
pub fn reading(fields: Value) -> Reading {
    let wall = fields["timestamp"].as_str().expect("timestamp");
    let wall: DateTime = wall.parse().expect("timestamp");
    let zone = TimeZone::get("Asia/Shanghai").expect("zone");
    let instant = zone.to_ambiguous_timestamp(wall).compatible().expect("in range");
    let epoch_ms = instant.as_millisecond();
    let mut all = json!({ "epoch_ms": epoch_ms, "received_at": epoch_ms, "upload_method": "wifi" });
    merge(&mut all, fields);
    ljwx_reading::wire::decode(Some(all.to_string().as_bytes())).expect("a valid reading")
}

/// Returns a reading of one device's heart rate, `second` seconds into an hour.
pub fn heart_rate(second: u32, value: i32) -> Reading {
    reading(json!({
        "device_sn": "ABCDE25100000001", "customer_id": 7, "heart_rate": value,
        "timestamp": format!("2025-09-02 12:{:02}:{:02}", second / 60, second % 60),
    }))
}

fn merge(into: &mut Value, fields: Value) {
    let (Value::Object(into), Value::Object(fields)) = (into, fields) else {
        panic!("both must be objects")
    };
    let _: Vec<_> = fields.into_iter().map(|(name, value)| into.insert(name, value)).collect();
}

/// Returns an object in which `fields` replace fields of the same name.
pub fn merged(mut into: Value, fields: Value) -> Value {
    merge(&mut into, fields);
    into
}

/// Returns the fields of an object.
pub fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        other => panic!("{other}"),
    }
}

/// Returns a notice of an opening: a critical heart rate of 133, above the allowed 120.
pub fn notice() -> Notice {
    let wall = "2025-09-02T12:00:00".parse().expect("a time");
    Notice {
        value: Some(133.0),
        bound: Some(120.0),
        device_sn: "A1".into(),
        user: "A1".into(),
        text: "心率 133".into(),
        ..Notice::new(TransitionKind::Opened, Severity::Critical, Vital::HeartRate, wall)
    }
}

/// Returns a claimed notification of an opening that was never sent, with the notice of [`notice`].
pub fn notification() -> Notification {
    Notification {
        id: 1,
        episode_key: EpisodeKey::of_digest(7, "openid:o1", 1).as_str().into(),
        transition_seq: 2,
        transition: "opened".into(),
        recipient: "openid:o1".into(),
        user_id: None,
        customer_id: 7,
        severity: 5,
        payload: Vec::new(),
        notice: serde_json::to_string(&notice()).expect("plain fields"),
        traceparent: None,
        attempts: 0,
        resends: 0,
        lease_owner: "me".into(),
        age_ms: 0,
        uncertain_ms: None,
        members: 0,
    }
}

/// Returns the transition of an opening of which no one is notified.
pub fn transition() -> Transition {
    Transition {
        to: TransitionKind::Opened,
        severity: Severity::Major,
        eased: false,
        notify: false,
        routed: None,
        follow_up: false,
        on_watch: false,
        delayed: false,
        inhibited: false,
        goes_on: None,
        opened_at: 0,
        seq: 0,
        flapping: false,
    }
}

/// Returns an official account with the template t1 and these fields.
pub fn official_account(fields: FieldMap) -> Account {
    let kind = AccountKind::Official { template_id: "t1".into(), fields };
    Account::new("wx7".into(), "hush".to_owned().into(), kind, None)
}

/// Returns an application in WeCom that sends text.
pub fn wecom_account(agent_id: i64) -> Account {
    let kind = AccountKind::Wecom { agent_id, is_markdown: false };
    Account::new("ww7".into(), "hush".to_owned().into(), kind, None)
}
