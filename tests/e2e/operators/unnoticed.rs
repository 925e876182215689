//! Causes of operator alerts while every process and every server is up, so that only these alerts
//! show them.

use std::convert::Infallible;
use std::path::Path;

use anyhow::Result;
use ljwx_tests::clients::prometheus::Prometheus;
use ljwx_tests::fakes::wechat::{Effect, Endpoint, Fault};
use ljwx_tests::stack::wait::{eventually, pass};

use super::scenarios::Proved;
use super::watched::{DEVICES, LOAD_INTERVAL, SOON, Watched, send};
use crate::support::world;

/// Rules in the form of a rules file. The tenant has no account for the channel of the second.
const RULES: &str = "\
- id: 1
  rule_type: HEARTRATE_HIGH_ALERT
  physical_sign: heart_rate
  threshold_max: 120
  trend_duration: 3
  severity_level: major
  notification_type: wechat
- id: 2
  rule_type: HEARTRATE_EXTREME_ALERT
  physical_sign: heart_rate
  threshold_max: 200
  severity_level: critical
  notification_type: wecom
";

/// The rules that fire first.
const AT_FIRST: [&str; 2] = ["NoRulesInForce", "RejectsHigh"];

/// The rule that fires while an alert can notify no one.
const REACHES_NOBODY: [&str; 1] = ["AlertsReachNobody"];

/// Bytes of rejects a second that the gateway may keep: a small load is more than a tenth of them.
const REJECTS_BYTES_PER_S: &str = "50000";

/// There are no rules, half of the items are rejected, messages are rejected or too late, an alert
/// has no recipient, and then no readings arrive.
pub async fn nobody_notices() -> Result<Proved> {
    let world = world("opunseen").await?;
    let rules = world.logs.join("rules.yaml");
    std::fs::write(&rules, "[]\n")?;
    let path = rules.display().to_string();
    let watched = Watched::start_in(world, |launch| {
        launch.env("RULES_FILE", &path).env("REJECTS_BYTES_PER_S", REJECTS_BYTES_PER_S)
    })
    .await?;
    let load = watched.load();
    let prometheus = &watched.prometheus;
    let url = watched.gateway.url("/upload_health_data");
    tokio::select! {
        ended = rejected(&url) => match ended? {},
        fired = fire_at_first(prometheus) => fired?,
    }
    replace(&rules, RULES)?;
    prometheus.clear(&AT_FIRST, SOON).await?;

    never_notified(&watched).await?;

    watched.measure(DEVICES + 2, &[210]).await?;
    prometheus.fire(&REACHES_NOBODY, SOON).await?;
    watched.measure(DEVICES + 2, &[80]).await?;
    prometheus.clear(&REACHES_NOBODY, SOON).await?;

    drop(load);
    prometheus.fire(&["ReadingsStopped"], SOON).await?;
    let load = watched.load();
    prometheus.clear(&["ReadingsStopped", "WechatFailing"], SOON).await?;
    drop(load);
    watched.end().await?;
    Ok([&AT_FIRST[..], &REACHES_NOBODY, &["ReadingsStopped", "WechatFailing"]].concat())
}

/// Waits until the first rules fire, `RejectsHigh` both for the share of the items and for the bytes
/// of one gateway.
async fn fire_at_first(prometheus: &Prometheus) -> Result<()> {
    prometheus.fire(&AT_FIRST, SOON).await?;
    for instance in ["=", "!="] {
        let query = format!(
            "ALERTS{{alertname=\"RejectsHigh\",alertstate=\"firing\",instance{instance}\"\"}}"
        );
        eventually(SOON, &query, || async {
            Ok(prometheus.query(&query).await?.first().map(drop))
        })
        .await?;
    }
    Ok(())
}

/// One message is rejected for its recipient. Another message waits until its episode is over.
async fn never_notified(watched: &Watched) -> Result<()> {
    let gone = Fault::on(Endpoint::Send, Effect::Errcode(43004));
    let gone = watched.wechat.inject(gone);
    watched.measure(DEVICES, &[130, 131, 132]).await?;
    failing(&watched.prometheus, "refused", "43004").await?;
    gone.end();
    // The person follows the account again, and has heard of the alert.
    for sql in [
        "DELETE FROM t_alert_outbox WHERE state = 'unrouted'",
        "UPDATE t_alert_recipient_address SET disabled_at = NULL",
    ] {
        watched.world.database.execute(sql).await?;
    }
    let busy = watched.wechat.inject(Fault::on(Endpoint::Send, Effect::Errcode(-1)));
    watched.measure(DEVICES + 1, &[130, 131, 132, 80]).await?;
    let waiting = "SELECT COUNT(*) FROM t_alert_outbox WHERE state = 'pending'";
    eventually(SOON, "beginning and end wait", || async {
        Ok((watched.world.database.number(waiting).await? == 2).then_some(()))
    })
    .await?;
    let age = "UPDATE t_alert_outbox SET created_at = created_at - 3660000, \
               event_at = event_at - 3660000, next_attempt_at = 0 WHERE state = 'pending'";
    watched.world.database.execute(age).await?;
    failing(&watched.prometheus, "dropped", "too_old").await?;
    busy.end();
    Ok(())
}

/// Waits until the page for notifications names this outcome.
async fn failing(prometheus: &Prometheus, outcome: &str, errcode: &str) -> Result<()> {
    let query = format!(
        "ALERTS{{alertname=\"WechatFailing\",alertstate=\"firing\",severity=\"page\",\
         outcome=\"{outcome}\",errcode=\"{errcode}\"}}"
    );
    eventually(SOON, &format!("{outcome} notifications page"), || async {
        Ok(prometheus.query(&query).await?.first().map(drop))
    })
    .await
}

/// Sends items that are no readings, without end.
async fn rejected(url: &str) -> Result<Infallible> {
    loop {
        send(url, "", 70).await?;
        pass(LOAD_INTERVAL).await;
    }
}

/// Writes another file and renames it, so that no reader sees half of it.
fn replace(path: &Path, text: &str) -> Result<()> {
    let half = path.with_extension("half");
    std::fs::write(&half, text)?;
    Ok(std::fs::rename(half, path)?)
}
