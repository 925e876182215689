//! The stage of a soak run: the services in their world, the links to the servers, and the fake
//! WeChat. It kills, freezes, replaces and scales services; servers belong to [`crate::stack`].

use std::net::SocketAddr;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, ensure};

use super::footprint::Footprint;
use super::notifications;
use crate::fakes::tcp_proxy::Proxy;
use crate::fakes::wechat::FakeWechat;
use crate::stack::launch::{Launch, free_address};
use crate::stack::process::Service;
use crate::stack::wait::pass;
use crate::stack::world::World;

/// Partitions of the topics, as in production.
const PARTITIONS: u32 = 12;

/// Workers and alerters between faults, and the workers of a scaled run.
const REPLICAS: usize = 2;
const WORKERS_MOST: usize = 4;
const WORKERS_FEWEST: usize = 1;

/// A limit of notifications that is never reached: each is to be sent alone and at once.
const UNLIMITED: &str = "1000000";

/// The words of a panic in the output of a service.
const PANICKED: &str = " panicked at ";

/// The kinds of services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Gateway,
    Worker,
    Alerter,
}

/// A running service.
pub(super) struct Member {
    pub(super) role: Role,
    pub(super) service: Service,
    /// The footprint after the first recovery that the service lived through.
    pub(super) baseline: Option<Footprint>,
}

/// A service that has ended by itself.
pub(super) struct Ended {
    pub(super) name: String,
    pub(super) status: ExitStatus,
    pub(super) panicked: bool,
}

/// The services of a run and their surroundings.
pub(super) struct Stage {
    pub(super) members: Vec<Member>,
    pub(super) wechat: FakeWechat,
    pub(super) database_link: Proxy,
    pub(super) redis_link: Proxy,
    gateway: SocketAddr,
    mysql_url: String,
    redis_url: String,
    // This field is last, because the world must outlive the services.
    pub(super) world: World,
}

impl Stage {
    /// Creates a world with tables, topics and the patients' rule, and starts the services in it.
    pub(super) async fn start() -> anyhow::Result<Self> {
        let world = World::exclusive("soak").await?.with_partitions(PARTITIONS);
        world.migrate().await?;
        notifications::seed(&world).await?;
        // Administrators of the server may write in spite of `read_only`, so the services get a
        // user without their rights.
        let mysql_url = world.database.create_user().await?;
        let database_link = Proxy::start(&mysql_url).await?;
        let redis_link = Proxy::start(&world.stack.redis_url).await?;
        let mut stage = Self {
            members: Vec::new(),
            wechat: FakeWechat::start().await?,
            mysql_url: database_link.url(&mysql_url)?,
            redis_url: redis_link.url(&world.stack.redis_url)?,
            database_link,
            redis_link,
            gateway: free_address()?,
            world,
        };
        stage.grow(Role::Gateway, 1)?;
        stage.grow(Role::Worker, REPLICAS)?;
        stage.grow(Role::Alerter, REPLICAS)?;
        for member in &mut stage.members {
            member.service.ready().await?;
        }
        Ok(stage)
    }

    /// The address to which devices send their readings. Every gateway of the run has it.
    pub(super) fn upload_url(&self) -> String {
        format!("http://{}/upload_health_data", self.gateway)
    }

    /// The number of services with connections to the database.
    pub(super) fn database_clients(&self) -> usize {
        self.members.iter().filter(|member| member.role != Role::Gateway).count()
    }

    /// Kills a service, and starts another in its place at once, as a supervisor does.
    pub(super) async fn kill(&mut self, role: Role, pick: u32) -> anyhow::Result<()> {
        let index = self.find(role, pick)?;
        self.members.remove(index).service.kill().await?;
        let next = self.begin(role)?;
        self.members.insert(index, next);
        Ok(())
    }

    /// Stops a service without ending it, and lets it go on after a while.
    pub(super) async fn freeze(
        &self,
        role: Role,
        pick: u32,
        lasts: Duration,
    ) -> anyhow::Result<()> {
        let service = &self.members[self.find(role, pick)?].service;
        service.signal("STOP").await?;
        pass(lasts).await;
        service.signal("CONT").await
    }

    /// Replaces all services, one after the other.
    pub(super) async fn restart_all(&mut self) -> anyhow::Result<()> {
        for index in 0..self.members.len() {
            let Member { role, service, .. } = self.members.remove(index);
            // The next one starts even if this one did not end in order.
            let ended = end(service).await;
            let next = self.begin(role)?;
            self.members.insert(index, next);
            ended?;
            self.members[index].service.ready().await?;
        }
        Ok(())
    }

    /// Ends all workers but one, runs four for a while, then one, then as many as before.
    pub(super) async fn scale_workers(&mut self, lasts: Duration) -> anyhow::Result<()> {
        let down = self.shrink(Role::Worker, WORKERS_FEWEST).await;
        self.grow(Role::Worker, WORKERS_MOST)?;
        pass(lasts).await;
        let down_again = self.shrink(Role::Worker, WORKERS_FEWEST).await;
        self.grow(Role::Worker, REPLICAS)?;
        down.and(down_again)
    }

    /// Replaces the services that have ended by themselves. Returns how they ended.
    pub(super) fn supervise(&mut self) -> anyhow::Result<Vec<Ended>> {
        let mut ended = Vec::new();
        for index in 0..self.members.len() {
            let member = &mut self.members[index];
            let Some(status) = member.service.child.try_wait()? else { continue };
            let (role, service) = (member.role, &member.service);
            ended.push(Ended {
                name: service.name().to_owned(),
                status,
                panicked: service.output().contains(PANICKED),
            });
            self.members[index] = self.begin(role)?;
        }
        Ok(ended)
    }

    /// Ends the services in the order in which the data flows. Returns what did not end in order.
    pub(super) async fn end_all(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        for member in self.members.drain(..) {
            problems.extend(end(member.service).await.err().map(|error| format!("{error:#}")));
        }
        problems
    }

    /// Removes the world if the run is clean.
    pub(super) async fn remove(self, clean: bool) -> anyhow::Result<()> {
        if clean { self.world.finish().await } else { Ok(()) }
    }

    /// Starts services until there are `count` of this kind. Does not wait for them.
    fn grow(&mut self, role: Role, count: usize) -> anyhow::Result<()> {
        for _ in self.indices(role).len()..count {
            let next = self.begin(role)?;
            self.members.push(next);
        }
        Ok(())
    }

    /// Ends services until there are `count` of this kind.
    async fn shrink(&mut self, role: Role, count: usize) -> anyhow::Result<()> {
        let mut result = Ok(());
        for index in self.indices(role).into_iter().skip(count).rev() {
            let ended = end(self.members.remove(index).service).await;
            result = result.and(ended);
        }
        result
    }

    /// Returns the index of one service of a kind.
    fn find(&self, role: Role, pick: u32) -> anyhow::Result<usize> {
        let indices = self.indices(role);
        ensure!(!indices.is_empty(), "no {role:?} runs");
        Ok(indices[pick as usize % indices.len()])
    }

    fn indices(&self, role: Role) -> Vec<usize> {
        let of_role = self.members.iter().enumerate().filter(|(_, member)| member.role == role);
        of_role.map(|(index, _)| index).collect()
    }

    fn begin(&self, role: Role) -> anyhow::Result<Member> {
        let service = self.launch(role).spawn().with_context(|| format!("{role:?}"))?;
        Ok(Member { role, service, baseline: None })
    }

    fn launch(&self, role: Role) -> Launch {
        let launch = match role {
            Role::Gateway => self.world.gateway().at(self.gateway),
            Role::Worker => self.world.worker(),
            Role::Alerter => self
                .world
                .alerter(&self.wechat)
                .env("RECIPIENT_MESSAGES_PER_MINUTE", UNLIMITED)
                .env("ACCOUNT_MESSAGES_PER_SECOND", UNLIMITED),
        };
        // A world's services record every trace. These record as many as by default.
        launch
            .env("MYSQL_URL", &self.mysql_url)
            .env("MAINTENANCE_MYSQL_URL", &self.mysql_url)
            .env("REDIS_URL", &self.redis_url)
            .env("TRACE_SAMPLE_RATIO", "0.01")
    }
}

/// Ends a service, which must exit with 0.
async fn end(service: Service) -> anyhow::Result<()> {
    let name = service.name().to_owned();
    let status = service.terminate().await?;
    ensure!(status.success(), "{name} ended with {status} after SIGTERM");
    Ok(())
}
