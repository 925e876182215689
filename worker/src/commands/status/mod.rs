//! `worker status`: tells whether all is well with ledger, lag, groups and replicas. Reads only.
//!
//! `group` reads a group's ledger and its topic, `letters` counts its dead letters, `replicas` asks
//! the admin ports, `report` concludes, and `print` prints the report.

mod args;
mod group;
mod letters;
mod print;
mod replicas;
mod report;

use std::process::ExitCode;
use std::time::Instant;

use ljwx_ledger::ledger::GroupKind;
use ljwx_service::text::print_found;

pub use args::StatusArgs;

use group::GroupSearch;
use report::StatusReport;

/// MySQL and the members of the groups get this part of `--timeout`: a quarter.
const SERVERS_PART: u32 = 4;

/// Asks everywhere and prints the report. The exit code tells whether all is well.
pub async fn status(config: &StatusArgs) -> anyhow::Result<ExitCode> {
    let report = report(config).await?;
    print_found(config.json, &report, &mut std::io::stdout(), print::print)?;
    Ok(ExitCode::from(report.exit_code()))
}

async fn report(config: &StatusArgs) -> anyhow::Result<StatusReport> {
    let (start, limit) = (Instant::now(), config.timeout / SERVERS_PART);
    let pool = config.mysql.connect(&config.zone.zone)?.with_limit(limit);
    let search = |kind: GroupKind, group: &str| GroupSearch {
        kafka: config.kafka.clone(),
        pool: pool.clone(),
        kind,
        group: group.to_owned(),
        servers_by: start + limit,
        deadline: start + config.timeout,
    };
    let workers = search(GroupKind::Worker, &config.group);
    let alerters = search(GroupKind::Alerter, &config.alerter_group);
    let (workers, alerters, replicas) =
        tokio::join!(workers.status(), alerters.status(), replicas::ask(config));
    Ok(StatusReport::new(vec![workers, alerters], replicas?))
}
