//! `demo`: the whole pipeline at work, and an account of every reading at the end.

use std::process::ExitCode;

use clap::Parser;
use ljwx_tests::demo::{Arguments, run};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let passed = run(Arguments::parse()).await?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
