//! Runs the worker or one of its commands.

use std::process::ExitCode;

use ljwx_service::lifecycle::interruptible;
use ljwx_worker::{App, Config};

fn main() -> ExitCode {
    let config: Config = ljwx_service::config::parse_or_exit();
    match config {
        Config::Run(config) => ljwx_service::lifecycle::run(
            || config.telemetry.init(ljwx_worker::SERVICE),
            async |telemetry, stop| {
                let app = tokio::select! {
                    app = App::build(&config, telemetry, &stop) => app?,
                    () = stop.cancelled() => return Ok(()),
                };
                app.run(stop).await
            },
        ),
        Config::Migrate(config) => ljwx_service::lifecycle::run(
            || config.telemetry.init(ljwx_worker::SERVICE),
            async |_, _| ljwx_worker::migrate(&config).await,
        ),
        Config::Adopt(config) => ljwx_service::lifecycle::run_to_code(
            || config.telemetry.init(ljwx_worker::SERVICE),
            ExitCode::from(config.exit_code_of_error()),
            async |_, stop| ljwx_worker::adopt(&config, stop).await,
        ),
        Config::Status(config) => ljwx_service::lifecycle::run_to_code(
            || config.telemetry.init(ljwx_worker::SERVICE),
            ExitCode::from(ljwx_worker::EXIT_UNKNOWN),
            async |_, stop| interruptible(&stop, ljwx_worker::status(&config)).await,
        ),
        Config::Audit(config) => ljwx_service::lifecycle::run_to_code(
            || config.telemetry.init(ljwx_worker::SERVICE),
            ExitCode::from(ljwx_worker::EXIT_UNKNOWN),
            async |_, stop| interruptible(&stop, ljwx_worker::audit(&config)).await,
        ),
        Config::Where(config) => ljwx_service::lifecycle::run_to_code(
            || config.telemetry.init(ljwx_worker::SERVICE),
            ExitCode::from(ljwx_worker::EXIT_UNKNOWN),
            async |_, stop| interruptible(&stop, ljwx_worker::where_is(&config)).await,
        ),
        Config::Erase(config) => ljwx_service::lifecycle::run_to_code(
            || config.subject.telemetry.init(ljwx_worker::SERVICE),
            ExitCode::from(ljwx_worker::EXIT_UNKNOWN),
            async |_, stop| ljwx_worker::erase(&config, stop).await,
        ),
        Config::Export(config) => ljwx_service::lifecycle::run_to_code(
            || config.telemetry.init(ljwx_worker::SERVICE),
            ExitCode::from(ljwx_worker::EXIT_UNKNOWN),
            async |_, stop| interruptible(&stop, ljwx_worker::export(&config)).await,
        ),
        Config::Dlq(config) => ljwx_service::lifecycle::run(
            || config.telemetry.init(ljwx_worker::SERVICE),
            async |_, stop| ljwx_worker::dlq(&config, &stop).await,
        ),
        Config::Pause(config) => ljwx_service::lifecycle::run(
            || config.telemetry.init(ljwx_worker::SERVICE),
            async |_, _| ljwx_worker::set_paused(&config, true).await,
        ),
        Config::Resume(config) => ljwx_service::lifecycle::run(
            || config.telemetry.init(ljwx_worker::SERVICE),
            async |_, _| ljwx_worker::set_paused(&config, false).await,
        ),
        Config::Completions(config) => config.print::<Config>(),
        Config::Offsets(config) => ljwx_service::lifecycle::run(
            || config.telemetry.init(ljwx_worker::SERVICE),
            async |_, stop| interruptible(&stop, ljwx_worker::offsets(&config)).await,
        ),
    }
}
