//! Runs a soak from start to end: sets the stage, sends load, strikes by the schedule, and prints
//! the summary. A fault belongs to [`mod@super::strike`], the account to [`mod@super::account`].

use tokio::time::{Instant, sleep_until};

use super::account::account;
use super::arguments::Arguments;
use super::patients::Patients;
use super::recovery::recover;
use super::schedule::{Planned, schedule};
use super::stage::Stage;
use super::strike::strike;
use super::summary::{Summary, save, surroundings};
use crate::accounting::history::Answered;
use crate::fleet::Fleet;

/// Seconds of load that may wait for a group between faults.
const LAG_SECONDS: f64 = 5.0;

/// Least share of the rate that must be acknowledged on average, in spite of the faults. A run with
/// less says nothing about the rate.
const RATE_SHARE_MIN: f64 = 0.5;

/// Runs a soak; `true` if it is clean.
pub async fn run(arguments: Arguments) -> anyhow::Result<bool> {
    arguments.check()?;
    let seed = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let Arguments { length, fault_every, rate, only, .. } = arguments;
    println!("soak: seed {seed}, {length:?} at {rate} readings/s, a fault every {fault_every:?}");
    let mut stage = Stage::start().await?;
    let version = stage.world.database.version().await?;
    let settings = arguments.fleet(seed, stage.upload_url(), stage.world.serial_prefix());
    let fleet = Fleet::start(&settings).await?;
    let begin = Instant::now();
    let patients = Patients::start(&stage, seed);
    let planned = schedule(seed, length, fault_every, only);
    let lag_max = (rate * LAG_SECONDS) as i64;
    // A fault later than this would leave too little time for its recovery.
    let end = begin + length - fault_every / 2;
    let summary = strike_all(&mut stage, &planned, (begin, end), lag_max).await?;
    let mut report = fleet.finish().await?;
    let mut course = patients.finish().await?;
    report.history.absorb(std::mem::take(&mut course.history));
    println!("the load has ended, accounting for everything\n{report}");
    let mut verdict = account(&stage, &report.history, &course).await;
    let reached = report.history.count(Answered::Acknowledged) as f64 / length.as_secs_f64();
    if reached < rate * RATE_SHARE_MIN {
        verdict.problems.push(format!("only {reached:.0} readings/s were acknowledged"));
    }
    verdict.problems.extend(stage.end_all().await);
    let head = format!(
        "soak of seed {seed}: {length:?} at {rate} readings/s of {} devices, a fault every \
         {fault_every:?}\n{}",
        settings.devices,
        surroundings(&version).await
    );
    let (text, clean) = summary.text(&head, &report, &verdict);
    if arguments.save {
        save(&version, seed, &text)?;
    }
    // The logs' ends that a failed run prints come before the summary.
    let removed = stage.remove(clean).await;
    println!("\n{text}");
    removed?;
    Ok(clean)
}

/// Strikes with the planned faults, each after the recovery from the one before, until `end`.
async fn strike_all(
    stage: &mut Stage,
    planned: &[Planned],
    (begin, end): (Instant, Instant),
    lag_max: i64,
) -> anyhow::Result<Summary> {
    let mut summary = Summary::default();
    for (number, next) in planned.iter().enumerate() {
        sleep_until(begin + next.at).await;
        if number == 0 {
            // What the services hold now is what later recoveries are compared with.
            summary.add_calm(recover(stage, lag_max).await?);
        } else if Instant::now() > end {
            summary.skip(planned.len() - number);
            break;
        }
        let (fault, lasts) = (next.fault.name(), next.lasts);
        println!("{:>5} s  {fault}, {lasts:?}", begin.elapsed().as_secs());
        let struck = strike(next, stage).await;
        let recovery = recover(stage, lag_max).await?;
        summary.add(fault, struck, recovery);
    }
    Ok(summary)
}
