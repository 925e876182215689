//! The plan's method: a statement for every row, each committed by itself.

use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use tokio::time::Instant;

use super::rows::Upserts;
use crate::bench::fill_topic::cleared;
use crate::bench::workload::Sample;
use crate::stack::world::World;

/// Readings from which the rate is computed. They are few because the method is slow.
const READINGS: usize = 3_000;

/// Returns the readings a second, measured with the first of the samples.
pub(super) async fn rate(world: &World, samples: &[Sample]) -> anyhow::Result<f64> {
    let samples = &samples[..READINGS.min(samples.len())];
    cleared(world).await?;
    let upserts = Upserts::new(world).await?;
    let mut statements = Vec::new();
    for sample in samples {
        statements.push(upserts.main.text(&[sample.row()]));
        if let Some((daily, weekly)) = sample.periods() {
            statements.push(upserts.daily.text(&[daily]));
            statements.push(upserts.weekly.text(&[weekly]));
        }
    }
    let mut connection = MySqlConnection::connect(world.database.url()).await?;
    let started = Instant::now();
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
    }
    Ok(samples.len() as f64 / started.elapsed().as_secs_f64())
}
