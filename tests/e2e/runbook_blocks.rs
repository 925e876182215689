//! Blocks of the runbook that tests run, each unchanged.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::prometheus::deploy_folder;
use ljwx_tests::stack::launch::program_folder;
use ljwx_tests::stack::world::{TIME_ZONE, World};
use tokio::process::Command;

/// The longest that one block may take.
const BLOCK_WITHIN: Duration = Duration::from_secs(60);

/// Environment variables of a block.
pub type Variables = Vec<(&'static str, String)>;

/// A block to run, and the line at which it begins.
#[derive(Debug)]
pub struct Block {
    pub line: usize,
    pub script: String,
}

/// Returns the blocks of shell commands with this mark: of the section under this heading, or of
/// the whole runbook.
pub fn blocks(mark: &str, section: Option<&str>) -> Result<Vec<Block>> {
    let text = std::fs::read_to_string(deploy_folder().join("runbook.md"))?;
    let fence = format!("```sh {mark}");
    let mut within = section.is_none();
    let mut blocks = Vec::new();
    // The open block, and whether it is one of those.
    let mut open: Option<(bool, Block)> = None;
    for (number, line) in text.lines().enumerate() {
        match &mut open {
            None if line.trim().starts_with("```") => {
                let block = Block { line: number + 1, script: String::new() };
                open = Some((within && line.trim() == fence, block));
            }
            None => {
                if let Some(section) = section
                    && line.starts_with('#')
                {
                    within = line.trim_start_matches('#').trim() == section;
                }
            }
            Some(_) if line.trim() == "```" => {
                blocks.extend(
                    open.take().filter(|(is_marked, _)| *is_marked).map(|(_, block)| block),
                );
            }
            Some((_, block)) => {
                block.script.push_str(line);
                block.script.push('\n');
            }
        }
    }
    Ok(blocks)
}

/// Returns the variables that every block may use, with this world's addresses.
pub fn variables(world: &World) -> Result<Variables> {
    let path = format!("{}:{}", program_folder()?.display(), std::env::var("PATH")?);
    Ok(vec![
        ("PATH", path),
        ("KAFKA_BROKERS", world.stack.kafka_brokers.clone()),
        ("MYSQL_URL", world.database.url().to_owned()),
        ("REDIS_URL", world.stack.redis_url.clone()),
        ("READINGS_TOPIC", world.readings_topic.clone()),
        ("REJECTS_TOPIC", world.rejects_topic.clone()),
        ("WORKER_GROUP", world.worker_group.clone()),
        ("ALERTER_GROUP", world.alerter_group.clone()),
        ("TIME_ZONE", TIME_ZONE.to_owned()),
        ("LOG_FORMAT", "human".to_owned()),
    ])
}

/// Runs a block, which must succeed and print something. Returns what it prints.
pub async fn run(block: &Block, variables: &Variables) -> Result<String> {
    let Block { line, script } = block;
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(BLOCK_WITHIN, command.output())
        .await
        .with_context(|| format!("runbook.md:{line}: no end"))??;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(output.status.success(), "runbook.md:{line}:\n{script}{said}");
    ensure!(!said.trim().is_empty(), "runbook.md:{line} says nothing:\n{script}");
    Ok(said)
}
