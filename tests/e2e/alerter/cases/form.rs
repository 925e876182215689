//! The form of worked examples, and their rules, readings and messages on the real servers.

use std::time::Duration;

use anyhow::{Context, Result};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::fakes::wechat::{APP_SECRET, TEMPLATE_ID};
use ljwx_tests::stack::world::World;
use serde_json::{Map, Value, json};

/// The longest that a set of examples may take.
pub(super) const SOON: Duration = Duration::from_secs(60);

/// The day of the examples' first readings, in seconds since 1970.
const WRITTEN: i64 = 1_756_742_400;

/// The distance between an example's numbers of tenants, rules and devices and the next example's.
const STRIDE: i64 = 1000;

/// Returns the examples of a file of `tests/cases`.
pub(super) fn file(name: &str) -> Result<Vec<Value>> {
    let path = format!("{}/cases/{name}", env!("CARGO_MANIFEST_DIR"));
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    Ok(all["cases"].as_array().context("no cases")?.clone())
}

/// Shifts a number of an example, so that no other example has it. 0, the template tenant, stays 0.
pub(super) fn apart(place: usize, number: &Value) -> i64 {
    let number = number.as_i64().unwrap_or_default();
    if number == 0 { 0 } else { (place as i64 + 1) * STRIDE + number }
}

pub(super) async fn add_rule(world: &World, place: usize, rule: &Map<String, Value>) -> Result<()> {
    let mut rule = rule.clone();
    rule["id"] = json!(apart(place, &rule["id"]));
    rule["customer_id"] = json!(apart(place, &rule["customer_id"]));
    rule.insert("notification_type".into(), json!("wechat"));
    let names: Vec<&str> = rule.keys().map(String::as_str).collect();
    let values = rule.values().map(literal).collect::<Vec<_>>().join(", ");
    let sql = format!("INSERT INTO t_alert_rules ({}) VALUES ({values})", names.join(", "));
    world.database.execute(&sql).await
}

/// Returns a value of an example as SQL. No value holds a quote.
fn literal(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::String(text) => format!("'{text}'"),
        Value::Number(number) => number.to_string(),
        document => format!("'{document}'"),
    }
}

/// Gives a tenant an official account.
pub(super) async fn add_account(world: &World, customer_id: i64) -> Result<()> {
    let account = world.app_id();
    let sql = format!(
        "INSERT INTO t_wechat_alarm_config (customer_id, type, appid, appsecret, template_id) \
         VALUES ({customer_id}, 'official', '{account}', '{APP_SECRET}', '{TEMPLATE_ID}')"
    );
    world.database.execute(&sql).await
}

/// Adds an address of a user, in the form `kind:name`.
pub(super) async fn add_address(
    world: &World,
    customer_id: i64,
    user: &str,
    address: &str,
) -> Result<()> {
    let (kind, name) = address.split_once(':').context("an address without its kind")?;
    let sql = format!(
        "INSERT INTO t_alert_recipient_address (customer_id, user_id, kind, address) \
         VALUES ({customer_id}, {user}, '{kind}', '{name}')"
    );
    world.database.execute(&sql).await
}

/// A week, in seconds.
const WEEK: i64 = 7 * 86_400;

/// Returns an example's readings as the gateway would have published them, whole weeks later: a
/// reading of the past would be late, and the rules' hours and days must still hold.
pub(super) fn records(world: &World, place: usize, case: &Value) -> Result<Vec<(String, Vec<u8>)>> {
    let zone = TimeZone::get("Asia/Shanghai")?;
    let now = jiff::Timestamp::now().as_second();
    let readings = case["readings"].as_array().into_iter().flatten();
    readings
        .map(|reading| {
            let mut reading = reading.clone();
            let wall: DateTime = reading["timestamp"].as_str().context("timestamp")?.parse()?;
            let written = zone.to_timestamp(wall)?.as_second();
            let epoch = written + (now - WRITTEN).div_euclid(WEEK) * WEEK + WEEK;
            let epoch_ms = epoch * 1000;
            reading["timestamp"] = json!(wall_time(epoch));
            let device = world.device(place);
            reading["device_sn"] = json!(device);
            reading["customer_id"] = json!(apart(place, &reading["customer_id"]));
            for (id, part) in [("user_id", "wearer"), ("org_id", "org")] {
                if let Some(known) = case["people"].get(part) {
                    reading[id] = known.clone();
                }
            }
            reading["epoch_ms"] = json!(epoch_ms);
            reading["received_at"] = json!(epoch_ms);
            reading["upload_method"] = json!("wifi");
            Ok((device, reading.to_string().into_bytes()))
        })
        .collect()
}

/// Words that begin the event in a message, by transition. An opening has no word of its own: it
/// begins with the vital, or says that it is one of several. An end is a relief if a less severe
/// rule of the vital still fires.
const STATES: [(&str, &[&str]); 3] =
    [("notified", &["持续"]), ("escalated", &["升级", "缓解"]), ("resolved", &["已恢复", "缓解"])];

/// Whether an event belongs to this transition and to no other.
pub(super) fn tells(event: &str, to: &str) -> bool {
    let begins = |states: &[&str]| states.iter().any(|state| event.starts_with(state));
    match STATES.iter().find(|(one, _)| *one == to) {
        Some((_, states)) => begins(states),
        None => to == "opened" && !STATES.iter().any(|(_, states)| begins(states)),
    }
}
