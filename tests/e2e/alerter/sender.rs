//! The sender beside the rest: an account that hangs delays no other, the outbox is measured
//! without the sender, and old rows are removed.
//!
//! Rows are written to the outbox directly, because only the sender is tested.

use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::fakes::wechat::{APP_SECRET, Effect, Endpoint, Fault, Moment, TEMPLATE_ID};
use ljwx_tests::fleet::TENANT;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;

use crate::support::{delivered, finish, operators_get, seeded};

/// The longest that a step may take, including the pause of an account that did not answer.
const SOON: Duration = Duration::from_secs(60);

/// Another tenant, with an account of its own.
pub(super) const NEIGHBOURS: i64 = 8;

/// The server's clock as the outbox stores it.
pub(super) const NOW_MS: &str = "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)";

/// More rows than one statement removes.
const MANY: usize = 2_500;

/// Returns a row of the outbox about an opening, `days` old.
pub(super) fn row(
    number: usize,
    whom: (i64, &str),
    severity: &str,
    (state, days): (&str, i64),
) -> String {
    let (tenant, recipient) = whom;
    let notice = format!(
        r#"{{"transition":"opened","severity":"{severity}","flapping":false,"vital":"heart_rate",
        "device_sn":"D{number}","user":"D{number}","wall":"2025-09-02T12:00:00","text":"133"}}"#
    );
    let at = format!("{NOW_MS} - {days} * 86400000");
    format!(
        "('{number:032}', 1, 'opened', '{recipient}', {tenant}, 'D{number}', '{notice}', '', \
         '{state}', {at}, {at})"
    )
}

pub(super) async fn add(world: &World, rows: impl IntoIterator<Item = String>) -> Result<()> {
    let rows: Vec<String> = rows.into_iter().collect();
    let sql = format!(
        "INSERT INTO t_alert_outbox (episode_key, transition_seq, transition, recipient, \
         customer_id, device_sn, notice, payload, state, next_attempt_at, created_at) VALUES {}",
        rows.join(", ")
    );
    world.database.execute(&sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_hangs_delays_neither_another_account_nor_the_watch() -> Result<()> {
    const PENDING: (&str, i64) = ("pending", 0);
    let (world, wechat) = seeded("hanging").await?;
    let (account, other) = (world.app_id(), format!("{}b", world.app_id()));
    let sql = format!(
        "INSERT INTO t_wechat_alarm_config (customer_id, type, appid, appsecret, template_id) \
         VALUES ({NEIGHBOURS}, 'official', '{other}', '{APP_SECRET}', '{TEMPLATE_ID}')"
    );
    world.database.execute(&sql).await?;
    let alerter = world.alerter(&wechat).start().await?;
    let of_account =
        |number: usize| row(number, (TENANT, &format!("openid:o{number}")), "major", PENDING);
    // An account that has worked is not tried with one message.
    add(&world, [of_account(0)]).await?;
    delivered(&wechat, 1).await?;
    let hang = Fault::on(Endpoint::Send, Effect::Hang(Moment::Before)).of(&account);
    let hang = wechat.inject(hang);
    add(&world, (1..=30).map(of_account)).await?;
    eventually(SOON, "the account holds all its slots", || async {
        ensure!(wechat.sends_of(&account) == 9, "{} sends", wechat.sends_of(&account));
        Ok(Some(()))
    })
    .await?;
    add(
        &world,
        [
            row(31, (NEIGHBOURS, "openid:o31"), "major", PENDING),
            row(32, (NEIGHBOURS, "message:5"), "major", PENDING),
        ],
    )
    .await?;
    let ended = format!(
        "t_alert_outbox WHERE customer_id = {TENANT} AND state = 'pending' AND attempts > 0"
    );
    eventually(SOON, "the neighbours get both messages", || async {
        let (messages, written) =
            (wechat.delivered(), world.database.count("t_device_message").await?);
        ensure!((messages, written) == (2, 1), "{messages} messages, {written} on the watch");
        let ended = world.database.count(&ended).await?;
        ensure!(ended == 0, "they waited for {ended} of the account's calls to end");
        Ok(Some(()))
    })
    .await?;
    hang.end();
    eventually(SOON, "the account's messages are sent as well", || async {
        let sent = world.database.count("t_alert_outbox WHERE state = 'sent'").await?;
        ensure!(sent == 33, "{sent} are");
        Ok(Some(()))
    })
    .await?;
    ensure!(wechat.received_twice().is_empty(), "{:#?}", wechat.received_twice());
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_for_a_broken_account_becomes_one_digest_of_each_person() -> Result<()> {
    let (world, wechat) = seeded("rested").await?;
    let secret = |secret: &str| format!("UPDATE t_wechat_alarm_config SET appsecret = '{secret}'");
    world.database.execute(&secret("not-the-secret")).await?;
    let people = [("o1", 1), ("o1", 2), ("o1", 3), ("o2", 4), ("o2", 5), ("o3", 6)];
    let row = |(person, number): (&str, usize)| {
        row(number, (TENANT, &format!("openid:{person}")), "major", ("pending", 0))
    };
    add(&world, people.map(row)).await?;
    for changed in ["severity = IF(device_sn = 'D3', 5, 4)", "created_at = created_at - 120000"] {
        world.database.execute(&format!("UPDATE t_alert_outbox SET {changed}")).await?;
    }
    let alerter = world.alerter(&wechat).start().await?;
    operators_get(&alerter, "wechat_broken", SOON).await?;
    world.database.execute(&secret(APP_SECRET)).await?;
    eventually(SOON, "all is sent", || async {
        let sent = world.database.count("t_alert_outbox WHERE state = 'sent'").await?;
        ensure!(sent == 8, "{sent} are");
        Ok(Some(()))
    })
    .await?;
    // What is critical is a message of its own.
    let expected = [("o1", vec!["D3", "汇总 2条"]), ("o2", vec!["汇总 2条"]), ("o3", vec!["D6"])];
    for (person, expected) in expected {
        let texts: Vec<_> = wechat.inbox(person).iter().map(|message| message.text()).collect();
        let has = |part: &&str| texts.iter().filter(|text| text.contains(*part)).count() == 1;
        ensure!(texts.len() == expected.len() && expected.iter().all(has), "{person}: {texts:?}");
    }
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_is_measured_by_severity_while_the_sender_stands_still() -> Result<()> {
    let (world, wechat) = seeded("depth").await?;
    let rows = [("critical", 1), ("critical", 2), ("minor", 3)];
    let row = |(severity, number): (&str, usize)| {
        row(number, (TENANT, &format!("openid:o{number}")), severity, ("pending", 0))
    };
    add(&world, rows.map(row)).await?;
    let severity = "UPDATE t_alert_outbox SET severity = IF(notice LIKE '%critical%', 5, 2)";
    world.database.execute(severity).await?;
    // The sender waits for the rows.
    let lock = world.database.lock("t_alert_outbox").await?;
    let alerter = world.alerter(&wechat).start().await?;
    let measured = async |name: &str, severity: &str| {
        alerter.metric(name, &format!("severity=\"{severity}\"")).await
    };
    let age = eventually(SOON, "the depth of each severity", || async {
        let depth = "alerter_outbox_depth";
        let critical = measured(depth, "critical").await?;
        let (minor, info) = (measured(depth, "minor").await?, measured(depth, "info").await?);
        let found = (critical, minor, info);
        ensure!(found == (2.0, 1.0, 0.0), "{found:?}");
        Ok(Some(measured("alerter_outbox_oldest_seconds", "critical").await?))
    })
    .await?;
    eventually(SOON, "the age rises", || async {
        let later = measured("alerter_outbox_oldest_seconds", "critical").await?;
        ensure!(later > age, "{later} s after {age} s");
        Ok(Some(()))
    })
    .await?;
    ensure!(wechat.sends() == 0, "the sender did not stand still");
    lock.release().await?;
    delivered(&wechat, 3).await?;
    eventually(SOON, "nothing is pending", || async {
        let pending = alerter.metric("alerter_outbox_depth", "").await?;
        ensure!(pending == 0.0, "{pending} are");
        Ok(Some(()))
    })
    .await?;
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn more_old_notifications_than_one_statement_removes_are_removed() -> Result<()> {
    let (world, wechat) = seeded("oldnotes").await?;
    let finished = |number: usize| {
        let age = if number == 0 { 29 } else { 31 };
        row(number, (TENANT, "openid:o1"), "minor", ("sent", age))
    };
    add(&world, (0..=MANY).map(finished)).await?;
    let suppressed = "INSERT INTO t_alert_suppressed (event_day, rule_id, customer_id, reason, \
                      suppressed) VALUES (CURRENT_DATE - INTERVAL 402 DAY, 1, 7, 'cooldown', 1), \
                      (CURRENT_DATE - INTERVAL 398 DAY, 1, 7, 'cooldown', 1)";
    world.database.execute(suppressed).await?;
    let alerter = world.alerter(&wechat).start().await?;
    for table in ["t_alert_outbox", "t_alert_suppressed"] {
        eventually(SOON, &format!("one row is left in {table}"), || async {
            let left = world.database.count(table).await?;
            ensure!(left == 1, "{left} are");
            Ok(Some(()))
        })
        .await?;
    }
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_alert_to_which_the_platforms_log_is_bound_stays_and_no_other() -> Result<()> {
    let (world, wechat) = seeded("boundalerts").await?;
    let ours = |number: usize| {
        format!(
            "({number}, 7, 'KIND', 'D1', 'RESOLVED', '{number:032x}', NOW() - INTERVAL 101 DAY)"
        )
    };
    for statement in [
        "ALTER TABLE t_alert_action_log ADD FOREIGN KEY (alert_id) REFERENCES t_alert_info (id)",
        &format!(
            "INSERT INTO t_alert_info (id, rule_id, alert_type, device_sn, alert_status, \
             dedup_key, occur_at) VALUES {}, {}",
            ours(1),
            ours(2)
        ),
        "INSERT INTO t_alert_action_log (alert_id, action, actor) VALUES (1, 'view', 'nurse'), \
         (1, 'notify', 'alerter'), (2, 'notify', 'alerter')",
    ] {
        world.database.execute(statement).await?;
    }
    let alerter = world.alerter(&wechat).env("ALERT_RETENTION_DAYS", "100").start().await?;
    eventually(SOON, "the other alert is removed", || async {
        let left = world.database.count("t_alert_info").await?;
        ensure!(left == 1, "{left} are left");
        Ok(Some(()))
    })
    .await?;
    ensure!(world.database.count("t_alert_info WHERE id = 1").await? == 1, "the bound one went");
    let nurses = world.database.count("t_alert_action_log WHERE actor = 'nurse'").await?;
    ensure!(nurses == 1, "the nurse's line is gone");
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_past_their_retention_go_with_their_log_and_no_others() -> Result<()> {
    let (world, wechat) = seeded("oldalerts").await?;
    let alert = |number: usize, key: &str, status: &str, days: i64| {
        format!("({number}, 7, 'KIND', 'D1', '{status}', '{key}', NOW() - INTERVAL {days} DAY)")
    };
    let ours = |number: usize| format!("{number:032x}");
    let mut alerts = vec![
        alert(1, &ours(1), "NOTIFIED", 101),
        alert(2, "a key of the platform", "RESOLVED", 101),
        alert(3, &format!("{:032}", 3), "RESOLVED", 101),
        alert(4, &ours(4), "RESOLVED", 99),
    ];
    alerts.extend((10..10 + MANY).map(|number| alert(number, &ours(number), "RESOLVED", 101)));
    for statement in [
        format!(
            "INSERT INTO t_alert_info (id, rule_id, alert_type, device_sn, alert_status, \
             dedup_key, occur_at) VALUES {}",
            alerts.join(", ")
        ),
        "INSERT INTO t_alert_action_log (alert_id, action, actor) SELECT id, 'notify', 'alerter' \
         FROM t_alert_info"
            .to_owned(),
        "INSERT INTO t_alert_action_log (alert_id, action, actor) VALUES (10, 'view', 'nurse')"
            .to_owned(),
    ] {
        world.database.execute(&statement).await?;
    }
    // The third alert still has a notification.
    add(&world, [row(3, (TENANT, "openid:o1"), "minor", ("sent", 1))]).await?;
    let alerter = world.alerter(&wechat).env("ALERT_RETENTION_DAYS", "100").start().await?;
    eventually(SOON, "four alerts are left", || async {
        let left = world.database.count("t_alert_info").await?;
        ensure!(left == 4, "{left} are");
        Ok(Some(()))
    })
    .await?;
    ensure!(world.database.count("t_alert_info WHERE id < 5").await? == 4, "they are others");
    let lines = world.database.count("t_alert_action_log").await?;
    ensure!(lines == 4 + 1, "{lines} lines: one of each alert, and the nurse's");
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_replica_is_sending_counts_and_what_is_critical_waits_together() -> Result<()>
{
    let (world, wechat) = seeded("otherreplica").await?;
    let pending = |number: usize| row(number, (TENANT, "openid:o1"), "critical", ("pending", 0));
    add(&world, (1..=128).map(pending)).await?;
    let begun = format!(
        "uncertain_since = {NOW_MS}, lease_owner = 'other', lease_until = {NOW_MS} + 600000"
    );
    for changed in ["severity = 5", &format!("{begun} WHERE id <= 28")] {
        world.database.execute(&format!("UPDATE t_alert_outbox SET {changed}")).await?;
    }
    let alerter = world.alerter(&wechat).start().await?;
    let waits = "t_alert_outbox WHERE last_error = 'recipient_limit' AND attempts = 0";
    eventually(SOON, "the rest waits for the next minute", || async {
        let waiting = world.database.count(waits).await?;
        ensure!(waiting == 100, "{waiting} do");
        Ok(Some(()))
    })
    .await?;
    let unclaimed = world.database.count(&format!("{waits} AND lease_owner IS NULL")).await?;
    ensure!(unclaimed > 0, "they are postponed one by one");
    ensure!(wechat.sends() == 0, "{} sends", wechat.sends());
    let next = "UPDATE t_alert_outbox SET uncertain_since = uncertain_since - 60000, \
                next_attempt_at = next_attempt_at + 600000";
    world.database.execute(next).await?;
    // A postponement that was under way may come after this.
    let due = "UPDATE t_alert_outbox SET next_attempt_at = 0 \
               WHERE id IN (29, 30) AND state = 'pending' AND attempts = 0";
    eventually(SOON, "2 messages at WeChat", || async {
        world.database.execute(due).await?;
        ensure!(wechat.delivered() == 2, "there are {}", wechat.delivered());
        Ok(Some(()))
    })
    .await?;
    finish(world, [alerter]).await
}
