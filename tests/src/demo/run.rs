//! Runs the demo from start to end: sets the stage, runs the fleet, and prints the account. The
//! figures on the screen belong to [`super::figures`], the verdict to [`super::account`].

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::account;
use super::arguments::Arguments;
use super::figures::Figures;
use super::probe::Marker;
use super::screen::{self, Screen};
use super::stage::Stage;
use crate::fleet::Fleet;

/// Samples of the end-to-end time from which the screen computes its percentiles.
const SAMPLES_MAX: usize = 60;

/// Runs the demo; `true` if everything is accounted for.
pub async fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let stop = stop_on_signal()?;
    let stage = tokio::select! {
        stage = set(&arguments) => stage?,
        () = stop.cancelled() => anyhow::bail!("interrupted while starting"),
    };
    play(stage, &arguments, &stop).await
}

/// Sets the stage and prints hints about it.
async fn set(arguments: &Arguments) -> anyhow::Result<Stage> {
    screen::say("creating tables and topics, seeding rules");
    let world = Stage::world().await?;
    screen::say("starting the gateway, two workers and the alerter");
    let stage = Stage::start(world).await?;
    screen::hints(&stage);
    let (devices, rate) = (arguments.devices, arguments.rate);
    screen::say(&format!("{devices} simulated devices send {rate} readings a second"));
    Ok(stage)
}

/// Runs the fleet with live figures, then accounts for every reading.
async fn play(
    stage: Stage,
    arguments: &Arguments,
    stop: &CancellationToken,
) -> anyhow::Result<bool> {
    let fleet = Fleet::start(&arguments.fleet(&stage.gateway, &stage.world)).await?;
    let mut marker = Marker::start(&stage.gateway, &stage.world, 1, SAMPLES_MAX);
    let mut screen = Screen::new();
    let end = Instant::now() + arguments.length();
    while Instant::now() < end && !stop.is_cancelled() {
        screen.show(&Figures::gather(&stage, &marker).await, &stage.wechat);
        tokio::select! {
            () = tokio::time::sleep(screen.refresh()) => {}
            () = stop.cancelled() => {}
        }
    }
    fleet.stop();
    let mut report = fleet.finish().await?;
    report.history.absorb(marker.finish().await);
    // The screen invites people to send readings of their own.
    report.history.note_others();
    screen.show(&Figures::gather(&stage, &marker).await, &stage.wechat);
    screen::say(&format!("the fleet has stopped\n{report}"));
    let verdict = account::account(&stage, arguments, &report).await?;
    screen.messages(&stage.wechat);
    let passed = account::print(&verdict);
    stage.stop(passed).await?;
    Ok(passed)
}

/// Makes Ctrl-C, SIGTERM and SIGHUP end the demo in order. A second signal ends it at once.
fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        for last in [false, true] {
            tokio::select! {
                _ = interrupt.recv() => {},
                _ = terminate.recv() => {},
                _ = hangup.recv() => {},
            }
            token.cancel();
            if last {
                // The services die with this process.
                std::process::exit(130);
            }
        }
    });
    Ok(stop)
}
