//! Logins with passwords and without TLS. Logins with TLS belong to `tls`.

use anyhow::{Context, Result};
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;

use crate::support::{AT, RECOVERED_WITHIN, ends_well, send, settled};

/// On MySQL the account is of its default kind, whose full login needs the server's RSA key. The
/// server caches a successful login until privileges are flushed or the server restarts.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_a_password_logs_in_again_after_its_privileges_were_flushed() -> Result<()>
{
    let world = World::shared("login").await?;
    world.migrate().await?;
    let url = world.database.create_user().await?;
    let worker = world.worker().env("MYSQL_URL", &url);
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), worker.start())?;
    send(&gateway, &world.device(1), AT, &[80]).await?;
    settled(&world).await?;
    world.database.execute("FLUSH PRIVILEGES").await?;
    let open = format!(
        "SELECT id FROM information_schema.PROCESSLIST WHERE user = '{}'",
        world.database.name()
    );
    let before = world.database.rows(&open).await?;
    for row in &before {
        let id = row.iter().flatten().next().context("id")?;
        // The connection may have ended meanwhile.
        let _ = world.database.execute(&format!("KILL {id}")).await;
    }
    send(&gateway, &world.device(1), "2025-09-02 17:09", &[81, 82]).await?;
    settled(&world).await?;
    eventually(RECOVERED_WITHIN, "it works by connections of its own that are new", || async {
        let now = world.database.rows(&open).await?;
        Ok((!now.is_empty() && now.iter().all(|row| !before.contains(row))).then_some(()))
    })
    .await?;
    ends_well(world, [gateway, worker], 3).await
}
