//! The demo: the whole pipeline with a simulated fleet, what it does shown live, and at its end an
//! account of every reading.

mod account;
mod figures;
mod probe;
mod screen;
mod targets;

use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fakes::platform::{self, BLOOD_OXYGEN_LOW, HEART_RATE_HIGH, TEMPERATURE_HIGH};
use crate::fakes::wechat::FakeWechat;
use crate::fleet::{Fleet, Settings, duration};
use crate::stack::process::Service;
use crate::stack::world::World;

use figures::Figures;
pub(crate) use probe::Marker;
use screen::Screen;
use targets::Targets;

/// Partitions of the demo's topics, as in production.
const PARTITIONS: u32 = 12;

/// The times from sending to the visible row that the screen judges by.
const SAMPLES_MAX: usize = 60;

/// Length of a smoke run.
const SMOKE: Duration = Duration::from_secs(30);

/// Runs the whole pipeline on the real servers with a simulated fleet, shows live what happens, and
/// accounts for every reading at its end. Start it through `deploy/stack run -- target/debug/demo`.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Arguments {
    /// Run for 30 s, check the accounting, and exit 0 or 1.
    #[arg(long)]
    smoke: bool,
    /// How many simulated devices.
    #[arg(long, default_value_t = 300)]
    devices: u32,
    /// Readings per second of all devices together.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// How many patients drift into a breach and recover.
    #[arg(long, default_value_t = 3)]
    drifting: u32,
    /// Longest run, such as 10m; Ctrl-C ends it before.
    #[arg(long, default_value = "2h", value_parser = duration)]
    duration: Duration,
    /// Seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the demo; `true` where everything is accounted for.
pub async fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let stop = stop_on_signal()?;
    let stage = tokio::select! {
        stage = Stage::set(&arguments) => stage?,
        () = stop.cancelled() => anyhow::bail!("interrupted while starting"),
    };
    stage.play(&arguments, &stop).await
}

/// The services of a run and their surroundings.
struct Stage {
    gateway: Service,
    workers: [Service; 2],
    alerter: Service,
    wechat: FakeWechat,
    targets: Option<Targets>,
    // Last: it must outlive the services.
    world: World,
}

impl Stage {
    async fn set(arguments: &Arguments) -> anyhow::Result<Self> {
        screen::say("creating tables and topics, seeding rules");
        let world = World::shared("demo").await?.with_partitions(PARTITIONS);
        world.migrate().await?;
        let rules = [HEART_RATE_HIGH, BLOOD_OXYGEN_LOW, TEMPERATURE_HIGH];
        platform::seed(&world, &rules).await?;
        screen::say("starting the gateway, two workers and the alerter");
        let wechat = FakeWechat::start().await?;
        let (gateway, first, second, alerter) = tokio::try_join!(
            world.gateway().start(),
            world.worker().start(),
            world.worker().start(),
            world.alerter(&wechat).start(),
        )?;
        let mut stage =
            Self { gateway, workers: [first, second], alerter, wechat, targets: None, world };
        if let Some(folder) = &stage.world.stack.prometheus_targets {
            stage.targets = Some(Targets::write(folder, stage.services())?);
        }
        screen::hints(&stage);
        let (devices, rate) = (arguments.devices, arguments.rate);
        screen::say(&format!("{devices} simulated devices send {rate} readings a second"));
        Ok(stage)
    }

    fn services(&self) -> impl Iterator<Item = &Service> {
        [&self.gateway].into_iter().chain(&self.workers).chain([&self.alerter])
    }

    async fn play(self, arguments: &Arguments, stop: &CancellationToken) -> anyhow::Result<bool> {
        let length = if arguments.smoke { SMOKE } else { arguments.duration };
        let fleet = Fleet::start(&Settings {
            url: self.gateway.url("/upload_health_data"),
            devices: arguments.devices,
            rate: arguments.rate,
            drifting: arguments.drifting,
            seed: arguments.seed,
            duration: length,
            serial_prefix: self.world.serial_prefix(),
            ..Settings::default()
        })
        .await?;
        let mut marker = Marker::start(&self.gateway, &self.world, 1, SAMPLES_MAX);
        let mut screen = Screen::new();
        let end = Instant::now() + length;
        while Instant::now() < end && !stop.is_cancelled() {
            screen.show(&Figures::gather(&self, &marker).await, &self.wechat);
            tokio::select! {
                () = tokio::time::sleep(screen.refresh()) => {}
                () = stop.cancelled() => {}
            }
        }
        fleet.stop();
        let mut report = fleet.finish().await?;
        report.history.absorb(marker.finish().await);
        // Whoever watches was invited to send readings of their own.
        report.history.note_others();
        screen.show(&Figures::gather(&self, &marker).await, &self.wechat);
        screen::say(&format!("the fleet has stopped\n{report}"));
        let verdict = account::account(&self, arguments, &report).await?;
        screen.messages(&self.wechat);
        let passed = account::print(&verdict);
        self.stop(passed).await?;
        Ok(passed)
    }

    /// Ends the services in the order of the data's way.
    async fn stop(self, passed: bool) -> anyhow::Result<()> {
        // Before the services, or their end would look like a failure.
        drop(self.targets);
        self.gateway.terminate().await?;
        let [first, second] = self.workers;
        tokio::try_join!(first.terminate(), second.terminate(), self.alerter.terminate())?;
        if passed {
            self.world.finish().await?;
        }
        Ok(())
    }
}

/// Ctrl-C, SIGTERM and SIGHUP end the demo in order; a second one ends it at once.
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
