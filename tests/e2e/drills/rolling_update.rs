//! The services of the last release are replaced by those of this one, one after the other, under
//! load.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::fakes::platform::{self, HEART_RATE_HIGH};
use ljwx_tests::fakes::wechat::FakeWechat;
use ljwx_tests::fleet::{Fleet, Settings};
use ljwx_tests::stack::launch::Launch;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;

use super::drill::Drill;
use crate::support::{SOON, delivered, evaluated, finish, judge, last_release_of, measure};

/// The longest load. It ends with the update.
const UPDATE_MAX: Duration = Duration::from_secs(180);

/// Readings that make an update one under load.
const UPDATE_READINGS: u64 = 3_000;

/// Number of the first device that is not one of the fleet's.
const FIRST_DEVICE: usize = 900_000_000;

/// A service that is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gateway,
    Worker,
    Alerter,
}

/// The running services.
struct Site {
    world: World,
    wechat: FakeWechat,
    gateway: Service,
    worker: Service,
    alerter: Service,
}

impl Site {
    /// Starts the last release, with the tables that it creates.
    async fn start(name: &str) -> Result<Self> {
        let world = World::shared(name).await?;
        let migrate = former(&world, world.launch("worker", &["migrate"]), "worker")?;
        let done = migrate.finish().await?;
        ensure!(done.code == Some(0), "{}", done.text);
        platform::seed(&world, &[HEART_RATE_HIGH]).await?;
        let wechat = FakeWechat::start().await?;
        let gateway = former(&world, world.gateway(), "gateway")?;
        let worker = former(&world, world.worker(), "worker")?;
        let alerter = former(&world, world.alerter(&wechat), "alerter")?;
        let (gateway, worker, alerter) =
            tokio::try_join!(gateway.start(), worker.start(), alerter.start())?;
        Ok(Self { world, wechat, gateway, worker, alerter })
    }

    /// Replaces a service. Its successor runs beside it for a moment; a gateway's takes over the
    /// address.
    async fn replace(&mut self, kind: Kind) -> Result<()> {
        let former = match kind {
            Kind::Gateway => {
                let address = self.gateway.listen().context("an address")?;
                self.gateway.signal("TERM").await?;
                let ended = self.gateway.ended().await?;
                ensure!(ended.success(), "the former gateway ended with {ended}");
                self.gateway = self.world.gateway().at(address).start().await?;
                return Ok(());
            }
            Kind::Worker => {
                let next = self.world.worker().start().await?;
                std::mem::replace(&mut self.worker, next)
            }
            Kind::Alerter => {
                let next = self.world.alerter(&self.wechat).start().await?;
                std::mem::replace(&mut self.alerter, next)
            }
        };
        let ended = former.terminate().await?;
        ensure!(ended.success(), "the former {kind:?} ended with {ended}");
        Ok(())
    }

    /// Sends readings of a patient, the last one of now.
    async fn measure(&self, patient: usize, rates: &[i32]) -> Result<()> {
        let device = self.world.device(FIRST_DEVICE + patient);
        let now = jiff::Timestamp::now().as_second();
        measure(&self.gateway, &device, now, rates).await
    }
}

/// Launches the last release's program instead, with all rights on the database: it knows no
/// accounts with fewer.
fn former(world: &World, launch: Launch, program: &str) -> Result<Launch> {
    Ok(launch.program(last_release_of(program)?).env("MYSQL_URL", world.database.url()))
}

async fn updated(name: &str, order: [Kind; 3]) -> Result<()> {
    let mut site = Site::start(name).await?;
    let mut drill = Drill::read("Rolling update from 0.2.0", &site.world)?;
    drill.step().await?;
    site.world.grant().await?;
    let fleet = Fleet::start(&Settings {
        url: site.gateway.url("/upload_health_data"),
        serial_prefix: site.world.serial_prefix(),
        devices: 400,
        rate: 200.0,
        drifting: 0,
        duration: UPDATE_MAX,
        ..Settings::default()
    })
    .await?;
    // One patient breaches before each replacement, and all recover after the last.
    for (patient, kind) in order.into_iter().enumerate() {
        site.measure(patient, &[130, 131, 132]).await?;
        delivered(&site.wechat, patient as u64 + 1).await?;
        site.replace(kind).await?;
    }
    eventually(SOON, "the load was one", || async {
        let acknowledged = fleet.progress(|report| report.acknowledged);
        Ok((acknowledged >= UPDATE_READINGS).then_some(()))
    })
    .await?;
    for patient in 0..order.len() {
        site.measure(patient, &[80]).await?;
    }
    delivered(&site.wechat, 2 * order.len() as u64).await?;
    fleet.stop();
    let mut report = fleet.finish().await?;
    report.history.note_others();
    judge(&site.world, &report).await?;
    evaluated(&site.world).await?;
    drill.step().await?;
    drill.end()?;
    let messages = site.wechat.messages();
    ensure!(messages.len() == 2 * order.len(), "{messages:#?}");
    let Site { world, gateway, worker, alerter, .. } = site;
    finish(world, [gateway, worker, alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_first_and_alerters_last_loses_and_repeats_nothing() -> Result<()> {
    updated("gatewayfirst", [Kind::Gateway, Kind::Worker, Kind::Alerter]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn alerters_first_and_gateways_last_loses_and_repeats_nothing() -> Result<()> {
    updated("alerterfirst", [Kind::Alerter, Kind::Worker, Kind::Gateway]).await
}
