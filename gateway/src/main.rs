//! The gateway: receives readings and acknowledges only what Kafka has confirmed.

use std::process::ExitCode;

use ljwx_gateway::{App, Config};

fn main() -> ExitCode {
    let config: Config = ljwx_service::config::parse_or_exit();
    ljwx_service::lifecycle::run(
        || config.telemetry.init(ljwx_gateway::SERVICE),
        async |telemetry, stop| App::build(&config, telemetry).await?.run(stop).await,
    )
}
