//! `worker dlq`: lists dead letters and rejects, replays them, and deletes old ones.

mod args;
mod list;
mod record;
mod replay;
mod topic;

pub use args::DlqConfig;

use args::Action;

/// Runs the action of `config` and prints to standard output.
pub async fn dlq(config: &DlqConfig) -> anyhow::Result<()> {
    match &config.action {
        Action::Replay { dry_run, rate, max_replays, name } => {
            replay::run(config, *dry_run, *rate, *max_replays, name).await
        }
        Action::Purge { execute } => topic::purge(config, *execute).await,
        Action::List { .. } | Action::Show { .. } => {
            let config = config.clone();
            tokio::task::spawn_blocking(move || list::look(&config)).await?
        }
    }
}
