//! `alerter silence end`: ends a silence early.
//!
//! [`crate::notify::silences::table`] holds the statements.

use anyhow::bail;
use clap::Args;
use ljwx_service::config::Problems;
use tracing::info;

use super::add::{AUTHOR_CHARS_MAX, require_text};
use super::list::print_line;
use crate::commands::{DatabaseArgs, wall};
use crate::notify::silences::table;

/// Settings of `silence end`.
#[derive(Debug, Clone, Args)]
pub struct SilenceEndArgs {
    /// Number of the silence, as `silence list` prints it.
    pub id: i64,
    /// Person who ends the silence.
    #[arg(long, env = "USER")]
    pub author: String,
    /// The tables.
    #[command(flatten)]
    pub tables: DatabaseArgs,
}

impl SilenceEndArgs {
    /// Adds what is wrong with the settings to `problems`.
    pub(super) fn validate(&self, problems: &mut Problems) {
        require_text("--author", &self.author, AUTHOR_CHARS_MAX, problems);
    }

    pub(super) async fn run(&self) -> anyhow::Result<()> {
        let zone = &self.tables.zone.zone;
        let pool = self.tables.mysql.connect(zone)?;
        let id = self.id;
        if table::end(&pool, id, self.author.trim()).await? {
            info!(silence.id = id, author = self.author.trim(), "silence ended");
            return print_line(&format!("silence {id} ended: nothing is kept back within 10 s\n"));
        }
        match table::find(&pool, id).await? {
            None => bail!("there is no silence {id}: `alerter silence list` shows those there are"),
            Some(record) => {
                let ended = record.ended_at.unwrap_or(record.silence.ends_at);
                bail!("silence {id} is over since {}", wall(ended, zone))
            }
        }
    }
}
