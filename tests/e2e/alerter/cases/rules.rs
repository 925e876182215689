//! Runs the worked examples of rules through real Kafka and MySQL, up to the messages that people
//! receive.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::kafka;
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::{Value, json};

use super::form::{SOON, add_account, add_address, add_rule, apart, file, records, tells};
use crate::support::{finish, world};

/// Returns the examples with or without rules of the template tenant: those rules would affect
/// other examples.
fn cases(template: bool) -> Result<Vec<Value>> {
    let all = file("alert_cases.json")?;
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
    let transition = |to: &str, notify: bool| json!({"to": to, "notify": notify});
    vec![
        json!({
            "name": "a_value_far_from_the_usual",
            "rules": rule(json!({"threshold_max": null, "deviation_percentage": 20})),
            "readings": readings(&[80, 80, 80, 80, 80, 80, 80, 80, 80, 80, 97, 81], 10),
            "transitions": [transition("opened", true), transition("resolved", true)],
        }),
        json!({
            "name": "flapping_is_notified_once_and_then_no_more",
            "rules": rule(json!({"flap_openings": 3})),
            "readings": readings(&[110, 90, 110, 90, 110, 90, 110, 90], 10),
            "transitions": [
                transition("opened", true), transition("resolved", true),
                transition("opened", true), transition("resolved", true),
                transition("opened", true), transition("resolved", false),
                transition("opened", false), transition("resolved", false),
            ],
        }),
        json!({
            "name": "what_lasts_becomes_worse_and_then_less_urgent",
            "rules": rule(json!({"escalation": [
                {"after_seconds": 60, "to": "critical"}, {"after_seconds": 180, "to": "minor"},
            ]})),
            "readings": readings(&[110, 110, 110, 110, 110, 90], 60),
            "transitions": [
                transition("opened", true), transition("escalated", true),
                transition("escalated", true), transition("resolved", true),
            ],
        }),
    ]
}

/// Returns the nurse of a tenant. Each nurse receives only alerts of her own tenant.
fn nurse(customer_id: i64) -> String {
    format!("openid-nurse-{customer_id}")
}

async fn add_tenant(world: &World, customer_id: i64) -> Result<()> {
    add_account(world, customer_id).await?;
    add_address(world, customer_id, "0", &format!("openid:{}", nurse(customer_id))).await
}

/// Returns the transitions of an example that lead a message. What one reading makes of a device is
/// one message, and the transitions of a reading stand in order of their severity.
fn leading(case: &Value) -> Vec<&str> {
    let mut leading: Vec<&Value> = Vec::new();
    let transitions = case["transitions"].as_array().into_iter().flatten();
    for transition in transitions.filter(|transition| transition["notify"] == true) {
        let reading = &transition["reading"];
        if reading.is_null() || leading.last().is_none_or(|last| last["reading"] != *reading) {
            leading.push(transition);
        }
    }
    leading.iter().filter_map(|transition| transition["to"].as_str()).collect()
}

/// Whether there is one event for each transition. Messages about several episodes may overtake each
/// other: all readings of an example arrive at once.
fn matches(mut events: Vec<String>, transitions: &[&str]) -> bool {
    let found = transitions.iter().all(|to| {
        let place = events.iter().position(|event| tells(event, to));
        place.map(|place| events.remove(place)).is_some()
    });
    found && events.is_empty()
}

async fn check(world: &World, wechat: &FakeWechat, cases: &[Value]) -> Result<()> {
    let mut leading_texts: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
    let mut opened: BTreeMap<String, i64> = BTreeMap::new();
    for (place, case) in cases.iter().enumerate() {
        let tenant = apart(place, &json!(7));
        leading_texts.insert(tenant, leading(case));
        for transition in case["transitions"].as_array().into_iter().flatten() {
            let is_opening = transition["to"] == "opened";
            *opened.entry(world.device(place)).or_default() += i64::from(is_opening);
        }
    }
    let count = leading_texts.values().map(Vec::len).sum::<usize>();
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
        let expected = leading_texts.remove(&tenant).unwrap_or_default();
        let is_as_written = matches(received.clone(), &expected);
        ensure!(is_as_written, "{}: {received:?}, not {expected:?}", case["name"]);
        let device = world.device(place);
        let sql = format!("SELECT COUNT(*) FROM t_alert_info WHERE device_sn = '{device}'");
        let rows = world.database.number(&sql).await?;
        let expected = opened.remove(&device).unwrap_or_default();
        ensure!(rows == expected, "{}: {rows} alerts, not {expected}", case["name"]);
    }
    Ok(())
}

async fn run(name: &str, cases: &[Value]) -> Result<()> {
    let world = world(name).await?;
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
    finish(world, [alerter]).await
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
