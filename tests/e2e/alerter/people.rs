//! The wearer and the managers are notified by the tenant's own accounts. No other person is
//! notified.

use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::clients::http;
use ljwx_tests::fakes::platform::add_absence_rule;
use ljwx_tests::fakes::wechat::{APP_SECRET, CORP_SECRET, FakeWechat, Kind, TEMPLATE_ID};
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;
use serde_json::json;

use super::inbox;
use crate::support::{alerting, evaluated, finish, report, world};

/// The longest that a step may take.
const SOON: Duration = Duration::from_secs(90);

/// The tenant, which is the organisation at the top.
const TENANT: i64 = 11;

/// Another tenant, whose people must never read about this tenant's patients.
const STRANGERS: i64 = 77;

/// Accounts of other tenants. Their rows come before those of the tenant.
const OTHER_ACCOUNTS: i64 = 1_000;

/// The platform's tables, with the columns that matter. Their flags are of different types on the
/// platform, too.
pub(super) const TABLES: [&str; 4] = [
    "CREATE TABLE sys_user (id BIGINT PRIMARY KEY, device_sn VARCHAR(50), user_name VARCHAR(40), \
     real_name TEXT, customer_id BIGINT DEFAULT 0, is_deleted BIT(1) DEFAULT b'0', \
     status CHAR(1) DEFAULT '1', update_time DATETIME)",
    "CREATE TABLE sys_user_org (id BIGINT PRIMARY KEY AUTO_INCREMENT, user_id BIGINT, org_id BIGINT, \
     principal CHAR(1) DEFAULT '0', is_deleted TINYINT DEFAULT 0)",
    "CREATE TABLE sys_org_units (id BIGINT PRIMARY KEY, parent_id BIGINT, ancestors VARCHAR(500), \
     name VARCHAR(100), is_deleted VARCHAR(1) DEFAULT '0')",
    "CREATE TABLE sys_org_manager_cache (id BIGINT PRIMARY KEY AUTO_INCREMENT, org_id BIGINT, \
     user_id BIGINT, user_name VARCHAR(40), role_type VARCHAR(20), customer_id BIGINT, \
     is_active BIT(1) DEFAULT b'1')",
];

/// Ward 22 of the tenant has a manager, ward 33 below it has none.
const ROWS: [&str; 4] = [
    "INSERT INTO sys_org_units (id, parent_id, ancestors, name) VALUES (11, 0, '0', '医院'), \
     (22, 11, '0,11', '二病区'), (33, 22, '0,11,22', '三病区')",
    "INSERT INTO sys_user_org (user_id, org_id) VALUES (5, 22), (6, 33), (50, 22), (51, 22)",
    "INSERT INTO sys_org_manager_cache (org_id, user_id, role_type, customer_id, is_active) VALUES \
     (22, 50, 'manager', 11, b'1'), (22, 51, 'manager', 11, b'0'), (22, 52, 'supervisor', 11, b'1')",
    "INSERT INTO t_alert_rules (rule_type, physical_sign, threshold_max, severity_level, \
     alert_message, notification_type) VALUES ('fast', 'heart_rate', 120, 'critical', \
     '{user_name} {sign} {value}', 'both')",
];

async fn platform(world: &World, devices: [&str; 2], name: &str) -> Result<()> {
    for statement in TABLES.into_iter().chain(ROWS) {
        world.database.execute(statement).await?;
    }
    world.grant().await?;
    let [one, two] = devices;
    let (official, corp) = (world.app_id(), format!("ww{}", world.app_id()));
    let others = (STRANGERS..STRANGERS + OTHER_ACCOUNTS).map(|tenant| {
        format!("({tenant}, 'official', '{official}s', '{APP_SECRET}', '{TEMPLATE_ID}')")
    });
    let others = others.collect::<Vec<_>>().join(", ");
    for statement in [
        format!(
            "INSERT INTO t_wechat_alarm_config (customer_id, type, appid, appsecret, template_id) VALUES \
             {others}"
        ),
        format!(
            "INSERT INTO sys_user (id, device_sn, real_name, customer_id) VALUES (5, '{one}', '{name}', \
             {TENANT}), (6, '{two}', '王五', {TENANT}), (50, NULL, '李四', {TENANT}), \
             (51, NULL, '赵六', {TENANT})"
        ),
        format!(
            "INSERT INTO t_wechat_alarm_config (customer_id, type, appid, appsecret, template_id) VALUES \
             ({TENANT}, 'official', '{official}', '{APP_SECRET}', '{TEMPLATE_ID}')"
        ),
        format!(
            "INSERT INTO t_wechat_alarm_config (customer_id, type, corp_id, agent_id, secret) VALUES \
             ({TENANT}, 'enterprise', '{corp}', '1000002', '{CORP_SECRET}')"
        ),
    ] {
        world.database.execute(&statement).await?;
    }
    Ok(())
}

/// Adds a person's address, as operators do.
pub(super) async fn reach(
    world: &World,
    tenant: i64,
    user: i64,
    kind: &str,
    address: &str,
) -> Result<()> {
    let (tenant, user) = (tenant.to_string(), user.to_string());
    let arguments = [
        "recipients",
        "add",
        "--customer-id",
        &tenant,
        "--user-id",
        &user,
        "--kind",
        kind,
        "--address",
        address,
    ];
    let done = world.launch("alerter", &arguments).finish().await?;
    ensure!(done.code == Some(0), "{}", done.text);
    Ok(())
}

/// Sends one breaching reading without ids.
async fn breach(gateway: &Service, device: &str) -> Result<()> {
    measured(gateway, device, 150).await
}

/// Sends one reading without ids.
async fn measured(gateway: &Service, device: &str, rate: i32) -> Result<()> {
    let data = json!({"deviceSn": device, "heartRate": rate,
        "timestamp": wall_time(jiff::Timestamp::now().as_second() - 10)});
    let answer =
        http::post(&gateway.url("/upload_health_data"), json!({ "data": data }).to_string())
            .await?;
    ensure!(answer.status == 200, "{}", answer.text);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn wearer_and_managers_are_notified_by_their_tenant_s_accounts_and_nobody_else() -> Result<()>
{
    let world = world("people").await?;
    let (one, two) = (world.device(1), world.device(2));
    // A name that would be a link, bold, and far too long if it were interpreted.
    let name = format!("**张三** [x](http://evil.example) {}", "很".repeat(3_400));
    platform(&world, [&one, &two], &name).await?;
    reach(&world, TENANT, 5, "openid", "openid-5").await?;
    reach(&world, TENANT, 6, "wecom", "member6").await?;
    reach(&world, TENANT, 50, "openid", "openid-50").await?;
    reach(&world, TENANT, 51, "openid", "openid-51").await?;
    reach(&world, STRANGERS, 0, "openid", "openid-stranger").await?;
    let wechat = FakeWechat::start().await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;

    breach(&gateway, &one).await?;
    let received = inbox(&wechat, "openid-5", 1).await?;
    // The platform shows no more of a field than this.
    let shown = "**张三** [x](http://e… · 心率过高 150 · 严重 · ";
    ensure!(received[0].starts_with(shown), "{received:?}");
    inbox(&wechat, "openid-50", 1).await?;
    let ids = format!(
        "SELECT user_id, org_id, customer_id, alert_status FROM t_alert_info WHERE device_sn = '{one}'"
    );
    eventually(SOON, "the alert says whose it is and that it was notified", || async {
        let row = world.database.row(&ids).await?;
        Ok((row == ["5", "22", "11", "NOTIFIED"].map(|text| Some(text.to_owned()))).then_some(()))
    })
    .await?;

    // Ward 33 has no manager of its own; its patient has WeCom.
    breach(&gateway, &two).await?;
    let received = inbox(&wechat, "member6", 1).await?;
    let lines: Vec<_> = received[0].lines().collect();
    let text = ["【严重】心率过高 150 (>120)", "王五 · 三病区", lines[2], "王五 心率 150"];
    ensure!(lines == text, "{received:?}");
    inbox(&wechat, "openid-50", 2).await?;
    let of_wecom = wechat.messages().into_iter().filter(|message| message.kind == Kind::Wecom);
    ensure!(of_wecom.count() == 1, "{:#?}", wechat.messages());

    // The watches show the alerts, too, each alert once per person.
    let shown = "SELECT COUNT(*), COUNT(DISTINCT device_sn, user_id) FROM t_device_message \
                 WHERE message_type = 'warning' AND user_id IN (5, 6, 50)";
    eventually(SOON, "four messages of the platform", || async {
        let row = world.database.row(shown).await?;
        ensure!(row == ["4", "4"].map(|text| Some(text.to_owned())), "{row:?}");
        Ok(Some(()))
    })
    .await?;
    evaluated(&world).await?;
    pass(Duration::from_secs(2)).await;
    for nobody in ["openid-51", "openid-stranger"] {
        ensure!(wechat.inbox(nobody).is_empty(), "{nobody}: {:#?}", wechat.inbox(nobody));
    }
    ensure!(wechat.received_twice().is_empty(), "{:#?}", wechat.received_twice());
    ensure!(!alerter.output().contains("心率 150"), "a health value in the log");
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anybody_to_notify_the_alert_stays_pending_until_somebody_is_named() -> Result<()> {
    let world = world("nobody").await?;
    let (one, two) = (world.device(1), world.device(2));
    platform(&world, [&one, &two], "张三").await?;
    let only_wechat = "UPDATE t_alert_rules SET notification_type = 'wechat'";
    world.database.execute(only_wechat).await?;
    let wechat = FakeWechat::start().await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    breach(&gateway, &one).await?;
    evaluated(&world).await?;
    let status = format!("SELECT alert_status FROM t_alert_info WHERE device_sn = '{one}'");
    let row = world.database.row(&status).await?;
    ensure!(row == [Some("pending".to_owned())], "{row:?}");
    let labels = "errcode=\"no_recipient\"";
    let counted = alerter.metric("alerter_notifications_total", labels).await?;
    ensure!(counted == 1.0, "{counted} counted");

    // Once a recipient is added, the next breach notifies late.
    reach(&world, TENANT, 50, "openid", "openid-50").await?;
    pass(Duration::from_secs(11)).await;
    breach(&gateway, &one).await?;
    inbox(&wechat, "openid-50", 1).await?;
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_that_was_notified_to_nobody_names_the_people_of_its_latest_reading() -> Result<()>
{
    let world = world("newpeople").await?;
    platform(&world, [&world.device(1), &world.device(2)], "张三").await?;
    let only_wechat = "UPDATE t_alert_rules SET notification_type = 'wechat'";
    world.database.execute(only_wechat).await?;
    let wechat = FakeWechat::start().await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    let (device, now) = (world.device(3), jiff::Timestamp::now().as_second());
    // A new patient is bound after the first reading, and then moves to another ward.
    for (second, user, org) in [(1, None, None), (2, Some(5), Some(22)), (3, Some(5), Some(33))] {
        let breach = json!({"heart_rate": 150, "customerId": TENANT, "userId": user, "orgId": org});
        report(&gateway, &device, now - 60 + second, breach).await?;
        evaluated(&world).await?;
        let people = "SELECT user_id, org_id, customer_id, alert_status FROM t_alert_info";
        let row = world.database.row(people).await?;
        let text = |id: Option<i64>| id.map(|id| id.to_string());
        let status = Some("pending".to_owned());
        ensure!(row == [text(user), text(org), text(Some(TENANT)), status], "{row:?}");
    }
    ensure!(wechat.delivered() == 0, "{:#?}", wechat.messages());
    finish(world, [gateway, alerter]).await
}

/// Waits until a query counts as many rows. Meanwhile a device without a user sends readings.
pub(super) async fn counted(
    world: &World,
    gateway: &Service,
    sql: &str,
    expected: i64,
) -> Result<()> {
    eventually(SOON, sql, || async {
        measured(gateway, &world.device(3), 80).await?;
        pass(Duration::from_millis(500)).await;
        let found = world.database.number(sql).await?;
        ensure!(found == expected, "{found}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_absence_of_a_device_that_belongs_to_nobody_any_more_closes_without_a_message()
-> Result<()> {
    let world = World::shared("unbound").await?.with_partitions(1);
    world.migrate().await?;
    let (one, two) = (world.device(1), world.device(2));
    platform(&world, [&one, &two], "张三").await?;
    add_absence_rule(&world, Duration::from_secs(6)).await?;
    reach(&world, TENANT, 5, "openid", "openid-5").await?;
    reach(&world, TENANT, 6, "openid", "openid-6").await?;
    let wechat = FakeWechat::start().await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    for device in [&one, &two] {
        measured(&gateway, device, 80).await?;
    }
    let missing = "SELECT COUNT(*) FROM t_alert_info WHERE alert_status = 'NOTIFIED'";
    counted(&world, &gateway, missing, 2).await?;

    // The patient goes home, and the watch lies in a drawer.
    world.database.execute("UPDATE sys_user SET device_sn = NULL WHERE id = 5").await?;
    let closed = format!(
        "SELECT COUNT(*) FROM t_alert_info WHERE device_sn = '{one}' AND alert_status = 'CLOSED'"
    );
    counted(&world, &gateway, &closed, 1).await?;
    ensure!(world.database.number(missing).await? == 1, "the other device still has its user");
    pass(Duration::from_secs(3)).await;
    ensure!(world.database.count("t_alert_info").await? == 2, "it is not missed again");
    ensure!(wechat.delivered() == 2, "{:#?}", wechat.messages());
    finish(world, [gateway, alerter]).await
}
