//! The alerter and its commands.

use std::process::ExitCode;

use ljwx_alerter::commands::backtest::backtest;
use ljwx_alerter::commands::{accounts, run, send_test};
use ljwx_alerter::{App, Config};

fn main() -> ExitCode {
    match ljwx_service::config::parse_or_exit() {
        Config::Run(config) => ljwx_service::lifecycle::run(
            || config.telemetry.init(ljwx_alerter::SERVICE),
            async |telemetry, stop| App::build(&config, telemetry, &stop).await?.run().await,
        ),
        Config::Rules(command) => run(command.run()),
        Config::Backtest(config) => ljwx_service::lifecycle::run_to_code(
            || config.telemetry.init(ljwx_alerter::SERVICE),
            ExitCode::FAILURE,
            async |_, stop| backtest(&config, stop).await,
        ),
        Config::Recipients(command) => run(command.run()),
        Config::Accounts(command) => run(accounts::run(&command)),
        Config::SendTest(config) => run(send_test::run(&config)),
        Config::Silence(command) => run(command.run()),
        Config::Report(config) => run(config.run()),
        Config::Outbox(config) => run(config.run()),
        Config::Completions(config) => config.print::<Config>(),
    }
}
