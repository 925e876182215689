//! `fleet`: simulated devices that send readings to a gateway at a planned rate.

use clap::Parser;
use ljwx_tests::fleet::{self, Settings};

/// Send readings of simulated watches and phones to a gateway at a planned rate, and print a
/// summary of the answers.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    settings: Settings,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the summary is what this program is for")]
async fn main() -> anyhow::Result<()> {
    let Arguments { settings } = Arguments::parse();
    let fleet = fleet::Fleet::start(&settings).await?;
    let report = tokio::select! {
        // Ctrl-C ends the measuring. The devices still send the readings that they hold.
        _ = tokio::signal::ctrl_c() => { fleet.stop(); fleet.finish().await? }
        () = ended(&settings) => fleet.finish().await?,
    };
    println!("{report}");
    Ok(())
}

async fn ended(settings: &Settings) {
    ljwx_tests::stack::wait::pass(settings.duration).await;
}
