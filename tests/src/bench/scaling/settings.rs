//! The settings of `bench scaling`. [`super::drill`] acts on them.

/// Partitions of the topic, as `worker migrate` makes them.
pub(super) const PARTITIONS: u32 = 12;

/// The settings of `bench scaling`.
#[derive(Debug, clap::Args)]
pub(crate) struct Settings {
    /// Divide the periods of the scaling policy and the steps of the load by this factor.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) faster: u32,
    /// Number of devices that take turns.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) devices: u32,
    /// Write the figures to a file under tests/bench/results.
    #[arg(long)]
    pub(super) save: bool,
}
