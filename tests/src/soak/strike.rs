//! Carries out a fault, from its beginning to its end. [`super::recovery`] waits for what follows.

use std::time::Duration;

use super::fault::Fault;
use super::schedule::Planned;
use super::stage::{Role, Stage};
use crate::clients::redis::Cache;
use crate::fakes::tcp_proxy::Proxy;
use crate::fakes::wechat::{self, Effect, Endpoint, Moment};
use crate::stack::Server;
use crate::stack::wait::{eventually, pass};

/// The longest that Redis may take to accept that it leads again.
const HEALED_WITHIN: Duration = Duration::from_secs(30);

/// A port on which no Redis listens.
const NO_REDIS: u16 = 1;

/// Carries out a fault and returns when it is over.
pub(super) async fn strike(planned: &Planned, stage: &mut Stage) -> anyhow::Result<()> {
    let Planned { fault, lasts, pick, .. } = *planned;
    match fault {
        Fault::KillGateway => stage.kill(Role::Gateway, pick).await,
        Fault::KillWorker => stage.kill(Role::Worker, pick).await,
        Fault::KillAlerter => stage.kill(Role::Alerter, pick).await,
        Fault::FreezeGateway => stage.freeze(Role::Gateway, pick, lasts).await,
        Fault::FreezeWorker => stage.freeze(Role::Worker, pick, lasts).await,
        Fault::FreezeAlerter => stage.freeze(Role::Alerter, pick, lasts).await,
        Fault::KillDatabase => kill(Server::Database, lasts).await,
        Fault::KillRedis => kill(Server::Redis, lasts).await,
        Fault::KillKafka => kill(Server::Kafka, lasts).await,
        Fault::FreezeDatabase => freeze(Server::Database, lasts).await,
        Fault::FreezeRedis => freeze(Server::Redis, lasts).await,
        Fault::FreezeKafka => freeze(Server::Kafka, lasts).await,
        Fault::RestartKafka => Server::Kafka.stop().await?.end().await,
        Fault::FlushRedis => stage.world.cache.flush().await,
        Fault::DatabaseReadOnly => {
            let waiting = async || {
                pass(lasts).await;
                anyhow::Ok(())
            };
            stage.world.database.while_set("read_only", "1", waiting).await
        }
        Fault::RedisReadOnly => follow_nobody(&stage.world.cache, lasts).await,
        Fault::DatabaseBlackhole => hold(&stage.database_link, lasts).await,
        Fault::RedisBlackhole => hold(&stage.redis_link, lasts).await,
        Fault::RollingRestart => stage.restart_all().await,
        Fault::ScaleWorkers => stage.scale_workers(lasts).await,
        Fault::WechatHangs => {
            let hang = wechat::Fault::on(Endpoint::Send, Effect::Hang(Moment::After));
            let hang = stage.wechat.inject(hang);
            pass(lasts).await;
            hang.end();
            Ok(())
        }
        Fault::WechatDown => {
            stage.wechat.down();
            pass(lasts).await;
            stage.wechat.up();
            Ok(())
        }
    }
}

async fn kill(server: Server, lasts: Duration) -> anyhow::Result<()> {
    let outage = server.kill().await?;
    pass(lasts).await;
    outage.end().await
}

async fn freeze(server: Server, lasts: Duration) -> anyhow::Result<()> {
    let frozen = server.freeze()?;
    pass(lasts).await;
    drop(frozen);
    Ok(())
}

async fn hold(link: &Proxy, lasts: Duration) -> anyhow::Result<()> {
    link.hold();
    pass(lasts).await;
    link.flow();
    Ok(())
}

/// Makes Redis a replica of a server that does not exist: it still answers, and takes no writes.
async fn follow_nobody(cache: &Cache, lasts: Duration) -> anyhow::Result<()> {
    cache.follow(NO_REDIS).await?;
    pass(lasts).await;
    eventually(HEALED_WITHIN, "Redis leads again", || async { cache.lead().await.map(Some) }).await
}
