//! The alerter and its commands.

use std::process::ExitCode;

use alerter::config::RulesCommand;
use alerter::{App, Config};

fn main() -> ExitCode {
    match common::config::parse_or_exit() {
        Config::Run(config) => common::lifecycle::run(
            || config.telemetry.init("alerter"),
            async |telemetry, stop| App::build(&config, telemetry, &stop).await?.run(stop).await,
        ),
        Config::Rules(RulesCommand::Check(config)) => alerter::check_rules(&config),
        Config::Recipients(command) => alerter::commands::recipients::run(&command),
        Config::Silence(command) => common::lifecycle::run(
            || command.tables().telemetry.init("alerter"),
            async |_, _| command.run().await,
        ),
        Config::Report(config) => common::lifecycle::run(
            || config.tables.telemetry.init("alerter"),
            async |_, stop| config.run(stop).await,
        ),
        Config::Outbox(config) => alerter::commands::outbox::run(&config),
    }
}
