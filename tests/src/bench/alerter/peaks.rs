//! Measures the alerter at rare peaks, each against a bound. The peaks belong to [`super::missing`],
//! [`super::assigned`], [`super::owed`] and [`super::resting`].

use clap::ValueEnum;

use super::{assigned, missing, owed, resting};
use crate::bench::series;
use crate::bench::table::{Table, machine};
use crate::stack::world::World;

/// The settings of `bench peaks`.
#[derive(Debug, clap::Args)]
pub(crate) struct Settings {
    /// Peak to measure, may be repeated; all of them if none is named.
    #[arg(long = "peak", value_enum)]
    peaks: Vec<Peak>,
    /// Write the figures to a file under tests/bench/results.
    #[arg(long)]
    save: bool,
}

/// A rare load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peak {
    /// Thousands of devices fall silent at once.
    Missing,
    /// An alerter takes over a million devices.
    Assigned,
    /// Thousands of alerts owe a notification.
    Owed,
    /// A hundred thousand notifications wait for an account that rests.
    Resting,
}

/// Measures the peaks one after the other.
pub(crate) async fn measure(settings: &Settings, table: &mut Table) -> anyhow::Result<()> {
    let peaks = match &settings.peaks[..] {
        [] => Peak::value_variants(),
        some => some,
    };
    for peak in peaks {
        match peak {
            Peak::Missing => missing::measure(table).await?,
            Peak::Assigned => assigned::measure(table).await?,
            Peak::Owed => owed::measure(table).await?,
            Peak::Resting => resting::measure(table).await?,
        }
    }
    if settings.save { save(table).await } else { Ok(()) }
}

async fn save(table: &Table) -> anyhow::Result<()> {
    let world = World::shared("bench").await?;
    let version = world.database.version().await?;
    world.finish().await?;
    let (database, date) = (series::database(&version), series::today());
    let text = format!(
        "# The alerter at rare peaks on {database}, {date}\n\n{}\n\nserver: {version}\n\nProcessor time \
         is in percent of one core.\n\n{}",
        machine(),
        table.markdown()
    );
    series::keep(&format!("peaks-{database}-{date}.md"), &text)
}
