//! The account at the end of the demo: every reading, every reject, every alert.
#![expect(clippy::print_stdout, reason = "the account is for whoever watches")]

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::accounting::verdict::{self, Verdict};
use crate::fleet::Report;
use crate::stack::wait::eventually;

use super::arguments::Arguments;
use super::stage::Stage;

/// The longest that the services may take to catch up.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(60);

/// Shorter runs end before the drifting patients have breached.
const ALERTS_AFTER: Duration = Duration::from_secs(25);

/// Compares the fleet's answers with the stored data.
pub(super) async fn account(
    stage: &Stage,
    arguments: &Arguments,
    report: &Report,
) -> anyhow::Result<Verdict> {
    let mut verdict = verdict::of(&stage.world, &report.history, CAUGHT_UP_WITHIN).await?;
    alerter_is_through(stage, &mut verdict).await?;
    if arguments.drifting > 0 && report.elapsed >= ALERTS_AFTER {
        let alerted = alerts(stage).await;
        match alerted {
            Ok(fact) => verdict.facts.push(fact),
            Err(error) => verdict.problems.push(format!("{error:#}")),
        }
    }
    Ok(verdict)
}

/// Checks that the alerter has evaluated every reading and that its ledger balances.
async fn alerter_is_through(stage: &Stage, verdict: &mut Verdict) -> anyhow::Result<()> {
    let begun = Instant::now();
    eventually(CAUGHT_UP_WITHIN, "the alerter passes every record", || async {
        Ok((stage.world.alerter_lag().await? == 0).then_some(()))
    })
    .await?;
    let ledger = stage.world.database.ledger(&stage.world.alerter_group).await?;
    let processed: i64 = ledger.iter().map(|row| row.processed).sum();
    let took = begun.elapsed().as_secs_f64();
    verdict
        .facts
        .push(format!("the alerter has evaluated all {processed} records, {took:.1} s later"));
    for row in ledger.iter().filter(|row| !row.balances()) {
        verdict.problems.push(format!("the alerter's ledger does not balance: {row:?}"));
    }
    Ok(())
}

/// Checks that there is an alert and that each message was delivered once.
async fn alerts(stage: &Stage) -> anyhow::Result<String> {
    let opened = "SELECT COUNT(*) FROM t_alert_info WHERE alert_status IN ('NOTIFIED', 'RESOLVED')";
    let opened =
        eventually(CAUGHT_UP_WITHIN, "an alert was opened and its message sent", || async {
            let opened = stage.world.database.number(opened).await?;
            Ok((opened > 0 && stage.wechat.delivered() > 0).then_some(opened))
        })
        .await?;
    let messages = stage.wechat.messages();
    let distinct: HashSet<_> =
        messages.iter().map(|message| (&message.touser, message.text())).collect();
    anyhow::ensure!(
        distinct.len() == messages.len(),
        "{} of {} messages arrived twice",
        messages.len() - distinct.len(),
        messages.len()
    );
    Ok(format!("{opened} alerts opened, {} messages delivered, none twice", messages.len()))
}

/// Prints the account; `true` if it holds.
pub(super) fn print(verdict: &Verdict) -> bool {
    for fact in &verdict.facts {
        println!("PASS  {fact}");
    }
    for problem in &verdict.problems {
        println!("FAIL  {problem}");
    }
    verdict.problems.is_empty()
}
