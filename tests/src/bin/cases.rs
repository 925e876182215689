//! `cases`: runs a file of worked examples against the real gateway and prints the examples that do
//! not hold.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use ljwx_tests::cases::{self, File};

/// Exit code for a file that cannot be read.
const UNREADABLE: u8 = 2;

/// Run a file of worked examples against the real gateway on the real servers.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// File of worked examples, in the form of the files in `tests/cases`.
    file: PathBuf,
}

fn read(path: &PathBuf) -> anyhow::Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the command's answer")]
async fn main() -> anyhow::Result<ExitCode> {
    let file = match read(&Arguments::parse().file) {
        Ok(file) => file,
        Err(error) => {
            eprintln!("error: {error:#}");
            return Ok(ExitCode::from(UNREADABLE));
        }
    };
    let outcomes = cases::run(&file).await?;
    let failed: Vec<_> = outcomes.iter().filter(|outcome| !outcome.problems.is_empty()).collect();
    for outcome in &failed {
        println!("{}: {}", outcome.name, outcome.problems.join("; "));
    }
    println!("{} of {} cases hold", outcomes.len() - failed.len(), outcomes.len());
    Ok(ExitCode::SUCCESS)
}
