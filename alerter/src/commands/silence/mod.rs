//! `alerter silence`: adds silences, lists them, ends them.
//!
//! Every replica of the alerter follows the table, so nothing else has to be told.

mod add;
mod end;
mod list;

#[cfg(test)]
mod tests;

use clap::Subcommand;
use ljwx_service::config::Problems;

use crate::commands::TableArgs;
use crate::commands::silence::add::AddConfig;
use crate::commands::silence::end::EndConfig;
use crate::commands::silence::list::ListConfig;

/// What can be done with silences.
#[derive(Debug, Clone, Subcommand)]
pub enum SilenceCommand {
    /// Keep notifications back for a while; alerts are recorded all the same, and what still lasts
    /// at the end is told then.
    Add(Box<AddConfig>),
    /// Show silences that last or are to come.
    List(ListConfig),
    /// End a silence before its time.
    End(EndConfig),
}

impl SilenceCommand {
    /// The settings all of them have.
    pub fn tables(&self) -> &TableArgs {
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

    /// Does it; prints to standard output.
    pub async fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::Add(config) => config.run().await,
            Self::List(config) => list::run(config).await,
            Self::End(config) => config.run().await,
        }
    }
}
