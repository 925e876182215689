//! `worker dlq`: lists dead letters and rejects, replays them, and deletes old ones.

mod args;
mod list;
mod record;
mod replay;
mod topic;

pub use args::DlqArgs;

use args::DlqAction;

/// Runs the action of `config` and prints to standard output.
pub async fn dlq(config: &DlqArgs) -> anyhow::Result<()> {
    match &config.action {
        DlqAction::Replay { dry_run, rate, max_replays, name } => {
            replay::run(config, *dry_run, *rate, *max_replays, name).await
        }
        DlqAction::Purge { execute } => topic::purge(config, *execute).await,
        DlqAction::List { .. } | DlqAction::Show { .. } => {
            let config = config.clone();
            tokio::task::spawn_blocking(move || list::list_or_show(&config)).await?
        }
    }
}
