//! A database without free space, and other errors that only its operator can fix. The worker waits
//! for their end, as in `database`. A test that uses up the space has a server of its own, because
//! other tests need the shared one.

use anyhow::{Result, ensure};
use ljwx_tests::clients::http;
use ljwx_tests::stack::own_server::{OwnServer, Room};
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::{Value, json};

use crate::support::{
    AT, RECOVERED_WITHIN, ends_well, held, letters, pipeline, send, settled, totals,
};

/// Readings before the space ends. A table above 1 MiB has pages to spare. A smaller table grows
/// page by page, and MariaDB ends itself if it cannot add the page that a rollback needs.
const BEFORE: usize = 12_000;

/// Enough readings to fill any server's space.
const ENOUGH: usize = 300_000;

/// Readings between two checks of the worker.
const STEP: usize = 4_000;

/// Readings of one body.
const BODY: usize = 1_000;

/// Devices that send once each, so that every reading needs space of its own. They send no
/// documents: MariaDB also ends itself if large values of any table find no space.
#[derive(Default)]
struct Devices {
    sent: usize,
}

impl Devices {
    async fn send(&mut self, readings: usize, world: &World, gateway: &Service) -> Result<()> {
        let item = |number: usize| {
            json!({"deviceSn": world.device(number), "heart_rate": 80,
                   "timestamp": format!("{AT}:00")})
        };
        for _ in 0..readings / BODY {
            let items: Vec<Value> = (self.sent..self.sent + BODY).map(item).collect();
            let body = json!({ "data": items }).to_string();
            let answer = http::post(&gateway.url("/upload_health_data"), body).await?;
            ensure!(answer.json["details"]["success"] == BODY, "{}", answer.text);
            self.sent += BODY;
        }
        Ok(())
    }

    /// Sends readings until a write of the worker fails.
    async fn send_until_full(
        &mut self,
        world: &World,
        gateway: &Service,
        worker: &Service,
    ) -> Result<()> {
        while self.sent < ENOUGH {
            self.send(STEP, world, gateway).await?;
            let full = eventually(RECOVERED_WITHIN, "they are stored, or not", || async {
                let failed = worker.metric("write_errors_total", "").await?;
                if failed > 0.0 {
                    return Ok(Some(true));
                }
                Ok((world.lag().await? == 0).then_some(false))
            })
            .await?;
            if full {
                return Ok(());
            }
        }
        anyhow::bail!("the server takes everything")
    }
}

async fn no_room_is_waited_out(name: &str, room: Room) -> Result<()> {
    let server = OwnServer::start(room).await?;
    let world = World::on(name, &server).await?;
    world.migrate().await?;
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    let mut devices = Devices::default();
    devices.send(BEFORE, &world, &gateway).await?;
    settled(&world).await?;
    server.fill().await?;
    devices.send_until_full(&world, &gateway, &worker).await?;
    held(&worker, "infrastructure", 3.0, "is full").await?;
    eventually(RECOVERED_WITHIN, "the health endpoint says what is wrong", || async {
        let answer = http::get(&worker.admin("/api/batch_processor/health")).await?;
        Ok(answer.json["reasons"].to_string().contains("is full").then_some(()))
    })
    .await?;
    let (stored, dead_lettered) = totals(&world).await?;
    let all = devices.sent as i64;
    ensure!(stored < all && dead_lettered == 0, "{stored} stored, {dead_lettered} given up");
    ensure!(letters(&world).await?.is_empty(), "a dead letter");
    server.free().await?;
    ends_well(world, [gateway, worker], all).await?;
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_waited_out() -> Result<()> {
    if !Room::Filesystem.is_allowed().await? {
        // `files_that_may_not_grow_are_waited_out` tests the same: the server reports the same
        // error if its files may not grow.
        eprintln!(
            "no filesystem can be mounted here: files_that_may_not_grow_are_waited_out has to do"
        );
        return Ok(());
    }
    no_room_is_waited_out("disk", Room::Filesystem).await
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_may_not_grow_are_waited_out() -> Result<()> {
    no_room_is_waited_out("grow", Room::FileSize).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_other_servers_say_is_waited_out_as_well() -> Result<()> {
    let (world, gateway, worker) = pipeline("numbers").await?;
    // `ljwx_ledger::mysql::errors` lists the servers that return these errors for an INSERT.
    for (number, error) in (1..).zip([3, 1015, 1021, 1036, 1836]) {
        let refuse = format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON t_user_health_data FOR EACH ROW \
             SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {error}, MESSAGE_TEXT = 'said {error}'"
        );
        world.database.execute(&refuse).await?;
        send(&gateway, &world.device(number), AT, &[80]).await?;
        held(&worker, "infrastructure", 1.0, &format!("said {error}")).await?;
        ensure!(letters(&world).await?.is_empty(), "a dead letter for {error}");
        world.database.execute("DROP TRIGGER refuse").await?;
        settled(&world).await?;
    }
    ends_well(world, [gateway, worker], 5).await
}
