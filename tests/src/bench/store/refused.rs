//! Runs the worker with values that the database rejects. The run itself belongs to
//! [`crate::bench::worker_run`].

use anyhow::ensure;

use crate::bench::fill_topic::cleared;
use crate::bench::worker_run::{Run, run};
use crate::clients::kafka;
use crate::clients::mysql::LedgerRow;
use crate::stack::world::World;

/// Runs the worker with a column that rejects `refused` of the readings. All other readings must be
/// stored, and only the rejected ones dead-lettered.
pub(super) async fn run_refused(
    world: &World,
    readings: usize,
    refused: usize,
) -> anyhow::Result<Run> {
    let narrow = |kind| format!("ALTER TABLE t_user_health_data MODIFY heart_rate {kind} NULL");
    cleared(world).await?;
    world.database.execute(&narrow("TINYINT")).await?;
    let letters = letters(world).await?;
    let run = run(world, readings, false).await?;
    let letters = self::letters(world).await? - letters;
    let ledger = world.database.ledger(&world.worker_group).await?;
    let stored: i64 = ledger.iter().map(|row| row.stored).sum();
    let dead: i64 = ledger.iter().map(|row| row.dead_lettered).sum();
    let rows = world.database.count("t_user_health_data").await?;
    let (good, refused) = ((readings - refused) as i64, refused as i64);
    ensure!(
        (stored, rows, dead, letters) == (good, good, refused, refused),
        "{good} good and {refused} refused readings: {stored} stored, {rows} rows, {dead} \
         dead-lettered, {letters} letters"
    );
    ensure!(ledger.iter().all(LedgerRow::balances), "{ledger:?}");
    cleared(world).await?;
    world.database.execute(&narrow("INT")).await?;
    Ok(run)
}

async fn letters(world: &World) -> anyhow::Result<i64> {
    let topic = format!("{}.{}.dlq", world.readings_topic, world.worker_group);
    let ends = kafka::watermarks(&world.stack.kafka_brokers, &topic).await?;
    Ok(ends.iter().map(|end| end.high - end.low).sum())
}
