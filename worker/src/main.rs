//! The worker and its commands.

use std::process::ExitCode;

use worker::{App, Config};

fn main() -> ExitCode {
    let config: Config = common::config::parse_or_exit();
    match config {
        Config::Run(config) => common::lifecycle::run(
            || config.telemetry.init(worker::SERVICE),
            async |telemetry, stop| {
                let app = tokio::select! {
                    app = App::build(&config, telemetry, &stop) => app?,
                    () = stop.cancelled() => return Ok(()),
                };
                app.run(stop).await
            },
        ),
        Config::Migrate(config) => common::lifecycle::run(
            || config.telemetry.init(worker::SERVICE),
            async |_, _| worker::migrate(&config).await,
        ),
        Config::Audit(config) => common::lifecycle::run_to_code(
            || config.telemetry.init(worker::SERVICE),
            ExitCode::from(worker::EXIT_UNKNOWN),
            async |_, stop| worker::audit(&config, stop).await,
        ),
        Config::Dlq(config) => common::lifecycle::run(
            || config.telemetry.init(worker::SERVICE),
            async |_, _| worker::dlq(&config).await,
        ),
        Config::Pause(config) => common::lifecycle::run(
            || config.telemetry.init(worker::SERVICE),
            async |_, _| worker::control(&config, true).await,
        ),
        Config::Resume(config) => common::lifecycle::run(
            || config.telemetry.init(worker::SERVICE),
            async |_, _| worker::control(&config, false).await,
        ),
        Config::Offsets(config) => common::lifecycle::run_to_code(
            || config.telemetry.init(worker::SERVICE),
            ExitCode::FAILURE,
            async |_, stop| worker::offsets(&config, stop).await,
        ),
    }
}
