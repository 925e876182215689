//! Writes the latest values of each device to Redis: one hash per device, which only newer values
//! change, and one message for each changed hash.
//!
//! MySQL is the truth. Redis is written after the commit, and a failure of Redis delays nothing.
//! `repair` writes what a failure missed.

pub mod changed_devices;
pub mod generation;
pub mod repair;

mod deferred;
mod fields;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fred::bytes::Bytes;
use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::scripts::Script;
use futures_util::future::try_join_all;
use ljwx_reading::DeviceSn;
use metrics::counter;
use tracing::{info, warn};

use crate::batch::Batch;
use crate::batch::redis_progress::RedisWrite;
use crate::batch::row::{Identity, ReadingRow};
use crate::health::redis_outcomes::RedisOutcomes;
use crate::metrics::{REDIS_REPLACED, REDIS_STALE};
use crate::mysql::newest_rows::NewestRows;
use deferred::DeferredDevices;
use fields::{packed_fields, packed_row};

/// Pause after a failure of Redis, so that an unreachable Redis does not slow every batch.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Most reads of a row whose hash has a later delivery than the row. Each further read needs a
/// delivery between a read and its write, so two reads are enough except in a flood.
const READ_AGAIN_MAX: usize = 10;

/// Writes the hashes in Redis and publishes to their channels.
pub struct LatestHashes {
    client: Client,
    script: Script,
    fields: Bytes,
    devices_max: usize,
    ttl: Option<Duration>,
    newest: NewestRows,
    deferred: Mutex<DeferredDevices>,
    outcomes: RedisOutcomes,
    paused_until: Mutex<Option<Instant>>,
}

/// The reason for which Redis does not have a batch.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// Redis did not accept the write.
    #[error("{0}")]
    Failed(#[from] fred::error::Error),
    /// Redis is unreachable or paused. Nothing was tried.
    #[error("Redis is unreachable")]
    Unreachable,
    /// The rows for Redis could not be read.
    #[error("MySQL: {0}")]
    MySql(#[from] sqlx::Error),
    /// Hashes changed faster than their rows could be read.
    #[error("{0} device(s) change faster than they can be read")]
    Unsettled(usize),
}

/// The script's answer for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScriptReply {
    Same,
    Changed,
    Missing,
    Newer,
    Outdated,
    /// Changed, and Redis rejected the message about the change.
    Unpublished,
}

impl ScriptReply {
    fn of(code: i64) -> Self {
        match code {
            1 => Self::Changed,
            2 => Self::Missing,
            3 => Self::Newer,
            4 => Self::Outdated,
            5 => Self::Unpublished,
            _ => Self::Same,
        }
    }
}

/// The rows that a call writes: readings of a batch, or whole rows of MySQL.
#[derive(Debug, Clone, Copy)]
enum WriteMode {
    Reading,
    Row,
}

impl WriteMode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Row => "row",
        }
    }
}

/// The reason for rejected messages: only a missing permission makes Redis reject PUBLISH.
const UNPUBLISHED: &str = "no permission to PUBLISH on health_data_channel:*";

/// Number of the script's arguments before those of the devices.
const ARGUMENTS_AHEAD: usize = 3;

type RowRef<'a> = (&'a Identity, &'a ReadingRow);

impl LatestHashes {
    /// Creates a writer of at most `devices_max` devices per call. A hash expires `ttl` after the
    /// last row that was not older than the hash. `outcomes` gets the results.
    pub fn new(
        client: Client,
        newest: NewestRows,
        devices_max: usize,
        ttl: Option<Duration>,
        outcomes: RedisOutcomes,
    ) -> Self {
        Self {
            client,
            script: Script::from_lua(include_str!("latest.lua")),
            fields: packed_fields(),
            devices_max,
            ttl,
            newest,
            deferred: Mutex::default(),
            outcomes,
            paused_until: Mutex::new(None),
        }
    }

    /// Returns whether Redis is connected and not paused after a failure.
    pub fn reachable(&self) -> bool {
        !self.is_paused() && self.client.is_connected()
    }

    /// Writes the newest reading of every device of a batch, or defers the devices of a partition
    /// that has more waiting. Returns the choice, segment by segment.
    pub async fn update(&self, batch: &Batch) -> Result<Vec<RedisWrite>, RedisError> {
        if !self.reachable() {
            return Err(RedisError::Unreachable);
        }
        let (rows, outcomes) = self.sort(batch);
        let devices: Vec<RowRef<'_>> = rows.iter().map(|(identity, row)| (identity, row)).collect();
        let chunks = || devices.chunks(self.devices_max);
        // Make the calls at the same time: while Redis runs one call, the next one travels.
        let answers =
            try_join_all(chunks().map(|chunk| self.call(WriteMode::Reading, chunk))).await?;
        let mut stale = 0;
        for (chunk, answers) in chunks().zip(answers) {
            stale += count(&answers, ScriptReply::Newer);
            let missing = chosen(chunk, &answers, ScriptReply::Missing);
            if !missing.is_empty() {
                self.fill(&missing).await?;
            }
        }
        counter!(REDIS_STALE).increment(stale as u64);
        // A replayed reading may be the newest or not. MySQL has decided, so write its row.
        let replayed: BTreeSet<&DeviceSn> =
            batch.segments.iter().flat_map(|s| &s.replays).map(|((sn, _), _)| sn).collect();
        self.refresh(&replayed.into_iter().cloned().collect::<Vec<_>>()).await?;
        Ok(outcomes)
    }

    fn sort(&self, batch: &Batch) -> (Vec<deferred::DeferredRow>, Vec<RedisWrite>) {
        let mut deferred = self.deferred.lock().unwrap_or_else(PoisonError::into_inner);
        deferred.sort(batch, Instant::now())
    }

    /// Creates the hashes of devices without a hash, from their newest rows in MySQL.
    async fn fill(&self, arrived: &[RowRef<'_>]) -> Result<(), RedisError> {
        let stored = self.newest.rows(arrived.iter().map(|((sn, _), _)| sn)).await?;
        let row_refs: Vec<RowRef<'_>> = arrived
            .iter()
            .map(|(identity, row)| match stored.get(&identity.0) {
                // The row is committed, so MySQL has it or a newer one. Only if the servers' clocks
                // differ much does the query skip the row as ahead of the clock.
                Some((newest, stored)) if newest.1 >= identity.1 => (newest, stored),
                _ => (*identity, *row),
            })
            .collect();
        self.call(WriteMode::Row, &row_refs).await.map(drop)
    }

    /// Writes the newest rows of these devices in MySQL to Redis. Returns the number of changed
    /// hashes.
    pub async fn refresh(&self, devices: &[DeviceSn]) -> Result<usize, RedisError> {
        let mut changed = 0;
        for chunk in devices.chunks(self.devices_max) {
            let mut open: Vec<DeviceSn> = chunk.to_vec();
            for _ in 0..READ_AGAIN_MAX {
                let stored = self.newest.rows(&open).await?;
                let row_refs: Vec<RowRef<'_>> =
                    stored.values().map(|(identity, row)| (identity, row)).collect();
                let answers = self.call(WriteMode::Row, &row_refs).await?;
                changed += count(&answers, ScriptReply::Changed)
                    + count(&answers, ScriptReply::Unpublished);
                let outdated = chosen(&row_refs, &answers, ScriptReply::Outdated);
                open = outdated.into_iter().map(|(identity, _)| identity.0.clone()).collect();
                if open.is_empty() {
                    break;
                }
            }
            if !open.is_empty() {
                return Err(RedisError::Unsettled(open.len()));
            }
        }
        Ok(changed)
    }

    async fn call(
        &self,
        mode: WriteMode,
        row_refs: &[RowRef<'_>],
    ) -> Result<Vec<ScriptReply>, RedisError> {
        if row_refs.is_empty() {
            return Ok(Vec::new());
        }
        let (keys, arguments) = self.arguments(mode, row_refs);
        let answers: Result<Vec<i64>, _> =
            self.script.evalsha_with_reload(&self.client, keys, arguments).await;
        match answers {
            Ok(mut answers) => {
                log_replaced(row_refs, &answers.split_off(row_refs.len().min(answers.len())));
                let answers: Vec<ScriptReply> = answers.into_iter().map(ScriptReply::of).collect();
                self.report(&answers);
                Ok(answers)
            }
            Err(error) => {
                self.outcomes.writes.failed(error.details(), Instant::now());
                self.pause();
                Err(error.into())
            }
        }
    }

    /// Reports what Redis accepted of a call.
    fn report(&self, answers: &[ScriptReply]) {
        let (published, unpublished) =
            (answers.contains(&ScriptReply::Changed), answers.contains(&ScriptReply::Unpublished));
        if published || unpublished {
            self.outcomes.writes.taken();
        }
        if unpublished && self.outcomes.messages.failed(UNPUBLISHED, Instant::now()) {
            warn!(error = UNPUBLISHED, "cannot publish changed hashes, continuing with the hashes");
        } else if published && !unpublished && self.outcomes.messages.taken() {
            info!("publishing of changed hashes recovered");
        }
    }

    fn arguments(&self, mode: WriteMode, row_refs: &[RowRef<'_>]) -> (Vec<String>, Vec<Bytes>) {
        let mut keys = Vec::with_capacity(row_refs.len());
        let mut arguments = Vec::with_capacity(ARGUMENTS_AHEAD + row_refs.len());
        let ttl = self.ttl.map(|ttl| ttl.as_secs().max(1).to_string()).unwrap_or_default();
        arguments.extend([mode.as_str().into(), ttl.into(), self.fields.clone()]);
        for (identity, row) in row_refs {
            keys.push(hash_key(&identity.0));
            arguments.push(packed_row(identity, row));
        }
        (keys, arguments)
    }

    fn is_paused(&self) -> bool {
        let until = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn pause(&self) {
        let mut until = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = Some(Instant::now() + PAUSE_AFTER_FAILURE);
    }
}

/// Returns the key of a device's hash.
pub fn hash_key(device: &impl Display) -> String {
    format!("health_data:{device}")
}

/// Logs and counts the keys that were no hashes. `numbers` are their devices' numbers, from 1.
fn log_replaced(row_refs: &[RowRef<'_>], numbers: &[i64]) {
    let device = |number: &i64| row_refs.get(usize::try_from(*number - 1).ok()?);
    let Some((first, _)) = numbers.first().and_then(device) else { return };
    counter!(REDIS_REPLACED).increment(numbers.len() as u64);
    let first = hash_key(&first.0);
    warn!(keys = numbers.len(), first, "keys of another type replaced by device hashes");
}

fn count(answers: &[ScriptReply], wanted: ScriptReply) -> usize {
    answers.iter().filter(|answer| **answer == wanted).count()
}

fn chosen<'a>(
    row_refs: &[RowRef<'a>],
    answers: &[ScriptReply],
    wanted: ScriptReply,
) -> Vec<RowRef<'a>> {
    let pairs = row_refs.iter().zip(answers);
    pairs.filter(|(_, answer)| **answer == wanted).map(|(row_refs, _)| *row_refs).collect()
}
