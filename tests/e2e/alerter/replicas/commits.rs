//! Alerters are killed between the routing of a notification and the commit of its batch, or before
//! the platform answers.
//!
//! No alert has a second row. Only a message whose answer was lost comes again, and it is marked.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_service::kafka::partitioner::partition_of;
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::clients::kafka;
use ljwx_tests::fakes::platform::{self, HEART_RATE_HIGH, Rule};
use ljwx_tests::fakes::tcp_proxy::{Loss, Proxy};
use ljwx_tests::fakes::wechat::{Effect, Endpoint, FakeWechat, Fault, Moment};
use ljwx_tests::fleet::TENANT;
use ljwx_tests::stack::accounts::Account;
use ljwx_tests::stack::launch::Launch;
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::json;

use super::crash::{alerter, set_number};

/// The replicas, and the partitions of the topic: each replica owns one.
const REPLICAS: u8 = 3;

/// Kills in `make test`. With them, every kind of kill occurs.
const KILLS: usize = 3;

/// Longer than a platform recognises a message that is sent again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(900);

/// The longest that a step may take. A replica may start again so slowly that its partition moves.
const SOON: Duration = Duration::from_secs(60);

/// The moment of a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kill {
    /// The COMMIT of the batch, or its answer, is lost. The replica that wrote the batch dies.
    AtCommit(Loss),
    /// The platform has delivered the message and not answered. All replicas die.
    AtAnswer,
}

const KINDS: [Kill; 3] =
    [Kill::AtCommit(Loss::Request), Kill::AtCommit(Loss::Answer), Kill::AtAnswer];

/// An alerter with a proxy of its own before the database.
struct Replica {
    number: u8,
    proxy: Proxy,
    service: Service,
}

impl Replica {
    async fn kill(&mut self) -> Result<()> {
        self.service.signal("KILL").await?;
        self.service.ended().await?;
        Ok(())
    }
}

/// Returns a replica to launch. Its group instance is the same each time, so that it gets its
/// partition at once.
fn launch(world: &World, wechat: &FakeWechat, proxy: &Proxy, number: u8) -> Result<Launch> {
    let url = proxy.url(&world.accounts.url(Account::Alerter))?;
    let member = format!("alerter-{number}");
    Ok(alerter(world, wechat).env("MYSQL_URL", url).env("GROUP_INSTANCE_ID", member))
}

struct Here {
    world: World,
    wechat: FakeWechat,
    replicas: Vec<Replica>,
}

impl Here {
    async fn start(name: &str) -> Result<Self> {
        let world = World::shared(name).await?.with_partitions(REPLICAS.into());
        world.migrate().await?;
        platform::seed(&world, &[Rule { trend: 1, ..HEART_RATE_HIGH }]).await?;
        let wechat = FakeWechat::start().await?;
        let mut replicas = Vec::new();
        for number in 0..REPLICAS {
            let proxy = Proxy::start(world.database.url()).await?;
            let service = launch(&world, &wechat, &proxy, number)?.spawn()?;
            replicas.push(Replica { number, proxy, service });
        }
        for replica in &mut replicas {
            replica.service.ready().await?;
        }
        Ok(Self { world, wechat, replicas })
    }

    /// Starts killed replicas again.
    async fn restart(&mut self, killed: &[usize]) -> Result<()> {
        for place in killed {
            let replica = &mut self.replicas[*place];
            let again = launch(&self.world, &self.wechat, &replica.proxy, replica.number)?;
            replica.service = again.spawn()?;
        }
        for place in killed {
            self.replicas[*place].service.ready().await?;
        }
        Ok(())
    }

    /// Waits until each replica owns a partition, and returns the place of the one that owns this
    /// partition.
    async fn owner(&self, partition: i32) -> Result<usize> {
        let partition = usize::try_from(partition)?;
        let owners = format!(
            "SELECT SUBSTRING_INDEX(owner, ':', -1) FROM ingest_progress \
             WHERE consumer_group = '{}' ORDER BY `partition`",
            self.world.alerter_group
        );
        eventually(SOON, "each replica owns a partition", || async {
            let rows = self.world.database.rows(&owners).await?;
            let place = |row: &Vec<Option<String>>| {
                let pid = row.first()?.as_ref()?.parse::<u32>().ok()?;
                self.replicas.iter().position(|replica| replica.service.pid() == Some(pid))
            };
            let owners: Vec<_> = rows.iter().map(place).collect();
            let all = (0..self.replicas.len()).all(|place| owners.contains(&Some(place)));
            ensure!(all, "the owners are {owners:?}");
            Ok(owners.get(partition).copied().flatten())
        })
        .await
    }

    /// Publishes a breach of a device, as a gateway does.
    async fn breach(&self, device: &str) -> Result<()> {
        let epoch = jiff::Timestamp::now().as_second();
        let reading = json!({
            "device_sn": device, "customer_id": TENANT, "timestamp": wall_time(epoch),
            "epoch_ms": epoch * 1000, "received_at": epoch * 1000, "upload_method": "wifi",
            "heart_rate": 150,
        });
        let record = (device.to_owned(), reading.to_string().into_bytes());
        kafka::fill(&self.world.stack.kafka_brokers, &self.world.readings_topic, &[record]).await
    }

    /// Kills by one breach of a device, starts the killed replicas again, and returns their number.
    async fn kill(&mut self, device: &str, kind: Kill) -> Result<usize> {
        let killed = match kind {
            Kill::AtCommit(loss) => vec![self.kill_at_commit(device, loss).await?],
            Kill::AtAnswer => self.kill_at_answer(device).await?,
        };
        self.restart(&killed).await?;
        let sent = format!("t_alert_outbox WHERE device_sn = '{device}' AND state = 'sent'");
        eventually(SOON, "the notification is sent", || async {
            Ok((self.world.database.count(&sent).await? == 1).then_some(()))
        })
        .await?;
        Ok(killed.len())
    }

    async fn kill_at_commit(&mut self, device: &str, loss: Loss) -> Result<usize> {
        let owner = self.owner(partition_of(device.as_bytes(), REPLICAS.into())).await?;
        let proxy = &self.replicas[owner].proxy;
        let before = proxy.lost();
        proxy.lose_silently(loss);
        self.breach(device).await?;
        eventually(SOON, "the batch is at its COMMIT", || async {
            Ok((proxy.lost() > before).then_some(()))
        })
        .await?;
        let alerts = format!("t_alert_info WHERE device_sn = '{device}'");
        let alerts = self.world.database.count(&alerts).await?;
        ensure!(alerts == i64::from(loss == Loss::Answer), "{loss:?}: {alerts} alerts");
        self.replicas[owner].kill().await?;
        Ok(owner)
    }

    async fn kill_at_answer(&mut self, device: &str) -> Result<Vec<usize>> {
        let unanswered = Fault::on(Endpoint::Send, Effect::Hang(Moment::After)).times(1);
        let unanswered = self.wechat.inject(unanswered);
        let before = self.wechat.delivered();
        self.breach(device).await?;
        eventually(SOON, "the message has arrived", || async {
            Ok((self.wechat.delivered() > before).then_some(()))
        })
        .await?;
        for replica in &mut self.replicas {
            replica.kill().await?;
        }
        unanswered.end();
        // Let the time of the leases and the memory of the platform pass.
        self.wechat.advance(FORGOTTEN_AFTER);
        let later = format!(
            "UPDATE t_alert_outbox SET lease_until = 0, uncertain_since = uncertain_since - {} \
             WHERE state = 'pending'",
            FORGOTTEN_AFTER.as_millis()
        );
        self.world.database.execute(&later).await?;
        Ok((0..self.replicas.len()).collect())
    }

    /// Ensures that each device has one alert, one notification and one message that is not marked,
    /// and a marked one only where an answer was lost.
    async fn end(self, breaches: &[(String, Kill)]) -> Result<()> {
        let Self { world, wechat, replicas } = self;
        let messages = wechat.messages();
        for (device, kind) in breaches {
            let texts = messages.iter().map(|message| message.text());
            let texts: Vec<_> = texts.filter(|text| text.contains(device)).collect();
            let repeats = texts.iter().filter(|text| text.contains("重复?")).count();
            let expected = usize::from(*kind == Kill::AtAnswer);
            let once = texts.len() == 1 + expected && repeats == expected;
            ensure!(once, "{kind:?}: {texts:?}");
        }
        for table in ["t_alert_info", "t_alert_outbox"] {
            let rows = world.database.count(table).await?;
            ensure!(rows == i64::try_from(breaches.len())?, "{rows} rows in {table}");
        }
        let ledger = world.database.ledger(&world.alerter_group).await?;
        ensure!(ledger.iter().all(|row| row.balances()), "{ledger:?}");
        for replica in replicas {
            ensure!(replica.service.terminate().await?.success(), "a replica failed");
        }
        world.finish().await
    }
}

async fn kill(name: &str, kills: usize) -> Result<()> {
    let mut here = Here::start(name).await?;
    let (mut killed, mut breaches) = (0, Vec::new());
    for kind in KINDS.into_iter().cycle() {
        if killed >= kills {
            break;
        }
        let device = here.world.device(breaches.len() + 1);
        let done = here.kill(&device, kind).await;
        killed += done.with_context(|| format!("{kind:?} after {killed} kills"))?;
        breaches.push((device, kind));
    }
    here.end(&breaches).await
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_killed_at_their_commits_notify_once() -> Result<()> {
    kill("commits", KILLS).await
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_killed_again_and_again_at_their_commits_notify_once() -> Result<()> {
    kill("manycommits", set_number("ALERT_KILLS").unwrap_or(KILLS)).await
}
