//! Waits until the pipeline has recovered from a fault: every service is ready, neither group lags,
//! and what processes and database hold is back where it was.

use std::time::Duration;

use anyhow::{anyhow, ensure};
use tokio::time::{Instant, timeout};

use super::arguments::CONNECTIONS;
use super::footprint::Footprint;
use super::stage::{Ended, Member, Role, Stage};
use crate::clients::http;
use crate::stack::wait::pass;

/// The longest from the end of a fault until the pipeline is as before.
const RECOVERED_WITHIN: Duration = Duration::from_secs(300);

/// The time for which the pipeline must be as before. At first the devices still hold what they
/// could not send, and there is no lag yet.
const STEADY: Duration = Duration::from_secs(10);

/// The longest that memory, descriptors, threads and connections may take to shrink. MySQL ends a
/// session that its client has lost after two minutes.
const SETTLED_WITHIN: Duration = Duration::from_secs(130);

/// Time between two looks, and the longest that one may take.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const LOOK_WITHIN: Duration = Duration::from_secs(15);

/// Most connections to the database of one process: its pool of 8, a worker's two for the months,
/// and one beside the pools.
const DATABASE_CONNECTIONS_MAX: usize = 11;

/// The exit code of a process that ended in order and asks to be started again, as
/// `docs/failures.md` describes.
const EXIT_AGAIN: i32 = 1;

/// What was seen during the recovery from a fault.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    /// The time from the end of the fault; `None` if the pipeline did not recover.
    pub(super) took: Option<Duration>,
    /// The services that ended in order and were replaced.
    pub(super) replaced: Vec<String>,
    pub(super) problems: Vec<String>,
}

/// Waits until the pipeline has recovered, with at most `lag_max` records waiting for each group.
/// Services that have ended by themselves are replaced.
pub(super) async fn recover(stage: &mut Stage, lag_max: i64) -> anyhow::Result<Recovery> {
    let mut recovery = Recovery::default();
    let healed = Instant::now();
    let mut steady = None;
    loop {
        for Ended { name, status, panicked } in stage.supervise()? {
            let how = if panicked { ", after a panic" } else { "" };
            let text = format!("{name} ended by itself with {status}{how}");
            // A panic ends a process in order, too, and is a fault all the same.
            if status.code() == Some(EXIT_AGAIN) && !panicked {
                recovery.replaced.push(text);
            } else {
                recovery.problems.push(text);
            }
        }
        let looked = Instant::now();
        let recovered = timeout(LOOK_WITHIN, look(stage, lag_max)).await;
        match recovered.unwrap_or_else(|_| Err(anyhow!("no answers within {LOOK_WITHIN:?}"))) {
            Ok(()) => {
                let since = *steady.get_or_insert(looked);
                if looked - since >= STEADY {
                    recovery.took = Some(since - healed);
                    break;
                }
            }
            Err(error) => {
                steady = None;
                if healed.elapsed() > RECOVERED_WITHIN {
                    let problem = format!("not recovered within {RECOVERED_WITHIN:?}: {error:#}");
                    recovery.problems.push(problem);
                    return Ok(recovery);
                }
            }
        }
        pass(LOOK_INTERVAL).await;
    }
    recovery.problems.extend(settle(stage).await);
    Ok(recovery)
}

/// Checks that every service is ready and that neither group lags.
async fn look(stage: &Stage, lag_max: i64) -> anyhow::Result<()> {
    for Member { service, .. } in &stage.members {
        let answer = http::get(&service.admin("/readyz")).await?;
        ensure!(answer.status == 200, "{} is not ready: {}", service.name(), answer.text);
    }
    let (workers, alerters) = (stage.world.lag().await?, stage.world.alerter_lag().await?);
    ensure!(
        workers <= lag_max && alerters <= lag_max,
        "{workers} records wait for the workers and {alerters} for the alerters"
    );
    Ok(())
}

/// Waits until nothing holds more than before, and returns what still does. The footprint of a
/// service that has none to compare with becomes its baseline.
async fn settle(stage: &mut Stage) -> Vec<String> {
    let end = Instant::now() + SETTLED_WITHIN;
    loop {
        let mut grown = grown(stage);
        grown.extend(connections(stage).await.unwrap_or_else(|error| Some(format!("{error:#}"))));
        if grown.is_empty() || Instant::now() > end {
            for member in &mut stage.members {
                // Growth is reported once: what follows is compared with the present.
                if member.baseline.is_none() || !growth(member).is_empty() {
                    member.baseline = Footprint::of(&member.service);
                }
            }
            return grown;
        }
        pass(LOOK_INTERVAL).await;
    }
}

fn grown(stage: &Stage) -> Vec<String> {
    let named = |member: &Member| {
        let name = member.service.name().to_owned();
        growth(member).into_iter().map(move |what| format!("{name} has {what}"))
    };
    stage.members.iter().flat_map(named).collect()
}

/// Returns by what a service has grown.
fn growth(member: &Member) -> Vec<String> {
    let clients = if member.role == Role::Gateway { CONNECTIONS } else { 0 };
    let now = Footprint::of(&member.service);
    now.zip(member.baseline).map(|(now, before)| now.growth(&before, clients)).unwrap_or_default()
}

/// Returns the number of the services' connections to the database if there are too many.
async fn connections(stage: &Stage) -> anyhow::Result<Option<String>> {
    let user = stage.world.database.name();
    let sql = format!("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = '{user}'");
    let connections = stage.world.database.number(&sql).await?;
    let most = stage.database_clients() * DATABASE_CONNECTIONS_MAX;
    let beyond = usize::try_from(connections)? > most;
    Ok(beyond.then(|| format!("{connections} connections to the database, {most} at most")))
}
