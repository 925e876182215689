//! The settings of `bench store`. [`mod@super::measure`] acts on them.

use std::time::Duration;

use clap::ValueEnum;

use crate::bench::workload::Workload;
use crate::fleet::duration;

/// Partitions of the topic.
pub(super) const PARTITIONS: u32 = 6;

/// The settings of `bench store`.
#[derive(Debug, clap::Args)]
pub(crate) struct Settings {
    /// Readings of one run.
    #[arg(long, default_value_t = 600_000)]
    pub(super) readings: usize,
    /// Rounds, in which all that is measured takes turns; 0: only what --soak asks for.
    #[arg(long, default_value_t = 5)]
    pub(super) rounds: usize,
    /// Workloads, may be repeated; all of them if none is named.
    #[arg(long = "workload", value_enum)]
    workloads: Vec<Workload>,
    /// Flood a worker for this time as well, and measure its memory.
    #[arg(long, value_parser = duration)]
    pub(super) soak: Option<Duration>,
    /// Write the figures to a file under tests/bench/results.
    #[arg(long)]
    pub(super) save: bool,
}

impl Settings {
    /// Returns the workloads to measure.
    pub(super) fn workloads(&self) -> &[Workload] {
        match &self.workloads[..] {
            [] => Workload::value_variants(),
            some => some,
        }
    }
}
