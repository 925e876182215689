//! The drill: finds the limit, sends a load that rises beyond the limit and falls, and keeps as many
//! workers as the scaling policy wants. Then compares what was sent with what was stored.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::autoscaler::Autoscaler;
use super::costs::{self, Mark};
use super::lag_metric::{LagMetric, PartitionOffsets};
use super::load::Load;
use super::offsets::OffsetReader;
use super::policy::ScalingPolicy;
use super::replicas::Replicas;
use super::report;
use super::sender::Sender;
use super::settings::{PARTITIONS, Settings};
use super::timeline::{Observation, Timeline};
use crate::bench::table::Table;
use crate::bench::worker_run::passed;
use crate::stack::wait::eventually;
use crate::stack::world::World;

/// Readings of the backlog by which the limit is measured.
const BACKLOG: usize = 800_000;

/// The least share of the backlog that must be left once Kafka has it: less would measure the sender.
const BACKLOG_LEFT_MIN: f64 = 0.25;

/// The longest that the least number of replicas may take for the backlog.
const BACKLOG_WITHIN: Duration = Duration::from_secs(300);

/// Time beyond all that the policy and the load need until the drill is given up.
const SPARE: Duration = Duration::from_secs(120);

/// The time over which the greatest rate of storing is measured.
const RATE_WINDOW: Duration = Duration::from_secs(20);

/// The longest that the audit may take: it reads every row.
const AUDITED_WITHIN: Duration = Duration::from_secs(900);

/// Makes the drill and judges it.
pub(crate) async fn measure(settings: &Settings, table: &mut Table) -> anyhow::Result<()> {
    let policy = ScalingPolicy::of_manifest()?.faster(settings.faster)?;
    println!(
        "scaling: {} to {} workers, one for each {} records of lag, periods divided by {}",
        policy.replicas_min, policy.replicas_max, policy.metric.threshold, settings.faster
    );
    let world = World::shared("bench").await?.with_partitions(PARTITIONS);
    world.migrate().await?;
    let sender = Sender::new(&world, settings.devices as usize)?;
    let mut replicas = Replicas::new(&world);
    replicas.set(policy.replicas_min)?;
    let limit = find_limit(&world, &sender, &replicas).await?;
    let load = Load::new(limit, settings.faster);
    sender.check(load)?;
    let mut timeline = Timeline::default();
    let (start, first) = (Instant::now(), Mark::now(&world, &mut replicas).await);
    let observed = observe(&world, &sender, &mut replicas, &policy, (load, start), &mut timeline);
    let (last, ()) = tokio::try_join!(observed, sender.follow(load, start))?;
    table.fact("limit of the least number of workers", limit, "/s");
    table.fact("greatest rate sent", load.peak(), "/s");
    let stored = timeline.stored_max(RATE_WINDOW);
    table.fact(&format!("greatest rate stored over {RATE_WINDOW:?}"), stored, "/s");
    judge(&policy, load, &timeline, table);
    first.add(&last, timeline.last().map_or(0, |last| last.stored), table);
    costs::add_bytes(&world, table).await?;
    let count = replicas.count();
    table.at_most("workers at the end", count as f64, policy.replicas_min as f64, "");
    table.at_most("workers that did not exit with 0", replicas.end().await? as f64, 0.0, "");
    account(&world, sender.sent(), table).await?;
    if settings.save {
        report::save(&world, settings, &policy, &timeline, table).await?;
    }
    drop(sender);
    world.finish().await
}

/// Returns the readings a second that the replicas store of a backlog, while nothing is sent.
async fn find_limit(
    world: &World,
    sender: &Sender<'_>,
    replicas: &Replicas<'_>,
) -> anyhow::Result<f64> {
    replicas.divided().await?;
    sender.send(BACKLOG)?;
    sender.flush()?;
    let (started, before) = (Instant::now(), passed(world).await?);
    let left = (BACKLOG as i64 - before) as f64;
    ensure!(left >= BACKLOG as f64 * BACKLOG_LEFT_MIN, "only {left} readings are left to measure");
    eventually(BACKLOG_WITHIN, "the backlog is stored", || async {
        Ok((passed(world).await? >= BACKLOG as i64).then_some(()))
    })
    .await?;
    let limit = left / started.elapsed().as_secs_f64();
    println!("  limit: {limit:.0} readings/s");
    Ok(limit)
}

/// Observes the lag at every interval of the policy and sets the number of replicas, until everything
/// is stored and the least number is left, or the time is up. Returns the mark of the moment at
/// which everything was stored.
async fn observe(
    world: &World,
    sender: &Sender<'_>,
    replicas: &mut Replicas<'_>,
    policy: &ScalingPolicy,
    (load, start): (Load, Instant),
    timeline: &mut Timeline,
) -> anyhow::Result<Mark> {
    let reader = OffsetReader::new(world)?;
    let (mut metric, mut autoscaler) =
        (LagMetric::new(policy.metric), Autoscaler::new(policy.clone()));
    let (sent_before, stored_before) = (sender.sent(), passed(world).await?);
    let until = load.fall() + load.recovery_max() + policy.descent() + SPARE;
    let mut ticks = interval(policy.poll);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stored_all = None;
    loop {
        ticks.tick().await;
        let at = start.elapsed();
        let offsets = reader.read().await?;
        let counted = metric.observe(&offsets);
        let wanted = autoscaler.decide(at, counted, replicas.count());
        replicas.set(wanted)?;
        let observation = Observation {
            at,
            sent: sender.sent() - sent_before,
            stored: passed(world).await? - stored_before,
            lag: offsets.iter().map(PartitionOffsets::lag).sum(),
            metric: counted,
            wanted,
            ready: replicas.ready().await,
        };
        println!("  {observation}");
        timeline.add(observation);
        replicas.processors();
        if at >= load.end() && observation.lag == 0 && stored_all.is_none() {
            stored_all = Some(Mark::now(world, replicas).await);
        }
        if at >= until || stored_all.is_some() && wanted == policy.replicas_min {
            return Ok(match stored_all {
                Some(mark) => mark,
                None => Mark::now(world, replicas).await,
            });
        }
    }
}

/// Adds what the lag and the replicas were to be.
fn judge(policy: &ScalingPolicy, load: Load, timeline: &Timeline, table: &mut Table) {
    let least = policy.replicas_min as f64;
    table.at_most("greatest lag", timeline.lag_max() as f64, load.lag_max().round(), "");
    // With this lag the policy wants no more than the least number of workers.
    let quiet = policy.metric.threshold * policy.replicas_min as u64;
    let recovery = timeline.recovery(load.fall(), quiet);
    let recovery = recovery.map_or(f64::INFINITY, |time| time.as_secs_f64());
    let recovery_max = load.recovery_max().as_secs_f64().round();
    let name = format!("from the fall of the load to a lag of {quiet}");
    table.at_most(&name, recovery, recovery_max, " s");
    let left = timeline.last().map_or(f64::NAN, |last| last.lag as f64);
    table.at_most("lag at the end", left, 0.0, "");
    table.at_least("most workers", timeline.wanted_max() as f64, least + 1.0, "");
}

/// Adds what became of the readings.
async fn account(world: &World, sent: usize, table: &mut Table) -> anyhow::Result<()> {
    let stored = world.database.count("t_user_health_data").await?;
    table.fact("readings sent, those of the backlog included", sent as f64, "");
    table.at_most("readings sent and not stored", (sent as i64 - stored).abs() as f64, 0.0, "");
    let audit = world.launch("worker", &["audit"]).finish_within(AUDITED_WITHIN).await?;
    if audit.code != Some(0) {
        println!("{}", audit.text);
    }
    table.at_most("worker audit, exit code", audit.code.map_or(f64::NAN, f64::from), 0.0, "");
    Ok(())
}
