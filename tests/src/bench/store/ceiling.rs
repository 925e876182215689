//! The ceiling of the database: bare multi-row upserts of the same rows into the same tables,
//! rendered before the clock starts.
//!
//! Readings without documents are one statement. Readings with documents are main rows and one
//! daily and one weekly row per device in one transaction: the least that a store must write to
//! keep the newest document of each batch.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::mysql::MySqlArguments;
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::hashes::{Pipeline, Raw};
use super::rows::{Upsert, Upserts, Value};
use super::write_method::Form;
use crate::bench::fill_topic::cleared;
use crate::bench::workload::Sample;
use crate::stack::world::World;

/// The isolation level of the worker's sessions. Gap locks would only make connections wait for
/// each other.
const SESSION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

/// Readings with which each form is tried.
const TRIED: usize = 40_000;

/// Forms that are printed, the fastest first.
const SHOWN: usize = 3;

/// Tries of each form. The forms take turns, because the machine drifts.
const TRIES: usize = 2;

enum Statement {
    Text(String),
    Prepared(Vec<(Arc<str>, MySqlArguments)>),
}

struct Job {
    statement: Statement,
    hashes: Option<Pipeline>,
}

/// The database, and Redis if the hashes are wanted.
pub(super) struct Ceiling<'a> {
    world: &'a World,
    upserts: Upserts,
    hashes: bool,
}

impl<'a> Ceiling<'a> {
    pub(super) async fn new(world: &'a World, hashes: bool) -> anyhow::Result<Self> {
        Ok(Self { world, upserts: Upserts::new(world).await?, hashes })
    }

    /// Returns the fastest form, measured with the first of the samples.
    pub(super) async fn best(&self, samples: &[Sample]) -> anyhow::Result<Form> {
        let samples = &samples[..TRIED.min(samples.len())];
        let mut seconds: Vec<(Form, f64)> = Form::all().map(|form| (form, 0.0)).collect();
        // The first run does not count: it fills caches and files.
        self.seconds(samples, seconds[0].0).await?;
        for _ in 0..TRIES {
            for (form, total) in &mut seconds {
                *total += self.seconds(samples, *form).await?;
            }
        }
        seconds.sort_by(|a, b| a.1.total_cmp(&b.1));
        for (form, total) in seconds.iter().take(SHOWN) {
            println!("    {form}: {:.0} rows/s", (samples.len() * TRIES) as f64 / total);
        }
        Ok(seconds[0].0)
    }

    /// Returns the rows a second.
    pub(super) async fn rate(&self, samples: &[Sample], form: Form) -> anyhow::Result<f64> {
        Ok(samples.len() as f64 / self.seconds(samples, form).await?)
    }

    async fn seconds(&self, samples: &[Sample], form: Form) -> anyhow::Result<f64> {
        cleared(self.world).await?;
        let jobs: anyhow::Result<VecDeque<Job>> =
            batches(samples, form.rows, self.world.partitions())
                .iter()
                .map(|batch| self.job(batch, form.prepared))
                .collect();
        let jobs = Arc::new(Mutex::new(jobs?));
        let mut connections = Vec::new();
        for _ in 0..form.connections {
            let mut connection = MySqlConnection::connect(self.world.database.url()).await?;
            connection.execute(SESSION).await?;
            let redis = match self.hashes {
                true => Some(Raw::connect(&self.world.stack.redis_url).await?),
                false => None,
            };
            connections.push((connection, redis));
        }
        let mut tasks = JoinSet::new();
        let started = Instant::now();
        for (connection, redis) in connections {
            tasks.spawn(work(connection, redis, Arc::clone(&jobs)));
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(started.elapsed().as_secs_f64())
    }

    fn job(&self, batch: &[&Sample], prepared: bool) -> anyhow::Result<Job> {
        let newest: BTreeMap<&str, &Sample> =
            batch.iter().map(|sample| (sample.device.as_str(), *sample)).collect();
        let (daily, weekly) = newest.values().filter_map(|sample| sample.periods()).unzip();
        let main: Vec<Vec<Value>> = batch.iter().map(|sample| sample.row()).collect();
        let Upserts { main: upsert, daily: by_day, weekly: by_week } = &self.upserts;
        let parts: [(&Upsert, Vec<Vec<Value>>); 3] =
            [(upsert, main), (by_day, daily), (by_week, weekly)];
        let parts = parts.iter().filter(|(_, rows)| !rows.is_empty());
        let statement = if prepared {
            let statements: anyhow::Result<_> =
                parts.map(|(upsert, rows)| upsert.prepared(rows)).collect();
            Statement::Prepared(statements?)
        } else {
            let texts: Vec<String> = parts.map(|(upsert, rows)| upsert.text(rows)).collect();
            Statement::Text(match &texts[..] {
                [one] => one.clone(),
                several => format!("BEGIN;{};COMMIT", several.join(";")),
            })
        };
        let hashes = self.hashes.then(|| Pipeline::new(newest.into_values()));
        Ok(Job { statement, hashes })
    }
}

/// Forms batches of rows of one partition each, sorted by key like the worker's. The partitions
/// take turns, so that connections rarely write to neighbouring keys.
fn batches(samples: &[Sample], rows: usize, partitions: usize) -> Vec<Vec<&Sample>> {
    let mut lanes: Vec<Vec<&Sample>> = vec![Vec::new(); partitions];
    for sample in samples {
        lanes[sample.partition].push(sample);
    }
    let mut batches: Vec<(usize, Vec<&Sample>)> = Vec::new();
    for lane in lanes {
        for (turn, chunk) in lane.chunks(rows).enumerate() {
            let mut batch = chunk.to_vec();
            batch.sort_by(|a, b| (&a.device, &a.time).cmp(&(&b.device, &b.time)));
            batches.push((turn, batch));
        }
    }
    batches.sort_by_key(|(turn, _)| *turn);
    batches.into_iter().map(|(_, batch)| batch).collect()
}

async fn work(
    mut connection: MySqlConnection,
    mut redis: Option<Raw>,
    jobs: Arc<Mutex<VecDeque<Job>>>,
) -> anyhow::Result<()> {
    let next = || jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    while let Some(Job { statement, hashes }) = next() {
        match statement {
            Statement::Text(text) => {
                sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await?;
            }
            Statement::Prepared(mut parts) if parts.len() == 1 => {
                for (text, arguments) in parts.drain(..) {
                    run(&mut connection, text, arguments).await?;
                }
            }
            Statement::Prepared(parts) => {
                let mut transaction = connection.begin().await?;
                for (text, arguments) in parts {
                    run(&mut transaction, text, arguments).await?;
                }
                transaction.commit().await?;
            }
        }
        if let (Some(redis), Some(hashes)) = (&mut redis, hashes) {
            redis.send(&hashes).await?;
        }
    }
    Ok(())
}

async fn run(
    connection: &mut MySqlConnection,
    text: Arc<str>,
    arguments: MySqlArguments,
) -> anyhow::Result<()> {
    sqlx::query_with(AssertSqlSafe(text), arguments).execute(connection).await?;
    Ok(())
}
