//! `worker where`: tells what became of one reading, in every part of the pipeline. Reads only.
//!
//! `kafka`, `mysql`, `redis_hash` and `alerts` ask the servers, `progress` keeps what a topic's
//! search has found, `matching` decides which records are the reading's, `answers` holds what all
//! say, `report` concludes from it, and `print` prints it.

mod alerts;
mod answers;
mod args;
mod kafka;
mod matching;
mod mysql;
mod print;
mod progress;
mod redis_hash;
mod report;

use std::process::ExitCode;
use std::time::Instant;

use ljwx_service::text::print_found;

pub use args::WhereArgs;

use answers::{FoundRecord, KeptMatch, Position, StoredReading};
use kafka::TopicSearch;
use report::WhereReport;

use crate::commands::dlq::args::KeptTopic;
use crate::commands::part::Part;

/// MySQL and Redis get this part of `--timeout`: a quarter. The topics, whose search takes longer,
/// have the rest.
const SERVERS_PART: u32 = 4;

/// The reason why a part is unknown whose server did not answer in time.
const LATE: &str = "not answered within a quarter of --timeout";

/// Looks for a reading everywhere and prints the report. The exit code tells whether it was found.
pub async fn where_is(config: &WhereArgs) -> anyhow::Result<ExitCode> {
    let report = report(config).await?;
    print_found(config.json, &report, &mut std::io::stdout(), print::print)?;
    Ok(ExitCode::from(report.exit_code()))
}

async fn report(config: &WhereArgs) -> anyhow::Result<WhereReport> {
    let (start, limit) = (Instant::now(), config.timeout / SERVERS_PART);
    let (deadline, servers_by) = (start + config.timeout, start + limit);
    let (sought, zone) = (config.sought(), &config.zone.zone);
    let (group, topic) = (&config.group, &config.kafka.readings_topic);
    let pool = config.mysql.connect(zone)?.with_limit(limit);
    let (row, ledger, accepted, redis, alerts) = tokio::join!(
        Part::by(servers_by, LATE, mysql::stored(&pool, &sought)),
        Part::by(servers_by, LATE, mysql::ledger(&pool, group, topic)),
        Part::by(servers_by, LATE, ljwx_ledger::ledger::accepted(&pool, topic)),
        Part::by(servers_by, LATE, redis_hash::state(config, &sought)),
        Part::by(servers_by, LATE, alerts::read(&pool, &sought, zone)),
    );
    let search = TopicSearch {
        config: config.clone(),
        sought: sought.clone(),
        accepted: accepted.known().cloned(),
        stored: row.known().and_then(Option::as_ref).map(positions).unwrap_or_default(),
    };
    let (of_readings, of_rejects, of_letters) = (search.clone(), search.clone(), search);
    let (readings, rejects, dead_letters) = tokio::join!(
        progress::run::<FoundRecord>(
            deadline,
            |record| record.position,
            move |progress| of_readings.readings(progress),
        ),
        progress::run::<KeptMatch>(
            deadline,
            |found| found.position,
            move |progress| of_rejects.kept(KeptTopic::Rejects, progress),
        ),
        progress::run::<KeptMatch>(
            deadline,
            |found| found.position,
            move |progress| of_letters.kept(KeptTopic::DeadLetters, progress),
        ),
    );
    let base = match accepted {
        Part::Known(accepted) => Part::Known(accepted.base),
        Part::Unknown(reason) => Part::Unknown(reason),
    };
    let group_progress = match (&readings, ledger, &base) {
        (Part::Known(search), Part::Known(ledger), Part::Known(_)) => {
            Part::Known(report::group_progress(search, &ledger))
        }
        (_, Part::Unknown(reason), _) => Part::Unknown(reason),
        (_, _, Part::Unknown(reason)) => Part::Unknown(reason.clone()),
        (Part::Unknown(_), ..) => Part::Unknown("the readings topic was not searched".to_owned()),
    };
    Ok(WhereReport {
        traces: report::traces(&readings, [&rejects, &dead_letters], &alerts),
        device_sn: sought.device,
        timestamp: sought.time,
        group: group.clone(),
        base,
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
