//! The worker's ceiling: the same rows into the same table by bare multi-row UPSERTs, rendered
//! before the clock starts, on one connection and on two, whichever is faster.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::worker::Sample;
use crate::world::World;

/// Rows of one statement.
const ROWS: usize = 1000;

/// The plan's statement.
const HEAD: &str = "INSERT INTO t_user_health_data (device_sn,timestamp,id,user_id,org_id,\
    customer_id,heart_rate,blood_oxygen,temperature,pressure_high,pressure_low,stress,step,\
    distance,calorie,latitude,longitude,altitude,sleep,upload_method,user_name,deliveries,\
    last_source) VALUES ";

const COLUMNS: [&str; 17] = [
    "user_id",
    "org_id",
    "customer_id",
    "heart_rate",
    "blood_oxygen",
    "temperature",
    "pressure_high",
    "pressure_low",
    "stress",
    "step",
    "distance",
    "calorie",
    "latitude",
    "longitude",
    "altitude",
    "sleep",
    "upload_method",
];

/// Rows a second on the better number of connections.
pub(super) async fn measure(samples: &[Sample]) -> anyhow::Result<f64> {
    let one = on(samples, 1).await?;
    let two = on(samples, 2).await?;
    println!("  ceiling: {one:.0} rows/s on one connection, {two:.0} on two");
    Ok(one.max(two))
}

async fn on(samples: &[Sample], connections: usize) -> anyhow::Result<f64> {
    let world = World::shared("bench").await?.with_partitions(12);
    world.migrate().await?;
    let statements: Vec<String> = samples.chunks(ROWS).map(statement).collect();
    let mut shares: Vec<Vec<String>> = vec![Vec::new(); connections];
    for (index, statement) in statements.into_iter().enumerate() {
        shares[index % connections].push(statement);
    }
    let mut tasks = JoinSet::new();
    let started = Instant::now();
    for share in shares {
        let mut connection = MySqlConnection::connect(world.database.url()).await?;
        tasks.spawn(async move {
            for statement in share {
                sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let took: Duration = started.elapsed();
    world.finish().await?;
    Ok(samples.len() as f64 / took.as_secs_f64())
}

fn statement(samples: &[Sample]) -> String {
    let mut sorted: Vec<&Sample> = samples.iter().collect();
    sorted.sort_by(|a, b| (&a.device, &a.time).cmp(&(&b.device, &b.time)));
    let rows: Vec<String> = sorted
        .iter()
        .map(|sample| {
            let Sample { device, time, heart_rate, .. } = sample;
            format!(
                "('{device}','{time}',1,3,2,1,{heart_rate},97,36.5,125,86,NULL,1280,820,41230,\
                 22.540368,114.01509,0,NULL,'wifi','',1,1)"
            )
        })
        .collect();
    let updates: Vec<String> =
        COLUMNS.iter().map(|column| format!("{column}=VALUES({column})")).collect();
    format!("{HEAD}{} ON DUPLICATE KEY UPDATE {}", rows.join(","), updates.join(","))
}
