//! `worker dlq`: lists dead letters and rejects, replays them, and deletes old ones.

pub(crate) mod args;
mod list;
mod purge;
pub(crate) mod record;
mod replay;
mod replay_position;
mod topic;

pub use args::DlqArgs;

use args::DlqAction;
use ljwx_service::lifecycle::interruptible;
use tokio_util::sync::CancellationToken;

/// Runs the action of `config` and prints to standard output.
pub async fn dlq(config: &DlqArgs, stop: &CancellationToken) -> anyhow::Result<()> {
    match &config.action {
        DlqAction::Replay(settings) => replay::run(config, settings, stop).await,
        DlqAction::Purge(settings) => interruptible(stop, purge::run(config, settings)).await,
        DlqAction::List { .. } | DlqAction::Show { .. } => {
            let config = config.clone();
            // The thread is abandoned at a stop.
            let listing = tokio::task::spawn_blocking(move || list::list_or_show(&config));
            interruptible(stop, async { listing.await? }).await
        }
    }
}
