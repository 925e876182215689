//! `alerter silence`: adds, lists and ends silences.
//!
//! Every replica of the alerter reads the table, so the commands notify no process.

mod add;
mod end;
mod list;

#[cfg(test)]
mod tests;

use clap::Subcommand;
use ljwx_service::config::Problems;

use crate::commands::DatabaseArgs;
use crate::commands::silence::add::SilenceAddArgs;
use crate::commands::silence::end::SilenceEndArgs;
use crate::commands::silence::list::SilenceListArgs;

/// The commands of `alerter silence`.
#[derive(Debug, Clone, Subcommand)]
pub enum SilenceCommand {
    /// Suppress notifications for a period; alerts are still recorded, and alerts still open at the
    /// end are notified then.
    Add(Box<SilenceAddArgs>),
    /// List silences in effect or planned.
    List(SilenceListArgs),
    /// End a silence early.
    End(SilenceEndArgs),
}

impl SilenceCommand {
    /// Returns the settings that all of these commands have.
    pub fn tables(&self) -> &DatabaseArgs {
        match self {
            Self::Add(config) => &config.tables,
            Self::List(config) => &config.tables,
            Self::End(config) => &config.tables,
        }
    }

    pub(crate) fn validate(&self, problems: &mut Problems) {
        self.tables().validate(problems);
        match self {
            Self::Add(config) => config.validate(problems),
            Self::List(_) => {}
            Self::End(config) => config.validate(problems),
        }
    }

    /// Runs the command. Prints to standard output.
    pub async fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::Add(config) => config.run().await,
            Self::List(config) => list::run(config).await,
            Self::End(config) => config.run().await,
        }
    }
}
