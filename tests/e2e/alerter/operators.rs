//! Operators and their outside monitor hear whether an alert would reach people. Operators can try a
//! message and check an account before an alert needs them, and change notifications by hand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use axum::Router;
use axum::routing::get;
use ljwx_tests::fakes::http_server::Server;
use ljwx_tests::fakes::platform::{self, BLOOD_OXYGEN_LOW};
use ljwx_tests::fakes::webhook::{Post, Webhook};
use ljwx_tests::fakes::wechat::{
    APP_SECRET, CORP_SECRET, Effect, Endpoint, FakeWechat, Fault, TEMPLATE_ID, TOKEN_PREFIX,
};
use ljwx_tests::fleet::TENANT;
use ljwx_tests::stack::launch::Finished;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;
use serde_json::json;

use super::people::reach;
use super::sender;
use super::templates::{FIELDS, NEW_TEMPLATE, ensure_shown};
use crate::support::{
    alerting, delivered, finish, now, operators_get, report, seeded, send, world,
};

/// The longest that a step may take.
const SOON: Duration = Duration::from_secs(60);

/// The longest wait for a heartbeat, which comes once a minute.
const MINUTES: Duration = Duration::from_secs(150);

/// Long enough for an unwanted event to arrive.
const WHILE: Duration = Duration::from_secs(6);

/// The part of the outside monitor's address that nobody may see.
const SECRET: &str = "hush-of-the-monitor";

/// Returns the events about readings, oldest first.
fn about_readings(hook: &Webhook) -> Vec<Post> {
    let is_about = |post: &Post| {
        post.json["event"].as_str().is_some_and(|event| event.starts_with("readings_"))
    };
    hook.posts().into_iter().filter(is_about).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_that_stop_are_one_event_however_many_replicas_there_are() -> Result<()> {
    let world = world("stopped").await?;
    platform::seed(&world, &[BLOOD_OXYGEN_LOW]).await?;
    let (hook, wechat) = (Webhook::start("hush").await?, FakeWechat::start().await?);
    let alerter = || {
        world
            .alerter(&wechat)
            .env("OPERATORS_WEBHOOK_URL", hook.url())
            .env("OPERATORS_WEBHOOK_SECRET", "hush")
            .env("NO_READINGS_AFTER", "3s")
            .start()
    };
    let (gateway, one, two) = tokio::try_join!(world.gateway().start(), alerter(), alerter())?;
    eventually(SOON, "both replicas own partitions", || async {
        let one = one.metric("consumer_partitions_owned", "").await?;
        let two = two.metric("consumer_partitions_owned", "").await?;
        Ok((one >= 1.0 && two >= 1.0).then_some(()))
    })
    .await?;

    let begun = now();
    send(&gateway, &world.device(1), "2025-09-02 16:10", &[70]).await?;
    let stopped = eventually(SOON, "operators hear that readings have stopped", || async {
        Ok(about_readings(&hook).into_iter().next())
    })
    .await?;
    ensure!(stopped.signed.is_ok(), "{stopped:?}");
    ensure!(stopped.json["event"] == "readings_stopped", "{}", stopped.json);
    ensure!(stopped.json["count"] == 1 && stopped.json.get("customer_id").is_none());
    let since: jiff::Timestamp = stopped.json["since"].as_str().unwrap_or_default().parse()?;
    ensure!(since.as_second() >= begun + 3, "{since} is not 3 s after the last reading");
    pass(WHILE).await;
    ensure!(about_readings(&hook).len() == 1, "{:#?}", about_readings(&hook));

    send(&gateway, &world.device(1), "2025-09-02 16:11", &[70]).await?;
    let resumed = eventually(SOON, "operators hear that readings arrive again", || async {
        Ok(about_readings(&hook).into_iter().nth(1))
    })
    .await?;
    ensure!(resumed.json["event"] == "readings_resumed", "{}", resumed.json);
    ensure!(resumed.json["count"] == 0 && resumed.json["since"] == stopped.json["since"]);
    for replica in [&one, &two] {
        let last = replica.metric("alerter_last_record_timestamp_seconds", "").await?;
        ensure!(last >= begun as f64, "{} has seen {last}", replica.name());
    }
    finish(world, [gateway, one, two]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_wait_for_a_critical_notification_and_their_address_stays_secret() -> Result<()>
{
    let world = world("beats").await?;
    platform::seed(&world, &[BLOOD_OXYGEN_LOW]).await?;
    let beats = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&beats);
    let beat = move || {
        counted.fetch_add(1, Ordering::Relaxed);
        std::future::ready("heard")
    };
    let router = Router::new().route(&format!("/ping/{SECRET}"), get(beat));
    let monitor = Server::start(SocketAddr::from(([127, 0, 0, 1], 0)), router).await?;
    let wechat = FakeWechat::start().await?;
    let busy = wechat.inject(Fault::on(Endpoint::Send, Effect::Errcode(-1)));
    let (gateway, before) = alerting(&world, &wechat).await?;
    report(&gateway, &world.device(1), now() - 10, json!({"blood_oxygen": 85})).await?;
    let waiting = "SELECT COUNT(*) FROM t_alert_outbox WHERE state = 'pending'";
    eventually(SOON, "a critical notification waits", || async {
        Ok((world.database.number(waiting).await? == 1).then_some(()))
    })
    .await?;
    before.terminate().await?;
    let age = "UPDATE t_alert_outbox SET created_at = created_at - 180000";
    world.database.execute(age).await?;

    let url = format!("{}/ping/{SECRET}", monitor.url());
    let alerter = world.alerter(&wechat).env("HEARTBEAT_URL", url).start().await?;
    eventually(SOON, "a heartbeat is skipped, because the notification waits", || async {
        Ok(alerter.output().contains("a critical notification is not sent").then_some(()))
    })
    .await?;
    ensure!(beats.load(Ordering::Relaxed) == 0, "a heartbeat although nobody was notified");

    busy.end();
    eventually(MINUTES, "a heartbeat once the notification is sent", || async {
        let due = "UPDATE t_alert_outbox SET next_attempt_at = 0 WHERE state = 'pending'";
        world.database.execute(due).await?;
        Ok((beats.load(Ordering::Relaxed) >= 1).then_some(()))
    })
    .await?;
    ensure!(wechat.delivered() == 1, "{} messages", wechat.delivered());
    eventually(SOON, "the heartbeat is counted", || async {
        let sent = alerter.metric("alerter_heartbeats_total", "outcome=\"sent\"").await?;
        Ok((sent >= 1.0).then_some(()))
    })
    .await?;
    ensure!(!alerter.output().contains(SECRET), "the address in the log");
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_stands_still_is_late_until_it_sends_again() -> Result<()> {
    let (world, wechat) = seeded("latesender").await?;
    sender::add(&world, [sender::row(1, (TENANT, "openid:o1"), "major", ("pending", 0))]).await?;
    let due = "UPDATE t_alert_outbox SET next_attempt_at = next_attempt_at - 150000";
    world.database.execute(due).await?;
    // The sender waits for the row.
    let lock = world.database.lock("t_alert_outbox").await?;
    let alerter = world.alerter(&wechat).start().await?;
    operators_get(&alerter, "sender_late", SOON).await?;
    ensure!(wechat.sends() == 0, "the sender did not stand still");
    lock.release().await?;
    delivered(&wechat, 1).await?;
    operators_get(&alerter, "on_time", SOON).await?;
    finish(world, [alerter]).await
}

/// Runs a command of the alerter, which must print no secret.
async fn command(world: &World, wechat: &FakeWechat, arguments: &[&str]) -> Result<Finished> {
    let launch = world.launch("alerter", arguments);
    let launch = launch.env("WECHAT_API_URL", wechat.url()).env("WECOM_API_URL", wechat.url());
    let done = launch.finish().await?;
    for secret in [APP_SECRET, CORP_SECRET, TOKEN_PREFIX] {
        ensure!(!done.text.contains(secret), "a secret: {}", done.text);
    }
    Ok(done)
}

/// Sends a test message by the tenant's account, and ensures the exit code. Returns the output.
async fn send_test(world: &World, wechat: &FakeWechat, rest: &str, code: i32) -> Result<String> {
    let tenant = TENANT.to_string();
    let mut arguments = vec!["send-test", "--customer-id", tenant.as_str()];
    arguments.extend(rest.split(' '));
    let done = command(world, wechat, &arguments).await?;
    ensure!(done.code == Some(code), "{rest}: {:?}: {}", done.code, done.text);
    Ok(done.text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_message_arrives_marked_leaves_no_row_and_an_answer_is_shown() -> Result<()> {
    let (world, wechat) = seeded("sendtest").await?;
    reach(&world, TENANT, 5, "openid", "o5").await?;
    wechat.set(|settings| settings.not_following = ["gone".to_owned()].into());

    let shown = send_test(&world, &wechat, "--user-id 5 --dry-run", 0).await?;
    ensure!(shown.contains("11 characters  测试 心率过高 151"), "{shown}");
    ensure!((wechat.sends(), wechat.token_requests()) == (0, 0), "a dry run calls the platform");
    for what in ["opened", "resolved", "digest"] {
        send_test(&world, &wechat, &format!("--user-id 5 --severity major --what {what}"), 0)
            .await?;
    }
    let inbox = wechat.inbox("o5");
    let events: Vec<_> = inbox.iter().filter_map(|message| message.field("keyword2")).collect();
    ensure!(events == ["测试 心率过高 151", "测试 已恢复 心率 88", "测试 汇总 2条"], "{inbox:?}");
    ensure_shown(&inbox[0], [("keyword1", "测试"), ("keyword3", "高级"), ("keyword2", events[0])])?;

    let refused = send_test(&world, &wechat, "--kind openid --address gone", 1).await?;
    let says = ["not sent: errcode 43004", "require subscribe"];
    ensure!(says.iter().all(|part| refused.contains(*part)), "{refused}");
    send_test(&world, &wechat, "--kind wecom --address nurse", 1).await?;
    send_test(&world, &wechat, "--user-id 6", 1).await?;
    send_test(&world, &wechat, "--user-id 5 --kind openid --address o5", 2).await?;
    let disabled = "t_alert_recipient_address WHERE disabled_at IS NOT NULL";
    for table in ["t_alert_outbox", "t_alert_info", "t_alert_action_log", disabled] {
        ensure!(world.database.count(table).await? == 0, "a row in {table}");
    }

    let disable = "UPDATE t_alert_recipient_address SET disabled_at = NOW(), \
                   disabled_errcode = 43004 WHERE address = 'o5'";
    world.database.execute(disable).await?;
    let shown = send_test(&world, &wechat, "--user-id 5", 0).await?;
    ensure!(shown.contains("disabled until 2") && wechat.inbox("o5").len() == 4, "{shown}");
    wechat.down();
    let unreachable = send_test(&world, &wechat, "--user-id 5", 1).await?;
    ensure!(unreachable.contains("look at the network"), "{unreachable}");
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_the_accounts_names_what_is_wrong_with_each_and_wakes_nobody() -> Result<()> {
    let (world, wechat) = seeded("checkaccounts").await?;
    let tenant = TENANT.to_string();
    let own = command(&world, &wechat, &["accounts", "check", "--customer-id", &tenant]).await?;
    let app = world.app_id();
    let expected = format!("tenant {TENANT}, official:{app}: ok");
    ensure!(own.code == Some(0) && own.text.trim() == expected, "{:?} {}", own.code, own.text);

    let fields = FIELDS.map(str::to_owned).to_vec();
    wechat.set(|settings| drop(settings.templates.insert(NEW_TEMPLATE.to_owned(), fields)));
    let map =
        r#"{"thing1": "patient", "const2": "=", "character_string3": "value", "thing9": "org"}"#;
    let bad = r#"{"thing1": "name"}"#;
    let official = |tenant: i64, secret: &str, template: &str, map: &str| {
        format!("({tenant}, 'official', '{app}{tenant}', '{secret}', '{template}', {map})")
    };
    let rows = [
        official(70, "wrong-secret", TEMPLATE_ID, "NULL"),
        official(71, APP_SECRET, "template-gone", "NULL"),
        official(72, APP_SECRET, NEW_TEMPLATE, &format!("'{map}'")),
        official(73, APP_SECRET, NEW_TEMPLATE, &format!("'{bad}'")),
    ];
    let sql = "INSERT INTO t_wechat_alarm_config \
               (customer_id, type, appid, appsecret, template_id, template_fields) VALUES";
    world.database.execute(&format!("{sql} {}", rows.join(", "))).await?;
    let wecom = format!(
        "INSERT INTO t_wechat_alarm_config (customer_id, type, corp_id, agent_id, secret) \
         VALUES (74, 'enterprise', 'ww{app}', '5', '{CORP_SECRET}')"
    );
    world.database.execute(&wecom).await?;
    let all = command(&world, &wechat, &["accounts", "check"]).await?;
    ensure!(all.code == Some(1) && !all.text.contains("wrong-secret"), "{}", all.text);
    for (tenant, parts) in [
        (TENANT, &[": ok"][..]),
        (70, &["errcode 40125", "correct appsecret"]),
        (71, &["no template template-gone: correct template_id"]),
        (72, &["lacks the template's field time4", "the template lacks the field thing9"]),
        (73, &["template_fields: thing1: unknown variant"]),
        (74, &[": ok"]),
    ] {
        let of_tenant = |line: &&str| {
            [":", ","].iter().any(|end| line.starts_with(&format!("tenant {tenant}{end}")))
        };
        let lines: Vec<_> = all.text.lines().filter(of_tenant).collect();
        ensure!(lines.len() == 1, "tenant {tenant}: {}", all.text);
        ensure!(parts.iter().all(|part| lines[0].contains(*part)), "{parts:?}: {}", lines[0]);
    }
    ensure!(wechat.sends() == 0, "a check sends a message");
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_skips_what_comes_too_late_and_a_drop_needs_no_log() -> Result<()> {
    let (world, wechat) = seeded("toolate").await?;
    let failed = |number: usize| sender::row(number, (TENANT, "openid:o1"), "major", ("failed", 0));
    sender::add(&world, (1..=4).map(failed)).await?;
    // Two alerts are over, and the second of them is to be notified of its end. A later message about
    // the third was sent.
    for statement in [
        "INSERT INTO t_alert_info (rule_id, alert_type, device_sn, alert_status, dedup_key, \
         occur_at) SELECT 7, 'KIND', device_sn, IF(device_sn IN ('D1', 'D4'), 'RESOLVED', \
         'NOTIFIED'), episode_key, NOW() FROM t_alert_outbox",
        "UPDATE t_alert_outbox SET transition = 'resolved' WHERE device_sn = 'D4'",
        "INSERT INTO t_alert_outbox (episode_key, transition_seq, transition, recipient, \
         customer_id, notice, payload, state, next_attempt_at, created_at) SELECT episode_key, 2, \
         'escalated', recipient, customer_id, notice, '', 'sent', next_attempt_at, created_at \
         FROM t_alert_outbox AS earlier WHERE device_sn = 'D3'",
        "ALTER TABLE t_alert_action_log ADD CONSTRAINT refused \
         CHECK (action <> 'drop_notification')",
    ] {
        world.database.execute(statement).await?;
    }
    let outbox = async |arguments: &[&str]| -> Result<String> {
        let done = command(&world, &wechat, &[&["outbox"][..], arguments].concat()).await?;
        ensure!(done.code == Some(0), "{arguments:?}: {}", done.text);
        Ok(done.text)
    };
    let said = outbox(&["retry", "--state", "failed"]).await?;
    ensure!(said.contains("2 notification(s) made due, 2 skipped"), "{said}");
    let due = "t_alert_outbox WHERE state = 'pending' AND device_sn IN ('D2', 'D4')";
    ensure!(world.database.count(due).await? == 2, "others are due");
    let said = outbox(&["drop", "--state", "pending", "--reason", "known"]).await?;
    let parts = ["2 notification(s) dropped", "warning: cannot write to t_alert_action_log"];
    ensure!(parts.iter().all(|part| said.contains(*part)), "{said}");
    let dropped = world.database.count("t_alert_outbox WHERE state = 'dropped'").await?;
    ensure!(dropped == 2, "{dropped} are dropped");
    world.finish().await
}
