//! The gateway: takes what devices send and acknowledges only what Kafka has.

use std::process::ExitCode;

use gateway::{App, Config};

fn main() -> ExitCode {
    let config: Config = common::config::parse_or_exit();
    common::lifecycle::run(
        || config.telemetry.init(gateway::SERVICE),
        async |telemetry, stop| App::build(&config, telemetry).await?.run(stop).await,
    )
}
