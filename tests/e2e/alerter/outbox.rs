//! From the outbox to a person: outages, lost answers, limits, and accounts that fail.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use ljwx_tests::fakes::webhook::{Post, Webhook};
use ljwx_tests::fakes::wechat::{APP_SECRET, Effect, Endpoint, FakeWechat, Fault, Moment, NURSE};
use ljwx_tests::stack::launch::Launch;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::{eventually, pass};
use ljwx_tests::stack::world::World;
use serde_json::Value;

use super::waiting::{NEXT_MINUTE, minute_is_full};
use crate::support::{delivered, evaluated, finish, measure, now, seeded};

/// The longest that a step may take, including the pause of an account whose platform did not
/// answer.
const SOON: Duration = Duration::from_secs(60);

/// Long enough for an unwanted message to arrive.
const WHILE: Duration = Duration::from_secs(5);

/// Three breaches, which open an episode.
const BREACH: [i32; 3] = [130, 131, 132];

struct Here {
    world: World,
    wechat: FakeWechat,
    gateway: Service,
    alerter: Service,
}

impl Here {
    async fn start(name: &str, alerter: impl FnOnce(Launch) -> Launch) -> Result<Self> {
        let (world, wechat) = seeded(name).await?;
        let (gateway, alerter) =
            tokio::try_join!(world.gateway().start(), alerter(world.alerter(&wechat)).start())?;
        Ok(Self { world, wechat, gateway, alerter })
    }

    /// Opens an episode on each of these devices, one after the other.
    async fn breach(&self, devices: impl IntoIterator<Item = usize>) -> Result<()> {
        for device in devices {
            measure(&self.gateway, &self.world.device(device), now() - 60, &BREACH).await?;
        }
        Ok(())
    }

    /// Waits until this many rows of the outbox are in a state.
    async fn outbox(&self, state: &str, count: i64) -> Result<()> {
        let sql = format!("SELECT COUNT(*) FROM t_alert_outbox WHERE state = '{state}'");
        eventually(SOON, &format!("{count} notifications are {state}"), || async {
            let found = self.world.database.number(&sql).await?;
            ensure!(found == count, "{found} are");
            Ok(Some(()))
        })
        .await
    }

    /// Makes pending notifications older by this time, and due.
    async fn age(&self, minutes: i64) -> Result<()> {
        let sql = format!(
            "UPDATE t_alert_outbox SET created_at = created_at - {minutes} * 60000, \
             event_at = event_at - {minutes} * 60000, next_attempt_at = 0 WHERE state = 'pending'"
        );
        self.world.database.execute(&sql).await
    }

    async fn end(self) -> Result<()> {
        finish(self.world, [self.gateway, self.alerter]).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_answer_was_lost_is_received_once() -> Result<()> {
    for effect in [Effect::Cut(Moment::After), Effect::Cut(Moment::Before), Effect::Page(502)] {
        let here = Here::start("lostanswer", |alerter| alerter).await?;
        here.wechat.inject(Fault::on(Endpoint::Send, effect).times(1));
        here.breach([1]).await?;
        here.outbox("sent", 1).await?;
        let inbox = here.wechat.inbox(NURSE);
        ensure!(inbox.len() == 1, "{effect:?}: {inbox:#?}");
        ensure!(here.wechat.sends() == 2, "{effect:?}: {} sends", here.wechat.sends());
        here.end().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_wechat_loses_nothing_and_keeps_each_episode_s_order() -> Result<()> {
    let here = Here::start("outage", |alerter| alerter).await?;
    here.wechat.down();
    here.breach(1..=4).await?;
    for device in 1..=2 {
        measure(&here.gateway, &here.world.device(device), now(), &[80]).await?;
    }
    here.outbox("pending", 6).await?;
    pass(WHILE).await;
    ensure!(here.wechat.delivered() == 0);
    let tried = here.alerter.metric("wechat_breaker_open", "").await?;
    ensure!(tried == 1.0, "the breaker is open, so few attempts are made");
    here.wechat.up();
    here.outbox("sent", 6).await?;
    ensure!(here.wechat.received_twice().is_empty(), "{:#?}", here.wechat.received_twice());
    let inbox = here.wechat.inbox(NURSE);
    for device in 1..=2 {
        let device = here.world.device(device);
        let of_device = inbox.iter().filter(|message| message.text().contains(&device));
        let texts: Vec<_> = of_device.map(|message| message.text()).collect();
        let in_order = texts.len() == 2 && texts[1].contains("已恢复");
        ensure!(in_order, "{texts:?}");
    }
    here.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_hour_what_still_matters_comes_marked_and_the_rest_is_dropped() -> Result<()> {
    let here = Here::start("late", |alerter| alerter).await?;
    // The platform rejects every send, so it is certain that no message has arrived.
    let busy = here.wechat.inject(Fault::on(Endpoint::Send, Effect::Errcode(-1)));
    here.breach([1, 2]).await?;
    measure(&here.gateway, &here.world.device(2), now(), &[80]).await?;
    here.outbox("pending", 3).await?;
    here.age(61).await?;
    // An attempt that was under way did not know the new age. Wait for the next attempt.
    let marked = "SELECT COUNT(*) FROM t_alert_outbox WHERE state = 'pending' \
                  AND notice LIKE '%\"delayed\":true%'";
    eventually(SOON, "it was tried again, marked", || async {
        Ok((here.world.database.number(marked).await? == 1).then_some(()))
    })
    .await?;
    busy.end();
    here.outbox("sent", 1).await?;
    here.outbox("dropped", 2).await?;
    let inbox = here.wechat.inbox(NURSE);
    ensure!(inbox.len() == 1, "{inbox:#?}");
    let text = inbox[0].text();
    ensure!(text.contains("延迟") && text.contains(&here.world.device(1)), "{text}");
    here.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_arrived_long_ago_comes_again_as_a_repeat() -> Result<()> {
    let here = Here::start("repeat", |alerter| alerter).await?;
    here.wechat.inject(Fault::on(Endpoint::Send, Effect::Cut(Moment::After)).times(1));
    let hang = here.wechat.inject(Fault::on(Endpoint::Send, Effect::Errcode(-1)));
    here.breach([1]).await?;
    delivered(&here.wechat, 1).await?;
    eventually(SOON, "it is not known whether it arrived", || async {
        let sql = "SELECT COUNT(*) FROM t_alert_outbox WHERE uncertain_since IS NOT NULL AND \
                   lease_until = 0";
        Ok((here.world.database.number(sql).await? == 1).then_some(()))
    })
    .await?;
    // Longer ago than the platform remembers a message.
    here.wechat.advance(Duration::from_secs(900));
    here.world
        .database
        .execute("UPDATE t_alert_outbox SET uncertain_since = uncertain_since - 900000, next_attempt_at = 0")
        .await?;
    hang.end();
    here.outbox("sent", 1).await?;
    let inbox = here.wechat.inbox(NURSE);
    ensure!(inbox.len() == 2 && inbox[1].text().contains("重复?"), "{inbox:#?}");
    here.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_more_messages_a_minute_than_allowed_and_the_rest_in_one_digest() -> Result<()>
{
    let limited = |alerter: Launch| alerter.env("RECIPIENT_MESSAGES_PER_MINUTE", "3");
    let here = Here::start("limited", limited).await?;
    here.breach(1..=6).await?;
    evaluated(&here.world).await?;
    delivered(&here.wechat, 3).await?;
    minute_is_full(&here.world).await?;
    here.outbox("pending", 3).await?;
    ensure!(here.wechat.inbox(NURSE).len() == 3, "{:#?}", here.wechat.inbox(NURSE));
    eventually(SOON, "they are counted as waiting for the limit", || async {
        let name = "alerter_notifications_postponed_total";
        Ok((here.alerter.metric(name, "recipient_limit").await? >= 3.0).then_some(()))
    })
    .await?;
    here.world.database.execute(NEXT_MINUTE).await?;
    // The digest is a row of its own.
    here.outbox("sent", 7).await?;
    let inbox = here.wechat.inbox(NURSE);
    ensure!(inbox.len() == 4 && inbox[3].text().contains("汇总 3条"), "{inbox:#?}");
    let notified = "t_alert_info WHERE alert_status = 'NOTIFIED'";
    ensure!(here.world.database.count(notified).await? == 6, "an alert of the digest is pending");
    here.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_one_event_and_tried_seldom() -> Result<()> {
    let hook = Webhook::start("hush").await?;
    let url = hook.url();
    let with_webhook = |alerter: Launch| {
        alerter.env("OPERATORS_WEBHOOK_URL", url).env("OPERATORS_WEBHOOK_SECRET", "hush")
    };
    let here = Here::start("secret", with_webhook).await?;
    let wrong = "UPDATE t_wechat_alarm_config SET appsecret = 'not-the-secret'";
    here.world.database.execute(wrong).await?;
    // Wait until the alerter no longer uses the cached account.
    pass(Duration::from_secs(11)).await;
    here.breach(1..=8).await?;
    eventually(SOON, "operators are notified", || async {
        Ok((!hook.posts().is_empty()).then_some(()))
    })
    .await?;
    pass(WHILE).await;
    let mut posts = hook.posts();
    // New alerts reach nobody meanwhile, which is an event of its own.
    posts.retain(|post| post.json["event"] != "no_recipient_reached");
    ensure!(posts.len() == 1, "{posts:#?}");
    ensure!(posts[0].signed.is_ok() && posts[0].json["errcode"] == 40125, "{:?}", posts[0]);
    ensure!(here.wechat.token_requests() <= 2, "{} tokens", here.wechat.token_requests());
    ensure!(here.wechat.delivered() == 0);
    let log = here.alerter.output();
    let secrets = [APP_SECRET, "not-the-secret", "hush", "-of-the-stand-in"];
    ensure!(secrets.iter().all(|secret| !log.contains(secret)), "a secret in the log");
    let shows = |post: &Post| String::from_utf8_lossy(&post.body).contains("not-the-secret");
    ensure!(!hook.posts().iter().any(shows), "a secret in an event");
    here.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_limits_tokens_is_asked_seldom_and_loses_nothing() -> Result<()> {
    let here = Here::start("tokenlimit", |alerter| alerter).await?;
    here.wechat.inject(Fault::on(Endpoint::Token, Effect::Errcode(45011)).times(1));
    here.breach(1..=3).await?;
    evaluated(&here.world).await?;
    pass(WHILE).await;
    ensure!(here.wechat.delivered() == 0);
    ensure!(here.wechat.token_requests() == 1, "{} tokens", here.wechat.token_requests());
    // The account stays paused until the platform's minute is over.
    eventually(SOON * 2, "all three are notified", || async {
        Ok((here.wechat.inbox(NURSE).len() == 3).then_some(()))
    })
    .await?;
    ensure!(here.wechat.token_requests() == 2, "{} tokens", here.wechat.token_requests());
    here.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_code_of_the_platform_is_treated_by_its_remedy() -> Result<()> {
    // The code, the state of the notification, and whether the account is paused.
    for (code, state, rests) in [
        (-1, "sent", false),
        (40001, "sent", false),
        (42001, "sent", false),
        (40003, "unrouted", false),
        (43004, "unrouted", false),
        (43101, "unrouted", false),
        (47003, "sent", false),
        (40249, "sent", false),
        (40241, "pending", false),
        (43116, "pending", true),
        (47001, "failed", false),
        (43117, "pending", false),
        (45009, "pending", true),
        (45011, "pending", true),
        (40164, "pending", true),
        (48001, "pending", true),
    ] {
        let here =
            Here::start(&format!("code{}", code.to_string().replace('-', "m")), |one| one).await?;
        here.wechat.inject(Fault::on(Endpoint::Send, Effect::Errcode(code)).times(1));
        here.breach([1]).await?;
        eventually(SOON, &format!("{code} is answered"), || async {
            let sql = "SELECT COUNT(*) FROM t_alert_action_log";
            Ok((here.world.database.number(sql).await? > 0).then_some(()))
        })
        .await?;
        here.outbox(state, 1).await?;
        if rests {
            here.breach([2]).await?;
            evaluated(&here.world).await?;
            pass(Duration::from_secs(2)).await;
            ensure!(here.wechat.delivered() == 0, "{code}: the account does not rest");
        }
        let sends = here.wechat.sends();
        ensure!(sends <= 2, "{code}: {sends} sends");
        here.end().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_list_retry_and_drop_what_is_in_the_outbox() -> Result<()> {
    let here = Here::start("byhand", |alerter| alerter).await?;
    here.wechat.inject(Fault::on(Endpoint::Send, Effect::Errcode(47001)).times(1));
    here.breach([1]).await?;
    here.outbox("failed", 1).await?;
    here.wechat.inject(Fault::on(Endpoint::Send, Effect::Errcode(43117)).times(1));
    here.breach([2]).await?;
    let refused = "t_alert_outbox WHERE last_errcode = 43117 AND lease_until = 0";
    eventually(SOON, "the second is refused for now", || async {
        Ok((here.world.database.count(refused).await? == 1).then_some(()))
    })
    .await?;
    let command = async |arguments: &[&str]| -> Result<String> {
        let done = here.world.launch("alerter", arguments).finish().await?;
        ensure!(done.code == Some(0), "{arguments:?}: {}", done.text);
        Ok(done.text)
    };
    let listed = command(&["outbox", "list", "--state", "failed", "--json"]).await?;
    let listed: Value = serde_json::Deserializer::from_str(&listed)
        .into_iter()
        .next()
        .transpose()?
        .unwrap_or_default();
    ensure!(listed.to_string().contains("47001"), "{listed}");
    ensure!(!listed.to_string().contains("132"), "a health value: {listed}");
    let ids: BTreeSet<i64> = here
        .world
        .database
        .rows("SELECT id FROM t_alert_outbox ORDER BY id")
        .await?
        .into_iter()
        .flatten()
        .flatten()
        .map(|id| id.parse())
        .collect::<Result<_, _>>()?;
    let [first, second] = ids.into_iter().collect::<Vec<_>>()[..] else {
        anyhow::bail!("not two rows")
    };
    command(&["outbox", "retry", "--id", &first.to_string()]).await?;
    here.outbox("sent", 1).await?;
    command(&["outbox", "drop", "--id", &second.to_string(), "--reason", "known"]).await?;
    here.outbox("dropped", 1).await?;
    ensure!(here.wechat.inbox(NURSE).len() == 1, "{:#?}", here.wechat.inbox(NURSE));
    let kept = "SELECT COUNT(*) FROM t_alert_action_log WHERE details LIKE '%known%'";
    ensure!(here.world.database.number(kept).await? == 1, "the reason is kept");
    here.end().await
}
