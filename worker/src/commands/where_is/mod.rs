//! `worker where`: tells what became of one reading, in every part of the pipeline. Reads only.
//!
//! `kafka`, `mysql`, `redis_hash` and `alerts` ask the servers, `matching` decides which records
//! are the reading's, `answers` holds what they say, `report` concludes from it, and `print` prints it.

mod alerts;
mod answers;
mod args;
mod kafka;
mod matching;
mod mysql;
mod print;
mod redis_hash;
mod report;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

pub use args::WhereArgs;

use answers::{Part, Position, StoredReading};
use kafka::{TopicAnswers, TopicSearch};
use report::WhereReport;

/// The reason why a part is unknown that did not answer in time.
const LATE: &str = "not answered within --timeout";

/// Time for the search of the topics to hand over what it has found by its deadline.
const HANDOVER: Duration = Duration::from_secs(1);

/// Looks for a reading everywhere and prints the report. The exit code tells whether it was found.
pub async fn where_is(config: &WhereArgs, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let report = tokio::select! {
        report = report(config) => report?,
        () = stop.cancelled() => anyhow::bail!("interrupted"),
    };
    print::print(&report, config.json, &mut std::io::stdout())?;
    Ok(ExitCode::from(report.exit_code()))
}

async fn report(config: &WhereArgs) -> anyhow::Result<WhereReport> {
    let deadline = Instant::now() + config.timeout;
    let (sought, zone) = (config.sought(), &config.zone.zone);
    let (group, topic) = (&config.group, &config.kafka.readings_topic);
    let pool = config.mysql.connect(zone)?.with_limit(config.timeout);
    let (row, ledger, accepted, redis, alerts) = tokio::join!(
        answer(deadline, mysql::stored(&pool, &sought)),
        answer(deadline, mysql::ledger(&pool, group, topic)),
        answer(deadline, ljwx_ledger::ledger::accepted(&pool, topic)),
        answer(deadline, redis_hash::state(config, &sought)),
        answer(deadline, alerts::read(&pool, &sought, zone)),
    );
    let search = TopicSearch {
        config: config.clone(),
        sought: sought.clone(),
        accepted,
        stored: row.known().and_then(Option::as_ref).map(positions).unwrap_or_default(),
        deadline,
    };
    let searched = tokio::task::spawn_blocking(move || search.run());
    let topics = match timeout_at((deadline + HANDOVER).into(), searched).await {
        Ok(answers) => answers?,
        Err(_) => TopicAnswers::unknown(LATE),
    };
    let TopicAnswers { readings, rejects, dead_letters } = topics;
    let group_progress = match (&readings, ledger) {
        (_, Part::Unknown(reason)) => Part::Unknown(reason),
        (Part::Known(search), Part::Known(ledger)) => {
            Part::Known(report::group_progress(search, &ledger))
        }
        (Part::Unknown(_), Part::Known(_)) => {
            Part::Unknown("the readings topic was not searched".to_owned())
        }
    };
    Ok(WhereReport {
        traces: report::traces(&readings, [&rejects, &dead_letters], &alerts),
        device_sn: sought.device,
        timestamp: sought.time,
        group: group.clone(),
        readings,
        rejects,
        dead_letters,
        row,
        group_progress,
        redis,
        alerts,
    })
}

/// Returns the positions of deliveries that the row names.
fn positions(row: &StoredReading) -> Vec<Position> {
    let mut positions: Vec<Position> = row.first.into_iter().chain(row.latest).collect();
    positions.dedup();
    positions
}

/// Waits for an answer until the deadline.
async fn answer<T, E: Into<anyhow::Error>>(
    deadline: Instant,
    work: impl Future<Output = Result<T, E>>,
) -> Part<T> {
    match timeout_at(deadline.into(), work).await {
        Ok(Ok(answer)) => Part::Known(answer),
        Ok(Err(error)) => {
            let error: anyhow::Error = error.into();
            Part::Unknown(format!("{error:#}"))
        }
        Err(_) => Part::Unknown(LATE.to_owned()),
    }
}
