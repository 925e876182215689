//! `soak`: the whole pipeline under load for a long time with random faults, and an account of
//! every reading and notification at the end.

use std::process::ExitCode;

use clap::Parser;
use ljwx_tests::soak::{Arguments, run};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let clean = run(Arguments::parse()).await?;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
