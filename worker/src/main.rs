//! The worker and its commands.

use std::process::ExitCode;

use worker::{App, Config};

fn main() -> ExitCode {
    let config: Config = common::config::parse_or_exit();
    match config {
        Config::Run(config) => common::lifecycle::run(
            || config.telemetry.init("worker"),
            async |telemetry, stop| App::build(&config, telemetry, &stop).await?.run(stop).await,
        ),
        Config::Migrate(config) => common::lifecycle::run(
            || config.telemetry.init("worker"),
            async |_, _| worker::migrate(&config).await,
        ),
    }
}
