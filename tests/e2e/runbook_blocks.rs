//! Blocks of the runbook that tests run, each unchanged.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::prometheus::deploy_folder;
use ljwx_tests::repo::markdown::{self, Block};
use ljwx_tests::stack::accounts::Account;
use ljwx_tests::stack::launch::program_folder;
use ljwx_tests::stack::world::{TIME_ZONE, World};
use tokio::process::Command;

/// The longest that one block may take.
const BLOCK_WITHIN: Duration = Duration::from_secs(60);

/// Environment variables of a block.
pub type Variables = Vec<(&'static str, String)>;

/// Returns the blocks of shell commands with this mark: of the section under this heading, or of
/// the whole runbook.
pub fn blocks(mark: &str, section: Option<&str>) -> Result<Vec<Block>> {
    let text = std::fs::read_to_string(deploy_folder().join("runbook.md"))?;
    let info = format!("sh {mark}");
    let mut blocks = markdown::blocks(&text);
    blocks.retain(|block| {
        block.info == info && section.is_none_or(|section| block.section == section)
    });
    Ok(blocks)
}

/// Returns the variables that every block may use, with this world's addresses.
pub fn variables(world: &World) -> Result<Variables> {
    let path = format!("{}:{}", program_folder()?.display(), std::env::var("PATH")?);
    Ok(vec![
        ("PATH", path),
        ("KAFKA_BROKERS", world.stack.kafka_brokers.clone()),
        ("MYSQL_URL", world.accounts.url(Account::Operator)),
        // Kafka of the stack knows no accounts.
        ("MIGRATE_KAFKA_SET", "security.protocol=plaintext".to_owned()),
        ("MIGRATE_MYSQL_URL", world.accounts.url(Account::Migrate)),
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
    let Block { line, text, .. } = block;
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", text]);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(BLOCK_WITHIN, command.output())
        .await
        .with_context(|| format!("runbook.md:{line}: no end"))??;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    ensure!(output.status.success(), "runbook.md:{line}:\n{text}{said}");
    ensure!(!said.trim().is_empty(), "runbook.md:{line} says nothing:\n{text}");
    Ok(said)
}
