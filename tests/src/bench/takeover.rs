//! Measures how soon other replicas continue for a killed one: from the kill to the next stored
//! reading, and to the next alert, on the last of its partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::fill_topic::Filler;
use super::series::{self, Series};
use super::table::{Table, machine, median};
use super::workload::record;
use crate::fakes::wechat::FakeWechat;
use crate::stack::process::Service;
use crate::stack::wait::{eventually, pass};
use crate::stack::world::World;

/// Partitions of the topic; two replicas share them.
const PARTITIONS: u32 = 4;

/// Time between two readings of each partition: the error of a figure.
const STEP: Duration = Duration::from_millis(50);

/// Time between two checks of the ledger.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// A heart rate that breaches the rule. Each reading is of a different device, so each opens an
/// alert.
const HEART_RATE: usize = 200;

/// The longest that a step may take: far longer than the measured times.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

/// Longest time for 95 of 100 kills, in seconds.
const P95_MAX: f64 = 10.0;

/// The measured times, as they are printed.
const GROUPS: [&str; 2] = ["worker killed to next stored reading", "alerter killed to next alert"];

/// The settings of `bench takeover`.
#[derive(Debug, clap::Args)]
pub(super) struct Settings {
    /// Number of kills of a worker, and of an alerter at the same time.
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// Write the figures to a file under tests/bench/results.
    #[arg(long)]
    save: bool,
}

/// Kills replicas one after the other while readings come in, and replaces them.
pub(super) async fn measure(settings: &Settings, table: &mut Table) -> anyhow::Result<()> {
    let kills = settings.kills;
    println!("takeover: {kills} kills of a worker and an alerter at once, two replicas of each");
    let world = World::shared("bench").await?.with_partitions(PARTITIONS);
    world.migrate().await?;
    add_rule(&world).await?;
    let wechat = FakeWechat::start().await?;
    let quiet =
        |launch: crate::stack::launch::Launch| launch.env("TRACE_SAMPLE_RATIO", "0").start();
    let worker = || quiet(world.worker());
    let alerter = || quiet(world.alerter(&wechat));
    let [mut workers, mut alerters] = [Vec::new(), Vec::new()];
    for _ in 0..2 {
        workers.push(worker().await?);
        alerters.push(alerter().await?);
    }
    let stop = CancellationToken::new();
    let mut series = Series::default();
    let kill_all = async {
        for kill in 1..=kills {
            tokio::try_join!(shared(&workers), shared(&alerters))?;
            let (victim, other) = (workers.remove(0), alerters.remove(0));
            let (stored, evaluated) = tokio::try_join!(
                replaced(&world, &world.worker_group, victim),
                replaced(&world, &world.alerter_group, other)
            )?;
            println!("  kill {kill}: {stored:.2} s, {evaluated:.2} s");
            series.push(GROUPS[0].to_owned(), " s", stored);
            series.push(GROUPS[1].to_owned(), " s", evaluated);
            let (next, other) = tokio::try_join!(worker(), alerter())?;
            workers.push(next);
            alerters.push(other);
        }
        stop.cancel();
        anyhow::Ok(())
    };
    tokio::try_join!(feed(&world, &stop), kill_all)?;
    for group in GROUPS {
        let mut seconds = series.of(group);
        seconds.sort_by(f64::total_cmp);
        let p95 = seconds.get((seconds.len() as f64 * 0.95) as usize).or(seconds.last());
        table.fact(&format!("{group}, median"), median(seconds.clone()), " s");
        table.at_most(&format!("{group}, P95"), *p95.context("no kill")?, P95_MAX, " s");
    }
    table.at_most("readings unaccounted for after all", unaccounted(&world).await?, 0.0, "");
    for service in workers.into_iter().chain(alerters) {
        service.terminate().await?;
    }
    if settings.save {
        save(&world, kills, &series, table).await?;
    }
    world.finish().await
}

async fn add_rule(world: &World) -> anyhow::Result<()> {
    world
        .database
        .execute(
            "INSERT INTO t_alert_rules (rule_type, physical_sign, threshold_max, trend_duration, \
             severity_level, notification_type) VALUES ('notified', 'heart_rate', 180, 1, 'major', \
             'log')",
        )
        .await
}

/// Sends a breaching reading to every partition, again and again, until `stop`.
async fn feed(world: &World, stop: &CancellationToken) -> anyhow::Result<()> {
    let filler = Filler::new(world)?;
    let mut device = 0;
    while !stop.is_cancelled() {
        for _ in 0..world.partitions() {
            let now = jiff::Timestamp::now().as_second();
            let record = record(world, device, now, HEART_RATE);
            filler.put(&record.device, record.partition, &record.value)?;
            device += 1;
        }
        pass(STEP).await;
    }
    filler.flush()
}

/// Waits until each replica has half of the partitions.
async fn shared(replicas: &[Service]) -> anyhow::Result<()> {
    let half = f64::from(PARTITIONS) / 2.0;
    for replica in replicas {
        eventually(SETTLED_WITHIN, "each replica has half of the partitions", || async {
            Ok((replica.metric("consumer_partitions_owned", "").await? == half).then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// The epoch and the next offset of each partition.
type Standing = BTreeMap<i64, (i64, i64)>;

async fn standing(world: &World, group: &str, owner: &str) -> anyhow::Result<Standing> {
    let sql = format!(
        "SELECT `partition`, epoch, next_offset FROM ingest_progress \
         WHERE consumer_group = '{group}' AND owner LIKE '%{owner}'"
    );
    let number = |value: &Option<String>| value.as_deref().unwrap_or_default().parse::<i64>();
    let rows = world.database.rows(&sql).await?;
    let line = |row: &Vec<Option<String>>| {
        anyhow::Ok((number(&row[0])?, (number(&row[1])?, number(&row[2])?)))
    };
    rows.iter().map(line).collect()
}

/// Kills a replica. Returns the seconds until each of its partitions has continued under a new
/// claim. A group's position moves in the transaction that stores readings or alerts, here one
/// alert per reading.
async fn replaced(world: &World, group: &str, victim: Service) -> anyhow::Result<f64> {
    let pid = victim.pid().context("it has exited")?;
    let owned = standing(world, group, &format!(":{pid}")).await?;
    ensure!(!owned.is_empty(), "the replica has no partition");
    let killed = Instant::now();
    victim.kill().await?;
    let mut claimed = Standing::new();
    loop {
        let now = standing(world, group, "").await?;
        let gone_on = |(partition, (epoch, _)): (&i64, &(i64, i64))| {
            let claim = now.get(partition).filter(|(claim, _)| claim > epoch);
            claim.is_some_and(|claim| claimed.entry(*partition).or_insert(*claim).1 < claim.1)
        };
        if owned.iter().map(gone_on).filter(|gone_on| *gone_on).count() == owned.len() {
            return Ok(killed.elapsed().as_secs_f64());
        }
        ensure!(killed.elapsed() < SETTLED_WITHIN, "nobody goes on for a killed replica");
        pass(LOOK_INTERVAL).await;
    }
}

/// Returns the number of the audit's failures and of readings without an alert, once all is
/// processed.
async fn unaccounted(world: &World) -> anyhow::Result<f64> {
    eventually(SETTLED_WITHIN, "everything is passed", || async {
        Ok((world.lag().await? == 0 && world.alerter_lag().await? == 0).then_some(()))
    })
    .await?;
    let audit = world.launch("worker", &["audit"]).finish().await?;
    let alerts = world.database.count("t_alert_info").await?;
    let readings = world.database.count("t_user_health_data").await?;
    if audit.code != Some(0) || alerts != readings {
        println!("  {alerts} alerts of {readings} readings; {}", audit.text);
    }
    Ok(f64::from(u8::from(audit.code != Some(0))) + (readings - alerts).abs() as f64)
}

async fn save(world: &World, kills: usize, series: &Series, table: &Table) -> anyhow::Result<()> {
    let version = world.database.version().await?;
    let (database, date) = (series::database(&version), series::today());
    let text = format!(
        "# Going on for a killed replica, {database}, {date}\n\n{}\n\nserver: {version}\n\n{kills} \
         kills (SIGKILL) of a worker and an alerter at once, two replicas of each, {PARTITIONS} \
         partitions with a reading every {STEP:?} each; until the last of the killed replica's \
         partitions has gone on\n\n{}\n{}\n",
        machine(),
        table.markdown(),
        series.markdown()
    );
    series::keep(&format!("takeover-{database}-{date}.md"), &text)
}
