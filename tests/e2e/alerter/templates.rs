//! Messages fit what WeChat shows: the fields of the account's template, and the form in WeCom. If
//! the platform refuses a value, the message arrives in a plainer form.

use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::fakes::wechat::{
    APP_SECRET, CORP_SECRET, Effect, Endpoint, FakeWechat, Fault, Kind, Message, Moment, NURSE,
    TEMPLATE_ID,
};
use ljwx_tests::fleet::TENANT;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::json;

use super::sender::{NEIGHBOURS, NOW_MS, add};
use crate::support::{alerting, delivered, finish, measure, seeded};

/// The longest that a step may take.
const SOON: Duration = Duration::from_secs(60);

/// A template of a category, as the platform has them today.
pub(super) const NEW_TEMPLATE: &str = "template-of-a-category";

/// The template's fields. The word of const2 has to be one that was approved.
pub(super) const FIELDS: [&str; 4] = ["thing1", "const2", "character_string3", "time4"];

/// Three breaches, which open an episode.
const BREACH: [i32; 3] = [130, 131, 132];

/// Gives the account of the tests a template of the new kind.
async fn replace_template(world: &World, wechat: &FakeWechat) -> Result<()> {
    let fields = FIELDS.map(str::to_owned).to_vec();
    wechat.set(|settings| drop(settings.templates.insert(NEW_TEMPLATE.to_owned(), fields)));
    let replaced = format!("UPDATE t_wechat_alarm_config SET template_id = '{NEW_TEMPLATE}'");
    world.database.execute(&replaced).await
}

/// Maps the template's fields. The opening has this word.
async fn map_fields(world: &World, opened: &str) -> Result<()> {
    let words = json!({"opened": opened, "resolved": "已恢复"});
    let map = json!({
        "thing1": "patient", "const2": {"content": "state", "words": words},
        "character_string3": "reading", "time4": "time",
    });
    let mapped = format!("UPDATE t_wechat_alarm_config SET template_fields = '{map}'");
    world.database.execute(&mapped).await
}

/// Opens an episode on a device.
async fn breach(world: &World, gateway: &Service, device: usize) -> Result<()> {
    let end = jiff::Timestamp::now().as_second() - 60;
    measure(gateway, &world.device(device), end, &BREACH).await
}

/// Ensures that a message shows these texts in a template's fields.
pub(super) fn ensure_shown(message: &Message, fields: [(&str, &str); 3]) -> Result<()> {
    for (name, text) in fields {
        ensure!(message.field(name) == Some(text), "{name} should show {text}: {message:?}");
    }
    Ok(())
}

/// Returns a row of the outbox about an opening.
fn row(number: usize, (tenant, recipient): (i64, &str), name: &str) -> String {
    let notice = json!({
        "transition": "opened", "severity": "critical", "flapping": false, "vital": "heart_rate",
        "value": 151.0, "bound": 140.0, "device_sn": format!("D{number}"), "user": name,
        "ward": name, "wall": "2025-09-02T12:00:00", "text": name,
    });
    let notice = notice.to_string().replace('\\', "\\\\").replace('\'', "\\'");
    format!(
        "('{number:032}', 1, 'opened', '{recipient}', {tenant}, 'D{number}', '{notice}', '', \
         'pending', {NOW_MS}, {NOW_MS})"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_template_without_a_map_refuses_waits_and_arrives_once_it_is_mapped() -> Result<()> {
    let (world, wechat) = seeded("newtemplate").await?;
    replace_template(&world, &wechat).await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    breach(&world, &gateway, 1).await?;
    let waits = "t_alert_outbox WHERE state = 'pending' AND last_errcode = 47003";
    eventually(SOON, "the platform refuses every form", || async {
        Ok((world.database.count(waits).await? == 1).then_some(()))
    })
    .await?;
    ensure!(wechat.sends() == 2, "{} sends: the second was all plain", wechat.sends());
    for event in ["template_refused", "wechat_broken"] {
        ensure!(alerter.output().contains(event), "operators do not know: {event}");
    }

    map_fields(&world, "异常").await?;
    delivered(&wechat, 1).await?;
    let inbox = wechat.inbox(NURSE);
    let device = world.device(1);
    let shown = [("thing1", &*device), ("const2", "异常"), ("character_string3", "132>120")];
    ensure_shown(&inbox[0], shown)?;
    ensure!(inbox[0].field("time4").is_some_and(|time| time.contains('年')), "{inbox:?}");
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_field_arrives_plain_and_the_log_and_the_operators_know() -> Result<()> {
    let (world, wechat) = seeded("refusedfield").await?;
    replace_template(&world, &wechat).await?;
    map_fields(&world, "这个词没有批准").await?;
    let (gateway, alerter) = alerting(&world, &wechat).await?;
    for device in 1..=2 {
        breach(&world, &gateway, device).await?;
        delivered(&wechat, device as u64).await?;
    }
    let inbox = wechat.inbox(NURSE);
    let device = world.device(1);
    let shown = [("thing1", &*device), ("const2", ""), ("character_string3", "132>120")];
    ensure_shown(&inbox[0], shown)?;
    ensure!(wechat.sends() == 4, "{} sends: each message was refused once", wechat.sends());
    let marked = "t_alert_action_log WHERE result = 'success' AND context LIKE '%\"const2\"%'";
    eventually(SOON, "the log marks both messages as plainer", || async {
        let found = world.database.count(marked).await?;
        ensure!(found == 2, "{found} are marked");
        Ok(Some(()))
    })
    .await?;
    let events = alerter.output().matches("template_refused").count();
    ensure!(events == 1, "operators are notified {events} times");
    finish(world, [gateway, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_content_arrives_in_its_plain_form() -> Result<()> {
    let (world, wechat) = seeded("blockedwords").await?;
    wechat.set(|settings| settings.blocked_words = vec!["加V@".to_owned()]);
    add(&world, [row(1, (TENANT, "openid:o1"), "加V@王小明")]).await?;
    let alerter = world.alerter(&wechat).start().await?;
    delivered(&wechat, 1).await?;
    let shown = [("keyword1", "加V王小明"), ("keyword2", "心率过高151"), ("keyword3", "严重")];
    ensure_shown(&wechat.inbox("o1")[0], shown)?;
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_whose_content_is_refused_goes_row_by_row() -> Result<()> {
    let (world, wechat) = seeded("blockeddigest").await?;
    wechat.set(|settings| settings.blocked_words = vec!["坏词".to_owned()]);
    let whom = (TENANT, "openid:o1");
    add(&world, [row(1, whom, "坏词"), row(2, whom, "王小明"), row(3, whom, "李四")]).await?;
    // The digest names the patient of the first row.
    let full = "UPDATE t_alert_outbox SET last_error = 'recipient_limit', \
                notice = REPLACE(notice, 'critical', IF(device_sn = 'D1', 'major', 'minor'))";
    world.database.execute(full).await?;
    let alerter = world.alerter(&wechat).start().await?;
    let states = "SELECT transition, state FROM t_alert_outbox ORDER BY id";
    let expected =
        [("opened", "failed"), ("opened", "sent"), ("opened", "sent"), ("digest", "moved")];
    let expected = expected.map(|(what, state)| [what, state].map(|word| Some(word.to_owned())));
    eventually(SOON, "every row is settled", || async {
        let found = world.database.rows(states).await?;
        ensure!(found == expected, "{found:?}");
        Ok(Some(()))
    })
    .await?;
    let texts: Vec<_> = wechat.inbox("o1").iter().map(Message::text).collect();
    let has = |name: &str| texts.iter().any(|text| text.contains(name));
    ensure!(texts.len() == 2 && has("王小明") && has("李四"), "{texts:?}");
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_can_never_be_sent_goes_row_by_row() -> Result<()> {
    let (world, wechat) = seeded("faileddigest").await?;
    let whom = (TENANT, "openid:o1");
    add(&world, [row(1, whom, "王小明"), row(2, whom, "李四")]).await?;
    let full = "UPDATE t_alert_outbox SET last_error = 'recipient_limit'";
    world.database.execute(full).await?;
    wechat.inject(Fault::on(Endpoint::Send, Effect::Errcode(47001)).times(1));
    let alerter = world.alerter(&wechat).start().await?;
    delivered(&wechat, 2).await?;
    let taken_apart = "t_alert_outbox WHERE transition = 'digest' AND state = 'moved'";
    ensure!(world.database.count(taken_apart).await? == 1, "there was no digest");
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_arrived_by_a_former_template_breaks_no_account() -> Result<()> {
    let (world, wechat) = seeded("formertemplate").await?;
    add(&world, [row(1, (TENANT, "openid:o1"), "王小明")]).await?;
    let former = format!(
        "UPDATE t_alert_outbox SET attempts = 2, uncertain_since = {NOW_MS} - 1000, payload = \
         '{{\"touser\":\"o1\",\"template_id\":\"template-gone\",\"data\":{{}}}}'"
    );
    world.database.execute(&former).await?;
    let alerter = world.alerter(&wechat).start().await?;
    delivered(&wechat, 1).await?;
    ensure!(!alerter.output().contains("wechat_broken"), "the account counts as broken");
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_arrived_in_a_digest_comes_again_as_a_repeat() -> Result<()> {
    let (world, wechat) = seeded("repeateddigest").await?;
    let whom = (TENANT, "openid:o1");
    add(&world, [row(1, whom, "王小明"), row(2, whom, "李四")]).await?;
    // The bytes of an alert alone, which were never sent.
    let full = "UPDATE t_alert_outbox SET last_error = 'recipient_limit', payload = '{}', \
                notice = REPLACE(notice, 'critical', 'major')";
    world.database.execute(full).await?;
    // The digest arrives, the alerter cannot know, and then the platform never accepts it.
    wechat.inject(Fault::on(Endpoint::Send, Effect::Cut(Moment::After)).times(1));
    wechat.inject(Fault::on(Endpoint::Send, Effect::Errcode(47001)).times(1));
    let alerter = world.alerter(&wechat).start().await?;
    delivered(&wechat, 3).await?;
    let texts: Vec<_> = wechat.inbox("o1").iter().map(Message::text).collect();
    ensure!(texts[0].contains("汇总 2条") && !texts[0].contains("重复?"), "{texts:?}");
    for name in ["王小明", "李四"] {
        let is_repeat = |text: &&String| text.contains(name) && text.contains("重复?");
        ensure!(texts.iter().filter(is_repeat).count() == 1, "{name}: {texts:?}");
    }
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_that_waits_is_as_old_as_the_youngest_of_its_alerts() -> Result<()> {
    let (world, wechat) = seeded("olddigest").await?;
    let whom = (TENANT, "openid:o1");
    add(&world, [row(1, whom, "王小明"), row(2, whom, "李四")]).await?;
    let young = format!(
        "UPDATE t_alert_outbox SET last_error = 'recipient_limit', event_at = {NOW_MS} - 1200000, \
         notice = REPLACE(notice, 'critical', 'major')"
    );
    world.database.execute(&young).await?;
    let busy = wechat.inject(Fault::on(Endpoint::Send, Effect::Errcode(-1)));
    let alerter = world.alerter(&wechat).start().await?;
    let digest = async |condition: &str| -> Result<()> {
        let digests = format!("t_alert_outbox WHERE transition = 'digest' AND {condition}");
        eventually(SOON, condition, || async {
            Ok((world.database.count(&digests).await? == 1).then_some(()))
        })
        .await
    };
    digest("attempts > 0").await?;
    let older = "UPDATE t_alert_outbox SET event_at = event_at - 600000, next_attempt_at = 0 \
                 WHERE transition = 'digest'";
    world.database.execute(older).await?;
    digest("notice LIKE '%\"delayed\":true%'").await?;
    busy.end();
    delivered(&wechat, 1).await?;
    let text = wechat.inbox("o1")[0].text();
    ensure!(text.contains("延迟 汇总 2条"), "{text}");
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_every_kind_fit_both_platforms_at_the_first_attempt() -> Result<()> {
    let (world, wechat) = seeded("names").await?;
    replace_template(&world, &wechat).await?;
    map_fields(&world, "异常").await?;
    let wecom = format!(
        "INSERT INTO t_wechat_alarm_config (customer_id, type, corp_id, agent_id, secret, wecom_form) \
         VALUES ({TENANT}, 'enterprise', 'ww{}', '1000002', '{CORP_SECRET}', 'markdown')",
        world.app_id()
    );
    world.database.execute(&wecom).await?;
    let long = "很".repeat(3_400);
    let names = [
        "王小明",
        "𠮷田",
        "王😀小明",
        "**王** [x](http://x.cn) <a href='x'>&",
        long.as_str(),
        "\u{202e}王\n明",
    ];
    let rows = names.iter().enumerate().flat_map(|(number, name)| {
        [
            row(2 * number, (TENANT, &format!("openid:o{number}")), name),
            row(2 * number + 1, (TENANT, &format!("wecom:m{number}")), name),
        ]
    });
    add(&world, rows).await?;
    let alerter = world.alerter(&wechat).start().await?;
    delivered(&wechat, 2 * names.len() as u64).await?;
    ensure!(wechat.sends() == 2 * names.len(), "{} sends: some were refused", wechat.sends());
    for message in wechat.messages() {
        let text = message.text();
        match message.kind {
            Kind::Official => ensure!(!text.contains(char::is_control), "{text:?}"),
            Kind::Wecom => {
                ensure!(!text.contains(['<', '&']) && !text.contains("]("), "{text:?}");
                ensure!(text.starts_with("**【严重】心率过高 151 (>140)**\n"), "{text:?}");
            }
        }
    }
    let thing = |person: &str| wechat.inbox(person)[0].field("thing1").map(str::to_owned);
    ensure!(thing("o1").as_deref() == Some("𠮷田"), "{:?}", thing("o1"));
    ensure!(thing("o2").as_deref() == Some("王小明"), "{:?}", thing("o2"));
    finish(world, [alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_map_that_fills_no_template_stops_its_own_account_alone() -> Result<()> {
    let (world, wechat) = seeded("badmap").await?;
    let bad = "UPDATE t_wechat_alarm_config SET template_fields = '{\"thing1\": \"name\"}'";
    world.database.execute(bad).await?;
    let other = format!(
        "INSERT INTO t_wechat_alarm_config (customer_id, type, appid, appsecret, template_id) \
         VALUES ({NEIGHBOURS}, 'official', '{}b', '{APP_SECRET}', '{TEMPLATE_ID}')",
        world.app_id()
    );
    world.database.execute(&other).await?;
    add(
        &world,
        [row(1, (TENANT, "openid:o1"), "王小明"), row(2, (NEIGHBOURS, "openid:o2"), "李四")],
    )
    .await?;
    let alerter = world.alerter(&wechat).start().await?;
    delivered(&wechat, 1).await?;
    ensure!(wechat.inbox("o2").len() == 1, "{:?}", wechat.messages());
    let waits = "t_alert_outbox WHERE recipient = 'openid:o1' AND last_error = 'no_account'";
    eventually(SOON, "the other message waits for an account", || async {
        Ok((world.database.count(waits).await? == 1).then_some(()))
    })
    .await?;
    ensure!(alerter.output().contains("template_fields: thing1: unknown variant"), "not named");
    finish(world, [alerter]).await
}
