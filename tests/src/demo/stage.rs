//! The stage of a run: starts the services in their world and stops them. Load and account belong
//! to [`mod@super::run`].

use super::targets::Targets;
use crate::fakes::platform::{self, BLOOD_OXYGEN_LOW, HEART_RATE_HIGH, TEMPERATURE_HIGH};
use crate::fakes::wechat::FakeWechat;
use crate::stack::process::Service;
use crate::stack::world::World;

/// Partitions of the demo's topics, as in production.
const PARTITIONS: u32 = 12;

/// The services of a run and their surroundings.
pub(super) struct Stage {
    pub(super) gateway: Service,
    pub(super) workers: [Service; 2],
    alerter: Service,
    pub(super) wechat: FakeWechat,
    targets: Option<Targets>,
    // This field is last, because the world must outlive the services.
    pub(super) world: World,
}

impl Stage {
    /// Creates a world with tables, topics and rules.
    pub(super) async fn world() -> anyhow::Result<World> {
        let world = World::shared("demo").await?.with_partitions(PARTITIONS);
        world.migrate().await?;
        let rules = [HEART_RATE_HIGH, BLOOD_OXYGEN_LOW, TEMPERATURE_HIGH];
        platform::seed(&world, &rules).await?;
        Ok(world)
    }

    /// Starts the services in that world and adds them to Prometheus, if there is one.
    pub(super) async fn start(world: World) -> anyhow::Result<Self> {
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
        Ok(stage)
    }

    pub(super) fn services(&self) -> impl Iterator<Item = &Service> {
        [&self.gateway].into_iter().chain(&self.workers).chain([&self.alerter])
    }

    /// Ends the services in the order in which the data flows.
    pub(super) async fn stop(self, passed: bool) -> anyhow::Result<()> {
        // Remove the targets before the services end: their end would look like a failure.
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
