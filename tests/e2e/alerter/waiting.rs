//! Notifications that wait: each has a way out, no other notification waits with them, and what
//! waits for its recipient's minute goes in order.
//!
//! Rows are written to the outbox directly, as in `sender`.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::fakes::wechat::{
    APP_SECRET, CORP_SECRET, Effect, Endpoint, Fault, NURSE, TEMPLATE_ID,
};
use ljwx_tests::fleet::TENANT;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;
use serde_json::{Value, json};

use super::people::reach;
use super::sender::{NEIGHBOURS, NOW_MS, add, row};
use crate::support::{SOON, alerting, delivered, evaluated, finish, measure, seeded};

/// The state and the age of a new row, and of a row older than half an hour.
const NEW: (&str, i64) = ("pending", 0);
const OLD: (&str, i64) = ("pending", 1);

/// The pause between two attempts of a test to be noticed.
const PAUSE: Duration = Duration::from_millis(500);

/// Severities in rising order, as the outbox counts them from 1.
const SEVERITIES: [&str; 5] = ["info", "minor", "moderate", "major", "critical"];

/// Begins the next minute: what was sent no longer counts, and what waits is due.
pub(super) const NEXT_MINUTE: &str = "UPDATE t_alert_outbox SET \
     finished_at = finished_at - 60000, \
     next_attempt_at = IF(state = 'pending', 0, next_attempt_at)";

/// Deadline of what may wait a minute more: a row that becomes due while the last send of the minute
/// before has not ended.
const MINUTE_AND_MORE: Duration = Duration::from_secs(100);

/// Waits until every pending notification waits for its recipient's minute. The minute begins anew,
/// because a slow machine would reach its end. It begins a second ago: to a query of the alerter that
/// has begun already, the present would be the future.
pub(super) async fn minute_is_full(world: &World) -> Result<()> {
    let begins =
        format!("UPDATE t_alert_outbox SET finished_at = {NOW_MS} - 1000 WHERE state = 'sent'");
    world.database.execute(&begins).await?;
    let others = "t_alert_outbox WHERE state = 'pending' \
                  AND NOT (last_error <=> 'recipient_limit' AND lease_until = 0)";
    eventually(SOON, "the rest waits for the next minute", || async {
        let others = world.database.count(others).await?;
        ensure!(others == 0, "{others} do not");
        Ok(Some(()))
    })
    .await
}

/// Waits until the outbox holds these devices, states and reasons, in the order of the rows.
async fn outbox(world: &World, expected: &[[&str; 3]]) -> Result<()> {
    let sql = "SELECT device_sn, state, COALESCE(last_error, '') FROM t_alert_outbox ORDER BY id";
    eventually(SOON, "every row has its state", || async {
        let found: Vec<Vec<String>> =
            world.database.rows(sql).await?.into_iter().map(texts).collect();
        ensure!(found == expected, "{found:?}");
        Ok(Some(()))
    })
    .await
}

fn texts(row: Vec<Option<String>>) -> Vec<String> {
    row.into_iter().map(Option::unwrap_or_default).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_sender_had_claimed_is_sent_after_its_lease() -> Result<()> {
    let (world, wechat) = seeded("lease").await?;
    add(&world, [row(1, (TENANT, "openid:o1"), "major", NEW)]).await?;
    let claimed =
        format!("UPDATE t_alert_outbox SET lease_owner = 'dead', lease_until = {NOW_MS} + 8000");
    world.database.execute(&claimed).await?;
    let until = world.database.number("SELECT lease_until FROM t_alert_outbox").await?;
    let alerter = world.alerter(&wechat).start().await?;
    delivered(&wechat, 1).await?;
    outbox(&world, &[["D1", "sent", ""]]).await?;
    let sent = world.database.number("SELECT finished_at FROM t_alert_outbox").await?;
    ensure!(sent >= until, "sent {} ms before the end of the lease", until - sent);
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_this_version_cannot_read_ends_after_half_an_hour_and_stops_no_other()
-> Result<()> {
    let (world, wechat) = seeded("unreadable").await?;
    let rows = [
        row(1, (TENANT, "fax:1"), "major", NEW),
        row(2, (TENANT, "fax:2"), "major", OLD),
        row(3, (TENANT, "openid:o3"), "major", NEW),
        row(4, (TENANT, "openid:o4"), "major", OLD),
        row(5, (TENANT, "openid:o5"), "major", NEW),
    ];
    add(&world, rows).await?;
    let unreadable = "UPDATE t_alert_outbox SET notice = '{}' WHERE device_sn IN ('D3', 'D4')";
    world.database.execute(unreadable).await?;
    let alerter = world.alerter(&wechat).start().await?;
    delivered(&wechat, 1).await?;
    let expected = [
        ["D1", "pending", "no_channel"],
        ["D2", "failed", "no_channel"],
        ["D3", "pending", "no_content"],
        ["D4", "dropped", "no_content"],
        ["D5", "sent", ""],
    ];
    outbox(&world, &expected).await?;
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_without_an_account_is_sent_once_there_is_one() -> Result<()> {
    let (world, wechat) = seeded("noaccount").await?;
    add(&world, [row(1, (NEIGHBOURS, "openid:o1"), "major", NEW)]).await?;
    let alerter = world.alerter(&wechat).start().await?;
    outbox(&world, &[["D1", "pending", "no_account"]]).await?;
    let account = format!(
        "INSERT INTO t_wechat_alarm_config (customer_id, type, appid, appsecret, template_id) \
         VALUES ({NEIGHBOURS}, 'official', '{}b', '{APP_SECRET}', '{TEMPLATE_ID}')",
        world.app_id()
    );
    world.database.execute(&account).await?;
    // The next attempt would be minutes away.
    outbox(&world, &[["D1", "sent", ""]]).await?;
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_address_gets_nothing_until_it_is_added_again() -> Result<()> {
    let (world, wechat) = seeded("disabled").await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    wechat.inject(Fault::on(Endpoint::Send, Effect::Errcode(43004)).times(1));
    add(&world, [row(1, (TENANT, &format!("openid:{NURSE}")), "major", NEW)]).await?;
    let disabled = "t_alert_recipient_address WHERE disabled_errcode = 43004";
    eventually(SOON, "the address is disabled", || async {
        Ok((world.database.count(disabled).await? == 1).then_some(()))
    })
    .await?;
    // Nobody else is known, so the notification would be routed again.
    world.database.execute("DELETE FROM t_alert_outbox").await?;
    let now = || jiff::Timestamp::now().as_second();
    measure(&gateway, &world.device(1), now() - 300, &[130, 131, 132]).await?;
    evaluated(&world).await?;
    let counted = alerter.metric("alerter_notifications_total", "errcode=\"refused\"").await?;
    ensure!(counted == 1.0, "{counted} alerts whose only address is disabled are counted");
    ensure!(wechat.delivered() == 0, "{:#?}", wechat.messages());

    reach(&world, TENANT, 0, "openid", NURSE).await?;
    eventually(SOON, "the next breach notifies", || async {
        measure(&gateway, &world.device(1), now(), &[133]).await?;
        pass(PAUSE).await;
        Ok((wechat.delivered() == 1).then_some(()))
    })
    .await?;
    finish(world, [gateway, alerter]).await
}

/// Writes the rows of a worked example, for one person of a tenant with an account of its own. As
/// the alerter writes them, rows have the severity of a rise behind them. The opening of an episode
/// that the example does not open was sent before.
async fn write(world: &World, tenant: i64, case: &Value) -> Result<()> {
    let account = format!(
        "INSERT INTO t_wechat_alarm_config (customer_id, type, corp_id, agent_id, secret) \
         VALUES ({tenant}, 'enterprise', 'ww{}{tenant}', '1000002', '{CORP_SECRET}')",
        world.app_id()
    );
    world.database.execute(&account).await?;
    let waiting = case["waiting"].as_array().context("no rows")?;
    let (mut rows, mut begun) = (Vec::new(), BTreeSet::new());
    for (place, one) in waiting.iter().enumerate() {
        let episode = one["episode"].as_str().context("no episode")?;
        let what = one["what"].as_str().context("no transition")?;
        let behind = waiting[place..].iter().filter(|row| row["episode"] == episode);
        let counts = behind.filter(|row| *row == one || row["what"] == "escalated");
        let number = |row: &Value| SEVERITIES.iter().position(|word| row["severity"] == *word);
        let severity = 1 + counts.filter_map(number).max().context("no severity")?;
        let mut add = |seq: i64, what: &str, state: &str, finished: &str| {
            let notice = json!({
                "transition": what, "severity": one["severity"], "flapping": false,
                "vital": "heart_rate", "device_sn": "D", "user": seq.to_string(),
                "wall": "2025-09-02T12:00:00", "text": "133",
            });
            rows.push(format!(
                "('{tenant:031}{episode}', {seq}, '{what}', 'wecom:p{tenant}', {tenant}, 'D', \
                 '{notice}', '', {severity}, '{state}', {finished}, {NOW_MS}, \
                 {NOW_MS} - 1000 + {seq})"
            ));
        };
        if begun.insert(episode) && what != "opened" {
            add(0, "opened", "sent", &format!("{NOW_MS} - 3600000"));
        }
        add(one["id"].as_i64().context("no number")?, what, "pending", "NULL");
    }
    let sql = format!(
        "INSERT INTO t_alert_outbox (episode_key, transition_seq, transition, recipient, \
         customer_id, device_sn, notice, payload, severity, state, finished_at, next_attempt_at, \
         created_at) VALUES {}",
        rows.join(", ")
    );
    world.database.execute(&sql).await
}

/// Returns the rows of a message, in the order of its lines. A row's number is its patient.
fn rows_of(message: &str) -> Vec<i64> {
    let is_digest = message.lines().next().is_some_and(|headline| headline.contains("汇总"));
    let of_line = |line: &str| line.rsplit(' ').nth(1)?.parse().ok();
    let single = || message.lines().nth(1)?.parse().ok();
    if is_digest {
        message.lines().skip(4).filter_map(of_line).collect()
    } else {
        single().into_iter().collect()
    }
}

/// Plays the worked examples of a queue with this limit.
async fn play(limit: u64, count: usize) -> Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/cases/alert2_cases.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
    let cases = all["cases"].as_array().context("no cases")?.iter();
    let cases = cases.filter(|case| case["goes"].is_array() && case["limit"] == limit);
    let cases: Vec<(i64, &Value)> = (101..).zip(cases).collect();
    ensure!(cases.len() == count, "{} examples", cases.len());
    let (world, wechat) = seeded(&format!("queue{limit}")).await?;
    for (tenant, case) in &cases {
        write(&world, *tenant, case).await?;
    }
    // With one message of an account in a second, messages arrive in the order of their sends.
    let alerter = world
        .alerter(&wechat)
        .env("RECIPIENT_MESSAGES_PER_MINUTE", limit.to_string())
        .env("ACCOUNT_MESSAGES_PER_SECOND", "1")
        .start()
        .await?;
    for minute in 0..=1 {
        for (tenant, case) in &cases {
            let goes = case["goes"].as_array().into_iter().flatten();
            let goes = goes.filter(|message| message["minute"].as_u64() <= Some(minute));
            let goes: Vec<&Value> = goes.map(|message| &message["rows"]).collect();
            let what = format!("minute {minute} of {}", case["name"]);
            eventually(MINUTE_AND_MORE, &what, || async {
                let inbox = wechat.inbox(&format!("p{tenant}"));
                let rows: Vec<_> = inbox.iter().map(|message| rows_of(&message.text())).collect();
                ensure!(json!(rows) == json!(goes), "{rows:?} came");
                Ok(Some(()))
            })
            .await?;
        }
        minute_is_full(&world).await?;
        world.database.execute(NEXT_MINUTE).await?;
    }
    for (tenant, case) in &cases {
        let all = case["waiting"].as_array().map_or(0, Vec::len);
        let goes = case["goes"].as_array().into_iter().flatten();
        let sent: usize = goes.filter_map(|message| Some(message["rows"].as_array()?.len())).sum();
        let over = format!(
            "t_alert_outbox WHERE customer_id = {tenant} AND state = 'dropped' \
             AND last_error = 'over'"
        );
        let over = world.database.count(&over).await?;
        ensure!(usize::try_from(over)? == all - sent, "{}: {over} are over", case["name"]);
    }
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_worked_example_of_a_queue_goes_as_written() -> Result<()> {
    for (limit, count) in [(20, 3), (2, 1), (1, 3)] {
        play(limit, count).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_its_minute_goes_once_its_alert_becomes_critical() -> Result<()> {
    let (world, wechat) = seeded("rise").await?;
    let rise = "UPDATE t_alert_rules SET severity_level = 'minor', \
                escalation = '[{\"after_seconds\": 60, \"to\": \"critical\"}]'";
    world.database.execute(rise).await?;
    let limited = world.alerter(&wechat).env("RECIPIENT_MESSAGES_PER_MINUTE", "1");
    let (gateway, alerter) = tokio::try_join!(world.gateway().start(), limited.start())?;
    let begun = jiff::Timestamp::now().as_second() - 120;
    for device in 1..=4 {
        measure(&gateway, &world.device(device), begun, &[130, 131, 132]).await?;
        evaluated(&world).await?;
        delivered(&wechat, 1).await?;
    }
    minute_is_full(&world).await?;
    let rises = async |device: usize, count: u64| -> Result<Vec<String>> {
        measure(&gateway, &world.device(device), begun + 90, &[133]).await?;
        delivered(&wechat, count).await?;
        Ok(wechat.inbox(NURSE).iter().map(|message| message.text()).collect())
    };
    let messages = rises(2, 3).await?;
    ensure!(messages.len() == 3 && messages[1].contains(&world.device(2)), "{messages:?}");
    ensure!(messages[2].contains(&world.device(2)) && messages[2].contains("升级"), "{messages:?}");

    // A digest that finds the minute full waits with its rows.
    let due = "UPDATE t_alert_outbox SET next_attempt_at = 0 WHERE state = 'pending'";
    world.database.execute(due).await?;
    eventually(SOON, "the other two are in a digest", || async {
        let found = world.database.count("t_alert_outbox WHERE state = 'in_digest'").await?;
        Ok((found == 2).then_some(()))
    })
    .await?;
    minute_is_full(&world).await?;
    let messages = rises(3, 5).await?;
    ensure!(messages.len() == 5 && messages[3].contains("汇总 2条"), "{messages:?}");
    let raised = "t_alert_outbox WHERE digest_id IS NOT NULL AND severity = 5";
    ensure!(world.database.count(raised).await? == 1, "the row itself is not critical");
    ensure!(messages[4].contains(&world.device(3)) && messages[4].contains("升级"), "{messages:?}");
    finish(world, [gateway, alerter]).await
}
