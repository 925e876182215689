//! Measures the messages of other accounts while a hundred thousand notifications wait for an account
//! that rests.

use std::time::Duration;

use super::messages::{self, add_account};
use super::run::{alerter, owned};
use super::workload::{PARTITIONS, add_rules};
use super::{latency, steady_load};
use crate::bench::table::{Table, quantile};
use crate::fakes::wechat::FakeWechat;
use crate::fleet::TENANT;
use crate::stack::wait::eventually;
use crate::stack::world::World;

/// Notifications that wait.
const ROWS: usize = 100_000;

/// Rows of one statement.
const ROWS_PER_STATEMENT: usize = 1_000;

/// Recipients of the rows.
const RECIPIENTS: usize = 1_000;

/// The longest until the account rests.
const RESTS_WITHIN: Duration = Duration::from_secs(60);

/// Longest time by which other accounts' messages may come later at their P95, in seconds: less than
/// people notice.
const LATER_MAX: f64 = 0.1;

/// Measures the time from a breach to WeChat first without such rows.
pub(super) async fn measure(table: &mut Table) -> anyhow::Result<()> {
    let rate = steady_load::RATE;
    println!("alerter: {ROWS} rows of a resting account, beside {rate} readings/s");
    let world = World::shared("bench").await?.with_partitions(PARTITIONS);
    world.migrate().await?;
    add_rules(&world).await?;
    messages::seed(&world).await?;
    add_account(&world, TENANT, "not-the-secret").await?;
    let wechat = FakeWechat::start().await?;
    let alerter = alerter(&world, &wechat)?;
    owned(&world).await?;
    let without = latency::delays(&world, &wechat, 0).await?;
    add_rows(&world).await?;
    eventually(RESTS_WITHIN, "the account rests", || async {
        Ok((alerter.metric("wechat_breaker_open", "").await? > 0.0).then_some(()))
    })
    .await?;
    let beside = latency::delays(&world, &wechat, 1).await?;
    let name = |what: &str| format!("{ROWS} rows rest: {what}");
    for (share, what) in [(0.5, "median"), (0.95, "P95")] {
        table.fact(&name(&format!("others, {what} without")), quantile(&without, share), " s");
        table.fact(&name(&format!("others, {what} beside")), quantile(&beside, share), " s");
    }
    let later = quantile(&beside, 0.95) - quantile(&without, 0.95);
    table.at_most(&name("others, P95 later by"), later, LATER_MAX, " s");
    alerter.terminate().await?;
    world.finish().await
}

/// Adds rows of the tenant. They are as severe as those of others and older, so that they come first
/// in the order of what is due.
async fn add_rows(world: &World) -> anyhow::Result<()> {
    for from in (0..ROWS).step_by(ROWS_PER_STATEMENT) {
        let rows: Vec<String> = (from..from + ROWS_PER_STATEMENT).map(row).collect();
        world
            .database
            .execute(&format!(
                "INSERT INTO t_alert_outbox (episode_key, transition_seq, transition, recipient, \
                 customer_id, device_sn, notice, payload, severity, next_attempt_at, created_at) \
                 VALUES {}",
                rows.join(", ")
            ))
            .await?;
    }
    Ok(())
}

fn row(number: usize) -> String {
    let recipient = number % RECIPIENTS;
    let notice = format!(
        "{{\"transition\":\"opened\",\"severity\":\"critical\",\"flapping\":false,\
         \"vital\":\"heart_rate\",\"device_sn\":\"R{number}\",\"user\":\"R{number}\",\
         \"wall\":\"2025-09-02T12:00:00\",\"text\":\"133\"}}"
    );
    let at = "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) - 120000";
    format!(
        "('{number:032}', 1, 'opened', 'openid:resting-{recipient}', {TENANT}, 'R{number}', \
         '{notice}', '', 5, {at}, {at})"
    )
}
