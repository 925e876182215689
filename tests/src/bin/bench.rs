//! Prints the plan's figures beside their targets, and ratios to the ceilings of the machine.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let met = ljwx_tests::bench::run(Parser::parse()).await?;
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
