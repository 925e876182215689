//! The alerter and its commands.

use std::process::ExitCode;

use alerter::commands::backtest::backtest;
use alerter::commands::rules_check::rules_check;
use alerter::commands::rules_list::rules_list;
use alerter::config::RulesCommand;
use alerter::{App, Config};

fn main() -> ExitCode {
    match common::config::parse_or_exit() {
        Config::Run(config) => common::lifecycle::run(
            || config.telemetry.init(alerter::SERVICE),
            async |telemetry, stop| App::build(&config, telemetry, &stop).await?.run(stop).await,
        ),
        Config::Rules(RulesCommand::Check(config)) => rules_check(&config),
        Config::Rules(RulesCommand::List(config)) => rules_list(&config),
        Config::Backtest(config) => common::lifecycle::run_to_code(
            || config.telemetry.init(alerter::SERVICE),
            ExitCode::FAILURE,
            async |_, stop| backtest(&config, stop).await,
        ),
        Config::Recipients(command) => alerter::commands::recipients::run(&command),
        Config::Silence(command) => common::lifecycle::run(
            || command.tables().telemetry.init(alerter::SERVICE),
            async |_, _| command.run().await,
        ),
        Config::Report(config) => common::lifecycle::run(
            || config.tables.telemetry.init(alerter::SERVICE),
            async |_, stop| config.run(stop).await,
        ),
        Config::Outbox(config) => alerter::commands::outbox::run(&config),
    }
}
