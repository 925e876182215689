//! `worker adopt`: takes over the tables of an earlier server, beside the running services.
//!
//! `plan` finds the tables by `source` and the job that renames them by `monthly_job`. `run` copies each
//! table by `copy`, in chunks: `old_table` reads rows, `old_row` makes readings of them, `adopted_rows`
//! merges and stores them, and `progress` keeps how far it is. `cut_over` puts the tables in the place of
//! the old ones. `compare` looks at every old row again, and `compare_report` says what differs.

mod adopted_rows;
mod args;
mod compare;
mod compare_report;
mod copy;
mod cut_over;
mod monthly_job;
mod old_row;
mod old_table;
mod plan;
mod progress;
mod run;
mod screen;
mod source;

use std::io;
use std::process::ExitCode;

use anyhow::Context;
use ljwx_service::lifecycle::interruptible;
use ljwx_service::text::print_found;
use tokio_util::sync::CancellationToken;

pub use args::AdoptArgs;

use args::{AdoptAction, PrintArgs};
use plan::Plan;

/// Runs the action of `config`. Prints to standard output.
pub async fn adopt(config: &AdoptArgs, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    match &config.action {
        AdoptAction::Run(args) => run::run(config, args, &stop).await,
        AdoptAction::Plan(args) => interruptible(&stop, show_plan(config, args)).await,
        AdoptAction::Status(args) => interruptible(&stop, show_status(config, args)).await,
        AdoptAction::Compare(args) => interruptible(&stop, compare::compare(config, args)).await,
    }
}

async fn show_plan(config: &AdoptArgs, args: &PrintArgs) -> anyhow::Result<ExitCode> {
    let pool = config.mysql.connect(&config.zone.zone)?;
    let mut connection = pool.acquire().await.context("MySQL does not answer")?;
    let from = config.from_database.as_deref();
    let plan = Plan::read(&mut connection, from, config.rows_per_second).await?;
    print_found(args.json, &plan, &mut io::stdout(), Plan::print)?;
    Ok(if plan.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn show_status(config: &AdoptArgs, args: &PrintArgs) -> anyhow::Result<ExitCode> {
    let pool = config.mysql.connect(&config.zone.zone)?;
    let mut connection = pool.acquire().await.context("MySQL does not answer")?;
    progress::print(&mut connection, args.json, &mut io::stdout()).await?;
    Ok(ExitCode::SUCCESS)
}
