//! Runs the worked examples of refused recipients, broken accounts and alerts of one reading
//! through real Kafka and MySQL, up to the messages that people receive.

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::kafka;
use ljwx_tests::fakes::wechat::{CORP_SECRET, Effect, Endpoint, FakeWechat, Fault, Kind, Message};
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::{Value, json};

use super::form::{SOON, add_account, add_address, add_rule, apart, file, records, tells};
use crate::alerter::people::TABLES;
use crate::support::{evaluated, finish, world};

/// The words of the vitals in messages.
const VITALS: [(&str, &str); 2] = [("heart_rate", "心率"), ("blood_oxygen", "血氧")];

/// Returns the examples of messages to people. The one whose address is tried again after a day is
/// left out: its first readings would be a day old, and old readings are not notified.
fn cases() -> Result<Vec<Value>> {
    let mut cases = file("alert2_cases.json")?;
    cases.retain(|case| {
        let is_of = |section: &str| case["section"] == section;
        (is_of("6.5") || is_of("9.3"))
            && case["name"] != "a_refused_address_is_tried_again_after_a_day"
    });
    ensure!(cases.len() == 4, "{} examples", cases.len());
    Ok(cases)
}

/// Adds an example's people to the platform's tables, with both accounts of their tenant.
async fn add_people(world: &World, customer_id: i64, people: &Value) -> Result<()> {
    for table in TABLES {
        world.database.execute(table).await?;
    }
    world.grant().await?;
    add_account(world, customer_id).await?;
    let mut rows = vec![format!(
        "INSERT INTO t_wechat_alarm_config (customer_id, type, corp_id, agent_id, secret) \
         VALUES ({customer_id}, 'enterprise', 'ww{}', '1000002', '{CORP_SECRET}')",
        world.app_id()
    )];
    for (org, managers) in people["managers"].as_object().into_iter().flatten() {
        for manager in managers.as_array().into_iter().flatten() {
            rows.push(format!(
                "INSERT INTO sys_org_manager_cache (org_id, user_id, role_type, customer_id) \
                 VALUES ({org}, {manager}, 'manager', {customer_id})"
            ));
        }
    }
    for row in rows {
        world.database.execute(&row).await?;
    }
    for (user, addresses) in people["addresses"].as_object().into_iter().flatten() {
        for address in addresses.as_array().into_iter().flatten().filter_map(Value::as_str) {
            add_address(world, customer_id, user, address).await?;
        }
    }
    Ok(())
}

/// Makes the official account's platform answer as an event says.
fn answer(world: &World, wechat: &FakeWechat, event: &Value) -> Result<()> {
    let addresses = event["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let openids = addresses.filter_map(|address| address.strip_prefix("openid:"));
    match event["errcode"].as_i64().context("an answer without its errcode")? {
        43004 => {
            wechat.set(|settings| settings.not_following.extend(openids.map(str::to_owned)));
        }
        errcode => {
            let fault = Fault::on(Endpoint::Send, Effect::Errcode(errcode)).of(&world.app_id());
            wechat.inject(fault);
        }
    }
    Ok(())
}

/// Returns what stands alone or in a list.
fn all(value: &Value) -> &[Value] {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}

/// Returns the word of a rule's vital.
fn vital(case: &Value, rule: &Value) -> Option<&'static str> {
    let rule = case["rules"].as_array()?.iter().find(|one| one["id"] == *rule)?;
    let vital = VITALS.iter().find(|(vital, _)| rule["physical_sign"] == *vital)?;
    Some(vital.1)
}

/// Whether a message says this: to whom, the alert that leads, and how many alerts there are.
fn says(case: &Value, message: &Message, expected: &Value) -> bool {
    let (kind, event) = match message.kind {
        Kind::Official => ("openid", message.fields[1].1.clone()),
        // The level stands before the event.
        Kind::Wecom => ("wecom", message.title().split('】').next_back().unwrap_or("").to_owned()),
    };
    let (rules, whats) = (all(&expected["rule"]), all(&expected["what"]));
    let count = match whats.len() {
        1 => !event.contains('等'),
        several => event.contains(&format!("等{several}条")),
    };
    expected["to"] == format!("{kind}:{}", message.touser)
        && whats[0].as_str().is_some_and(|first| tells(&event, first))
        && vital(case, &rules[0]).is_some_and(|vital| event.contains(vital))
        && count
}

/// Sends the readings one by one, and checks the messages, the rows and the status of the alerts.
async fn run(place: usize, case: &Value) -> Result<()> {
    let world = world(&format!("messages{place}")).await?;
    let wechat = FakeWechat::start().await?;
    add_people(&world, apart(0, &json!(7)), &case["people"]).await?;
    for rule in case["rules"].as_array().into_iter().flatten() {
        add_rule(&world, 0, rule.as_object().context("a rule")?).await?;
    }
    // Every event stands before the first reading.
    for event in case["events"].as_array().into_iter().flatten() {
        answer(&world, &wechat, event)?;
    }
    let alerter = world.alerter(&wechat).start().await?;
    let expected = case["told"].as_array().context("no messages")?;
    let mut count = 0;
    for (place, record) in records(&world, 0, case)?.into_iter().enumerate() {
        kafka::fill(&world.stack.kafka_brokers, &world.readings_topic, &[record]).await?;
        let at = &case["readings"][place]["timestamp"];
        count += expected.iter().filter(|one| one["at"] == *at).count();
        eventually(SOON, &format!("{count} messages"), || async {
            Ok((wechat.delivered() >= count as u64).then_some(()))
        })
        .await?;
    }
    evaluated(&world).await?;
    let messages = wechat.messages();
    let alike = messages.len() == expected.len()
        && messages.iter().zip(expected).all(|(message, one)| says(case, message, one));
    ensure!(alike, "{}: {messages:#?}", case["name"]);
    let alerts = expected.iter().map(|one| all(&one["what"]).len()).sum::<usize>() as i64;
    eventually(SOON, "every row of the outbox is sent", || async {
        let sent = world.database.count("t_alert_outbox WHERE state = 'sent'").await?;
        ensure!(sent == alerts, "{sent} rows, not {alerts}");
        Ok(Some(()))
    })
    .await?;
    for (rule, expected) in case["status"].as_object().into_iter().flatten() {
        let rule = apart(0, &json!(rule.parse::<i64>()?));
        let sql = format!("SELECT alert_status FROM t_alert_info WHERE rule_id = {rule}");
        let status = world.database.row(&sql).await?.remove(0);
        ensure!(status.as_deref() == expected.as_str(), "{}: {status:?}", case["name"]);
    }
    for event in case["operators"].as_array().into_iter().flatten() {
        let event = event["event"].as_str().context("an event of operators")?;
        eventually(SOON, &format!("operators hear of {event}"), || async {
            Ok(alerter.output().contains(event).then_some(()))
        })
        .await?;
    }
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn people_receive_the_messages_of_refusals_broken_accounts_and_alerts_of_one_reading()
-> Result<()> {
    for (place, case) in cases()?.iter().enumerate() {
        run(place, case).await?;
    }
    Ok(())
}
