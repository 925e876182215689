//! What all programs have in common: exit codes, the version, and the answer that tells the settings.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::clients::prometheus::deploy_folder;
use ljwx_tests::stack::launch::{Finished, Launch};

use crate::support::{finish, world};

/// The longest that a command may take to find out that no server answers.
const SILENT_WITHIN: Duration = Duration::from_secs(60);

/// Addresses at which nobody listens.
const NOWHERE: [&str; 4] =
    ["--mysql-url", "mysql://u:p@127.0.0.1:1/d", "--kafka-brokers", "127.0.0.1:1"];

/// A row of the table of exit codes: its commands, and the text of each code.
struct Row {
    commands: Vec<String>,
    codes: Vec<String>,
}

/// Returns the rows of the table in `docs/commands.md`.
fn rows() -> Result<Vec<Row>> {
    let text = std::fs::read_to_string(deploy_folder().join("../docs/commands.md"))?;
    let (_, rest) = text.split_once("## Exit codes\n").context("no table")?;
    let section = rest.split("\n## ").next().unwrap_or_default();
    let lines = section.lines().filter(|line| line.starts_with("| `"));
    let row = |line: &str| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let names = cells.next().unwrap_or_default().split('`').skip(1).step_by(2);
        Row {
            commands: names.map(str::to_owned).collect(),
            codes: cells.map(str::to_owned).collect(),
        }
    };
    Ok(lines.map(row).collect())
}

/// Runs a command to its end, with further arguments.
async fn run(command: &str, more: &[&str]) -> Result<Finished> {
    let program = match command.split(' ').next() {
        Some("gateway") => "gateway",
        Some("worker") => "worker",
        _ => "alerter",
    };
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    Launch::bare(program, &[&words[..], more].concat())?.finish_within(SILENT_WITHIN).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_ends_with_the_codes_of_the_table() -> Result<()> {
    let rows = rows()?;
    let commands = rows.iter().flat_map(|row| &row.commands);
    ensure!(commands.clone().count() > 25, "the table names the commands");
    for command in commands {
        let wrong = run(command, &["--no-such-setting"]).await?;
        ensure!(wrong.code == Some(2), "{command}: {:?}: {}", wrong.code, wrong.text);
        let help = run(command, &["--help"]).await?;
        ensure!(help.code == Some(0), "{command}: {:?}: {}", help.code, help.text);
    }
    let may_be_unknown = |command: &str| {
        let mut rows = rows.iter().filter(|row| row.commands.iter().any(|name| name == command));
        rows.any(|row| row.codes.last().is_some_and(|text| text != "–"))
    };
    let at = ["--device", "LJWX-NOBODY", "--at", "2025-09-02 16:00:00"];
    for (command, own, code) in [
        ("worker status", &["--timeout", "4s"][..], 3),
        ("worker audit", &["--timeout", "4s"], 3),
        ("worker where", &[&at[..], &["--timeout", "4s"]].concat(), 3),
        ("worker offsets", &[], 1),
    ] {
        let silent = run(command, &[own, &NOWHERE].concat()).await?;
        ensure!(silent.code == Some(code), "{command}: {:?}: {}", silent.code, silent.text);
        ensure!(may_be_unknown(command) == (code == 3), "{command} in the table");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_program_tells_its_version_and_the_commands_their_completions() -> Result<()> {
    for program in ["gateway", "worker", "alerter"] {
        let version = run(program, &["--version"]).await?;
        let expected = format!("{program} 0.");
        ensure!(version.code == Some(0) && version.text.starts_with(&expected), "{version:?}");
    }
    for (command, knows) in [("worker completions", "offsets"), ("alerter completions", "silence")]
    {
        let bash = run(command, &["bash"]).await?;
        ensure!(bash.code == Some(0) && bash.text.contains(knows), "{command}: {bash:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_tells_its_settings_with_their_sources_and_no_secret() -> Result<()> {
    let token = "a-token-of-the-admin-port-that-nobody-may-see";
    let world = world("settings").await?;
    let file = world.logs.join("token");
    std::fs::write(&file, format!("{token}\n"))?;
    let worker = world
        .worker()
        .arg("--batch-age=30ms")
        .env("ADMIN_TOKEN_FILE", file.display().to_string())
        .start()
        .await?;
    let shown = http::get(&worker.admin("/config")).await?;
    for line in [
        "BATCH_AGE=30ms  # command line",
        "BATCH_BYTES=1048576  # default",
        "DEVELOPMENT=true  # environment",
        "MYSQL_URL=***  # environment",
        "ADMIN_TOKEN=***  # file",
        "REDIS_TTL=  # unset",
    ] {
        ensure!(shown.text.lines().any(|found| found == line), "{line} is not in {}", shown.text);
    }
    for secret in ["mysql://", "redis://", token] {
        ensure!(!shown.text.contains(secret), "{secret} is in {}", shown.text);
    }
    finish(world, [worker]).await
}
