//! The account at the end of a soak run: every reading, every episode, and the audit.

use std::time::Duration;

use anyhow::ensure;

use super::notifications;
use super::patients::Course;
use super::stage::Stage;
use crate::accounting::history::History;
use crate::accounting::verdict::{self, Verdict};
use crate::stack::wait::{eventually, pass};
use crate::stack::world::World;

/// The longest until the workers have stored every record, and until the last notification is sent.
/// After an outage of WeChat the next attempt may be minutes away.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(600);

/// The longest that the audit may take: it counts all rows anew.
const AUDITED_WITHIN: Duration = Duration::from_secs(900);

/// Time between two queries of what is still to be sent.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Compares the answers and the episodes with what is stored and notified. A step that cannot be
/// carried out is a problem like any other.
pub(super) async fn account(stage: &Stage, history: &History, course: &Course) -> Verdict {
    let verdict = verdict::of(&stage.world, history, CAUGHT_UP_WITHIN).await;
    let mut verdict = verdict.unwrap_or_else(|error| Verdict {
        problems: vec![format!("{error:#}")],
        ..Verdict::default()
    });
    verdict.examples("readings of patients that no gateway acknowledged", &course.unsent);
    for done in [
        everything_is_notified(stage, course, &mut verdict).await,
        audit(&stage.world, &mut verdict).await,
    ] {
        verdict.problems.extend(done.err().map(|error| format!("{error:#}")));
    }
    verdict
}

/// Waits until the alerters have nothing left to do, then compares episodes, alerts and messages.
async fn everything_is_notified(
    stage: &Stage,
    course: &Course,
    verdict: &mut Verdict,
) -> anyhow::Result<()> {
    let Stage { world, wechat, .. } = stage;
    let idle = eventually(CAUGHT_UP_WITHIN, "everything is evaluated and notified", || async {
        pass(LOOK_INTERVAL).await;
        let waiting = "SELECT COUNT(*) FROM t_alert_outbox WHERE state = 'pending'";
        let (lag, waiting) = (world.alerter_lag().await?, world.database.number(waiting).await?);
        ensure!(lag == 0 && waiting == 0, "{lag} records and {waiting} notifications wait");
        Ok(Some(()))
    })
    .await;
    verdict.problems.extend(idle.err().map(|error| format!("{error:#}")));
    let (never_sent, owed) = notifications::never_sent(world).await?;
    notifications::compare(&course.episodes, &wechat.messages(), &never_sent, verdict);
    ensure!(
        i64::try_from(never_sent.len())? <= owed,
        "{} alerts have no notification, and {owed} were owed for want of an account",
        never_sent.len()
    );
    let (alerts, episodes) = (world.database.count("t_alert_info").await?, course.episodes.len());
    let ended = "SELECT COUNT(*) FROM t_alert_info WHERE recover_at IS NOT NULL";
    let ended = world.database.number(ended).await?;
    ensure!(
        usize::try_from(alerts)? == episodes && ended == alerts,
        "{episodes} episodes have {alerts} alerts, {ended} of them ended"
    );
    for row in world.database.ledger(&world.alerter_group).await? {
        ensure!(row.balances(), "the alerter's ledger does not balance: {row:?}");
    }
    Ok(())
}

/// Runs `worker audit --full`.
async fn audit(world: &World, verdict: &mut Verdict) -> anyhow::Result<()> {
    let limit = format!("{}s", AUDITED_WITHIN.as_secs());
    let command = world.launch("worker", &["audit", "--full", "--timeout", &limit]);
    // The command keeps its own limit; this one is for a command that does not.
    let done = command.finish_within(AUDITED_WITHIN + LOOK_INTERVAL * 30).await?;
    ensure!(done.code == Some(0), "worker audit --full exits with {:?}:\n{}", done.code, done.text);
    verdict.facts.push("worker audit --full finds no mismatch".to_owned());
    Ok(())
}
