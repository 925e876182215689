//! What a reading costs: processor time of the workers and the servers, and bytes in each store.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::replicas::Replicas;
use crate::bench::table::Table;
use crate::bench::usage;
use crate::stack::world::World;

/// What is measured, and the servers' names in the stack. The workers are not among the servers.
const PROCESSES: [(&str, &[&str]); 4] = [
    ("workers", &[]),
    ("database", &["mariadb", "mysql"]),
    ("Redis", &["redis"]),
    ("Kafka, one replica of each record", &["kafka"]),
];

/// Processor seconds so far, and the size of the binary log.
pub(super) struct Mark {
    processors: [f64; PROCESSES.len()],
    binary_log: Option<i64>,
}

impl Mark {
    pub(super) async fn now(world: &World, replicas: &mut Replicas<'_>) -> Self {
        let workers = replicas.processors();
        let processors = PROCESSES.map(|(_, servers)| match servers {
            [] => workers,
            names => usage::server(names).and_then(usage::cpu).unwrap_or(f64::NAN),
        });
        Self { processors, binary_log: binary_log(world).await }
    }

    /// Adds the costs of the readings that were stored from this mark to `last`.
    pub(super) fn add(&self, last: &Self, readings: i64, table: &mut Table) {
        let readings = readings as f64;
        for (number, (name, _)) in PROCESSES.iter().enumerate() {
            let seconds = last.processors[number] - self.processors[number];
            table.fact(&format!("{name}: readings of a core-second"), readings / seconds, "");
        }
        if let (Some(first), Some(last)) = (self.binary_log, last.binary_log) {
            table.fact("binary log, bytes of a row", (last - first) as f64 / readings, " B");
        }
    }
}

/// Returns the bytes of the binary log; `None` if there is none.
async fn binary_log(world: &World) -> Option<i64> {
    let files = world.database.rows("SHOW BINARY LOGS").await.ok()?;
    files.iter().map(|file| file.get(1)?.as_ref()?.parse::<i64>().ok()).sum()
}

/// Adds the bytes that a reading or a device takes in each store.
pub(super) async fn add_bytes(world: &World, table: &mut Table) -> anyhow::Result<()> {
    let rows = world.database.count("t_user_health_data").await? as f64;
    // The server estimates sizes until it is asked to look.
    world.database.rows("ANALYZE TABLE t_user_health_data").await?;
    let size = "SELECT SUM(data_length + index_length) FROM information_schema.TABLES \
                WHERE table_schema = DATABASE() AND table_name = 't_user_health_data'";
    let bytes = world.database.number(size).await? as f64;
    table.fact("t_user_health_data, bytes of a row with its keys", bytes / rows, " B");
    if let Some(folder) = std::env::var_os("STACK_DIR") {
        let folder = PathBuf::from(folder).join("kafka/data");
        let bytes = log_bytes(&folder, &world.readings_topic).context("the topic's files")?;
        table.fact("readings topic, bytes of a record", bytes as f64 / rows, " B");
    }
    let bytes = world.cache.bytes(&world.device(0)).await? as f64;
    table.fact("Redis, bytes of a device", bytes, " B");
    Ok(())
}

/// Returns the bytes of a topic's segments.
fn log_bytes(folder: &Path, topic: &str) -> std::io::Result<u64> {
    let mut bytes = 0;
    for partition in std::fs::read_dir(folder)? {
        let partition = partition?;
        if !partition.file_name().to_string_lossy().starts_with(&format!("{topic}-")) {
            continue;
        }
        for file in std::fs::read_dir(partition.path())? {
            let file = file?;
            if file.path().extension().is_some_and(|extension| extension == "log") {
                bytes += file.metadata()?.len();
            }
        }
    }
    Ok(bytes)
}
