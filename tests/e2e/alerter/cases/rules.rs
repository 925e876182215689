//! Runs the worked examples of rules through real Kafka and MySQL, up to the messages that people
//! receive.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::clients::kafka;
use ljwx_tests::fakes::wechat::{APP_SECRET, FakeWechat, TEMPLATE_ID};
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::{Map, Value, json};

/// The longest that a set of examples may take.
const SOON: Duration = Duration::from_secs(60);

/// The day of the examples' first readings, in seconds since 1970.
const WRITTEN: i64 = 1_756_742_400;

/// The distance between an example's numbers of tenants, rules and devices and the next example's.
const STRIDE: i64 = 1000;

/// Returns the examples with or without rules of the template tenant: those rules would affect
/// other examples.
fn cases(template: bool) -> Result<Vec<Value>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/cases/alert_cases.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let all = all["cases"].as_array().context("no cases")?.clone();
    ensure!(all.len() == 30, "{} examples", all.len());
    let of_template = |case: &Value| {
        let rules = case["rules"].as_array().into_iter().flatten();
        rules.into_iter().any(|rule| rule["customer_id"] == 0)
    };
    Ok(all.into_iter().filter(|case| of_template(case) == template).collect())
}

/// Cases that the worked examples leave out, in the same form.
fn further_cases() -> Vec<Value> {
    let rule = |fields: Value| {
        let mut rule = json!({"id": 1, "customer_id": 7, "rule_type": "further",
            "physical_sign": "heart_rate", "threshold_max": 100, "cooldown_seconds": 0,
            "severity_level": "major"});
        for (name, value) in fields.as_object().into_iter().flatten() {
            rule[name] = value.clone();
        }
        json!([rule])
    };
    let readings = |rates: &[i32], step: i64| {
        let reading = |(place, rate): (usize, &i32)| {
            let second = place as i64 * step;
            json!({"customer_id": 7, "heart_rate": rate,
                "timestamp": format!("2025-09-02 12:{:02}:{:02}", second / 60, second % 60)})
        };
        rates.iter().enumerate().map(reading).collect::<Vec<_>>()
    };
    let told = |to: &str, notify: bool| json!({"to": to, "notify": notify});
    vec![
        json!({
            "name": "a_value_far_from_the_usual",
            "rules": rule(json!({"threshold_max": null, "deviation_percentage": 20})),
            "readings": readings(&[80, 80, 80, 80, 80, 80, 80, 80, 80, 80, 97, 81], 10),
            "transitions": [told("opened", true), told("resolved", true)],
        }),
        json!({
            "name": "flapping_is_told_once_and_then_no_more",
            "rules": rule(json!({"flap_openings": 3})),
            "readings": readings(&[110, 90, 110, 90, 110, 90, 110, 90], 10),
            "transitions": [
                told("opened", true), told("resolved", true), told("opened", true),
                told("resolved", true), told("opened", true), told("resolved", false),
                told("opened", false), told("resolved", false),
            ],
        }),
        json!({
            "name": "what_lasts_becomes_worse_and_then_less_urgent",
            "rules": rule(json!({"escalation": [
                {"after_seconds": 60, "to": "critical"}, {"after_seconds": 180, "to": "minor"},
            ]})),
            "readings": readings(&[110, 110, 110, 110, 110, 90], 60),
            "transitions": [
                told("opened", true), told("escalated", true), told("escalated", true),
                told("resolved", true),
            ],
        }),
    ]
}

/// Shifts a number of an example, so that no other example has it. 0, the template tenant, stays 0.
fn apart(place: usize, number: &Value) -> i64 {
    let number = number.as_i64().unwrap_or_default();
    if number == 0 { 0 } else { (place as i64 + 1) * STRIDE + number }
}

async fn add_rule(world: &World, place: usize, rule: &Map<String, Value>) -> Result<()> {
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

/// Returns the nurse of a tenant. Each nurse receives only alerts of her own tenant.
fn nurse(customer_id: i64) -> String {
    format!("openid-nurse-{customer_id}")
}

async fn add_tenant(world: &World, customer_id: i64) -> Result<()> {
    let account = world.app_id();
    let nurse = nurse(customer_id);
    for sql in [
        format!(
            "INSERT INTO t_wechat_alarm_config (customer_id, type, appid, appsecret, template_id) \
             VALUES ({customer_id}, 'official', '{account}', '{APP_SECRET}', '{TEMPLATE_ID}')"
        ),
        format!(
            "INSERT INTO t_alert_recipient_address (customer_id, user_id, kind, address) \
             VALUES ({customer_id}, 0, 'openid', '{nurse}')"
        ),
    ] {
        world.database.execute(&sql).await?;
    }
    Ok(())
}

/// A week, in seconds.
const WEEK: i64 = 7 * 86_400;

/// Returns an example's readings as the gateway would have published them, whole weeks later: a
/// reading of the past would be late, and the rules' hours and days must still hold.
fn records(world: &World, place: usize, case: &Value) -> Result<Vec<(String, Vec<u8>)>> {
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
            reading["epoch_ms"] = json!(epoch_ms);
            reading["received_at"] = json!(epoch_ms);
            reading["upload_method"] = json!("wifi");
            Ok((device, reading.to_string().into_bytes()))
        })
        .collect()
}

/// Words that begin the event in a message, by transition. An opening has no word of its own: it
/// begins with the vital, or says that it is one of several.
const STATES: [(&str, &[&str]); 3] =
    [("notified", &["持续"]), ("escalated", &["升级", "缓解"]), ("resolved", &["已恢复"])];

/// Whether an event belongs to this transition and to no other.
fn tells(event: &str, to: &str) -> bool {
    let begins = |states: &[&str]| states.iter().any(|state| event.starts_with(state));
    match STATES.iter().find(|(one, _)| *one == to) {
        Some((_, states)) => begins(states),
        None => to == "opened" && !STATES.iter().any(|(_, states)| begins(states)),
    }
}

async fn check(world: &World, wechat: &FakeWechat, cases: &[Value]) -> Result<()> {
    let mut told: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
    let mut opened: BTreeMap<String, i64> = BTreeMap::new();
    for (place, case) in cases.iter().enumerate() {
        let tenant = apart(place, &json!(7));
        for transition in case["transitions"].as_array().into_iter().flatten() {
            let to = transition["to"].as_str().unwrap_or_default();
            *opened.entry(world.device(place)).or_default() += i64::from(to == "opened");
            if transition["notify"] == true {
                told.entry(tenant).or_default().push(to);
            }
        }
    }
    let count = told.values().map(Vec::len).sum::<usize>();
    eventually(SOON, &format!("{count} messages"), || async {
        ensure!(wechat.delivered() >= count as u64, "{} came", wechat.delivered());
        Ok((world.alerter_lag().await? == 0).then_some(()))
    })
    .await?;
    let messages = wechat.messages();
    ensure!(messages.len() == count, "{} messages, not {count}", messages.len());
    for (place, case) in cases.iter().enumerate() {
        let tenant = apart(place, &json!(7));
        let received = messages.iter().filter(|message| message.touser == nurse(tenant));
        let received: Vec<_> = received.map(|message| message.fields[1].1.clone()).collect();
        let expected = told.remove(&tenant).unwrap_or_default();
        let alike = received.len() == expected.len()
            && received.iter().zip(&expected).all(|(event, to)| tells(event, to));
        ensure!(alike, "{}: {received:?}, not {expected:?}", case["name"]);
        let device = world.device(place);
        let sql = format!("SELECT COUNT(*) FROM t_alert_info WHERE device_sn = '{device}'");
        let rows = world.database.number(&sql).await?;
        let expected = opened.remove(&device).unwrap_or_default();
        ensure!(rows == expected, "{}: {rows} alerts, not {expected}", case["name"]);
    }
    Ok(())
}

async fn run(name: &str, cases: &[Value]) -> Result<()> {
    let world = World::shared(name).await?;
    world.migrate().await?;
    let wechat = FakeWechat::start().await?;
    let mut all = Vec::new();
    for (place, case) in cases.iter().enumerate() {
        add_tenant(&world, apart(place, &json!(7))).await?;
        for rule in case["rules"].as_array().into_iter().flatten() {
            add_rule(&world, place, rule.as_object().context("a rule")?).await?;
        }
        all.extend(records(&world, place, case)?);
    }
    let alerter = world.alerter(&wechat).start().await?;
    kafka::fill(&world.stack.kafka_brokers, &world.readings_topic, &all).await?;
    check(&world, &wechat, cases).await?;
    alerter.terminate().await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn people_receive_what_the_worked_examples_say() -> Result<()> {
    run("examples", &cases(false)?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn people_receive_what_deviation_flapping_and_de_escalation_ask_for() -> Result<()> {
    run("further", &further_cases()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn people_receive_what_the_examples_of_template_rules_say() -> Result<()> {
    for (place, case) in cases(true)?.into_iter().enumerate() {
        run(&format!("template{place}"), &[case]).await?;
    }
    Ok(())
}
