//! Redis with a replica, each with a password. The worker follows the primary: Sentinel names it,
//! or only the refusals of the other server show it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::redis::Cache;
use ljwx_tests::fakes::tcp_proxy::Proxy;
use ljwx_tests::stack::launch::{free_address, program_folder};
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use tokio::process::{Child, Command};

use crate::support::{AT, RECOVERED_WITHIN, finish, send, settled, shown};

/// The passwords of Redis and of Sentinel.
const PASSWORD: &str = "of-the-data";
const WATCHER_PASSWORD: &str = "of-the-watcher";

/// A server that belongs to the test. It is killed when dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Starts `redis-server` with this configuration on a port of its own.
    fn start(folder: &Path, name: &str, configuration: &str, arguments: &[&str]) -> Result<Self> {
        let port = free_address()?.port();
        let file = folder.join(format!("{name}.conf"));
        std::fs::write(
            &file,
            format!("port {port}\nbind 127.0.0.1\ndir {}\n{configuration}", folder.display()),
        )?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "redis-server"])
            .arg(file)
            .args(arguments)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("setpriv or redis-server could not be run")?;
        Ok(Self { child, port })
    }

    fn url(&self) -> String {
        format!("redis://default:{PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// Connects to the server once it answers.
    async fn cache(&self) -> Result<Cache> {
        let url = self.url();
        eventually(RECOVERED_WITHIN, "Redis answers", || async {
            Ok(Cache::connect(&url).await.ok())
        })
        .await
    }
}

fn data(primary: Option<u16>) -> String {
    let follows = primary.map_or_else(String::new, |port| format!("replicaof 127.0.0.1 {port}\n"));
    format!(
        "requirepass {PASSWORD}\nmasterauth {PASSWORD}\nsave \"\"\nrepl-diskless-sync-delay 0\n{follows}"
    )
}

/// Creates and returns the folder of a world's own servers.
fn folder(world: &World) -> Result<PathBuf> {
    let folder = program_folder()?.join("..").join("logs").join(world.app_id());
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_has_become_a_replica_is_left_though_no_connection_is_cut() -> Result<()> {
    let world = World::shared("demoted").await?;
    let folder = folder(&world)?;
    let former = Server::start(&folder, "former", &data(None), &[])?;
    let next = Server::start(&folder, "next", &data(None), &[])?;
    let (before, after) = (former.cache().await?, next.cache().await?);
    let proxy = Proxy::start(&former.url()).await?;
    world.migrate().await?;
    let worker = world.worker().env("REDIS_URL", proxy.url(&former.url())?);
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), worker.start())?;
    let device = world.device(1);
    send(&gateway, &device, AT, &[80]).await?;
    shown(&before, &device, &format!("{AT}:00")).await?;

    let connections = proxy.accepted();
    proxy.lead_to(&next.url())?;
    before.follow(next.port).await?;
    send(&gateway, &device, "2025-09-02 17:09", &[81]).await?;
    shown(&after, &device, "2025-09-02 17:09:00").await?;
    ensure!(proxy.accepted() > connections, "the worker has not connected again");
    settled(&world).await?;
    finish(world, [gateway, worker]).await?;
    drop((former, next));
    Ok(std::fs::remove_dir_all(folder)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_follows_the_primary_that_sentinel_names() -> Result<()> {
    let world = World::shared("sentinel").await?;
    let folder = folder(&world)?;
    let mut primary = Server::start(&folder, "primary", &data(None), &[])?;
    let replica = Server::start(&folder, "replica", &data(Some(primary.port)), &[])?;
    let watch = format!(
        "requirepass {WATCHER_PASSWORD}\nsentinel monitor main 127.0.0.1 {} 1\n\
         sentinel auth-pass main {PASSWORD}\nsentinel down-after-milliseconds main 1000\n\
         sentinel failover-timeout main 5000\n",
        primary.port
    );
    let (before, after) = (primary.cache().await?, replica.cache().await?);
    // Sentinel looks for replicas when it starts, and seldom later: the replica must be connected
    // by then.
    let device = world.device(1);
    before.set_field(&device, "probe", "1").await?;
    eventually(RECOVERED_WITHIN, "the replica follows", || async {
        Ok((!after.newest(&device).await?.is_empty()).then_some(()))
    })
    .await?;
    before.evict(&device).await?;
    let sentinel = Server::start(&folder, "sentinel", &watch, &["--sentinel"])?;
    world.migrate().await?;
    let url = format!(
        "redis-sentinel://default:{PASSWORD}@127.0.0.1:{}?sentinelServiceName=main\
         &sentinelPassword={WATCHER_PASSWORD}",
        sentinel.port
    );
    let worker = world.worker().env("REDIS_URL", &url);
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), worker.start())?;
    send(&gateway, &device, AT, &[80]).await?;
    shown(&before, &device, &format!("{AT}:00")).await?;
    shown(&after, &device, &format!("{AT}:00")).await?;
    primary.child.kill().await?;
    send(&gateway, &device, "2025-09-02 17:09", &[81]).await?;
    settled(&world).await?;
    shown(&after, &device, "2025-09-02 17:09:00").await?;
    finish(world, [gateway, worker]).await?;
    drop((replica, sentinel));
    Ok(std::fs::remove_dir_all(folder)?)
}
