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
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fred::bytes::Bytes;
use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::scripts::Script;
use futures_util::future::try_join_all;
use ljwx_reading::DeviceSn;
use metrics::counter;
use tracing::warn;

use crate::batch::Batch;
use crate::batch::redis_progress::InRedis;
use crate::batch::row::{Identity, Row};
use crate::health::redis_writes::Writes;
use crate::metrics::{REDIS_REPLACED, REDIS_STALE};
use crate::mysql::newest_rows::Newest;
use deferred::PutOff;
use fields::{packed_fields, packed_row};

/// Pause after a failure of Redis, so that an unreachable Redis does not slow every batch.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Most reads of a row whose hash has a later delivery than the row. Each further read needs a
/// delivery between a read and its write, so two reads are enough except in a flood.
const READ_AGAIN_MAX: usize = 10;

/// Writes the hashes in Redis and publishes to their channels.
pub struct Latest {
    client: Client,
    script: Script,
    fields: Bytes,
    devices_max: usize,
    ttl: Option<Duration>,
    newest: Newest,
    put_off: Mutex<PutOff>,
    writes: Writes,
    rests_until: Mutex<Option<Instant>>,
}

/// The reason for which Redis does not have a batch.
#[derive(Debug, thiserror::Error)]
pub enum RedisFailure {
    /// Redis did not accept the write.
    #[error("{0}")]
    Failed(#[from] fred::error::Error),
    /// Redis is unreachable or paused. Nothing was tried.
    #[error("Redis is away")]
    Away,
    /// The rows for Redis could not be read.
    #[error("MySQL: {0}")]
    MySql(#[from] sqlx::Error),
    /// Hashes changed faster than their rows could be read.
    #[error("{0} device(s) change faster than they can be read")]
    Unsettled(usize),
}

/// The script's answer for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Same,
    Changed,
    Missing,
    Newer,
    Outdated,
}

impl Answer {
    fn of(code: i64) -> Self {
        match code {
            1 => Self::Changed,
            2 => Self::Missing,
            3 => Self::Newer,
            4 => Self::Outdated,
            _ => Self::Same,
        }
    }
}

/// The rows that a call writes: readings of a batch, or whole rows of MySQL.
#[derive(Debug, Clone, Copy)]
enum Mode {
    Reading,
    Row,
}

impl Mode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Row => "row",
        }
    }
}

/// Number of the script's arguments before those of the devices.
const ARGUMENTS_AHEAD: usize = 3;

type Shown<'a> = (&'a Identity, &'a Row);

impl Latest {
    /// Creates a writer of at most `devices_max` devices per call. A hash expires `ttl` after the
    /// last row that was not older than the hash. `writes` gets the results.
    pub fn new(
        client: Client,
        newest: Newest,
        devices_max: usize,
        ttl: Option<Duration>,
        writes: Writes,
    ) -> Self {
        Self {
            client,
            script: Script::from_lua(include_str!("latest.lua")),
            fields: packed_fields(),
            devices_max,
            ttl,
            newest,
            put_off: Mutex::default(),
            writes,
            rests_until: Mutex::new(None),
        }
    }

    /// Returns whether Redis is connected and not paused after a failure.
    pub fn reachable(&self) -> bool {
        !self.rests() && self.client.is_connected()
    }

    /// Writes the newest reading of every device of a batch, or defers the devices of a partition
    /// that has more waiting. Returns the choice, segment by segment.
    pub async fn update(&self, batch: &Batch) -> Result<Vec<InRedis>, RedisFailure> {
        if !self.reachable() {
            return Err(RedisFailure::Away);
        }
        let (rows, outcomes) = self.sort(batch);
        let devices: Vec<Shown<'_>> = rows.iter().map(|(identity, row)| (identity, row)).collect();
        let chunks = || devices.chunks(self.devices_max);
        // Make the calls at the same time: while Redis runs one call, the next one travels.
        let answers = try_join_all(chunks().map(|chunk| self.call(Mode::Reading, chunk))).await?;
        let mut stale = 0;
        for (chunk, answers) in chunks().zip(answers) {
            stale += count(&answers, Answer::Newer);
            let missing = chosen(chunk, &answers, Answer::Missing);
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

    fn sort(&self, batch: &Batch) -> (Vec<deferred::Shown>, Vec<InRedis>) {
        let mut put_off = self.put_off.lock().unwrap_or_else(PoisonError::into_inner);
        put_off.sort(batch, Instant::now())
    }

    /// Creates the hashes of devices without a hash, from their newest rows in MySQL.
    async fn fill(&self, arrived: &[Shown<'_>]) -> Result<(), RedisFailure> {
        let stored = self.newest.rows(arrived.iter().map(|((sn, _), _)| sn)).await?;
        let shown: Vec<Shown<'_>> = arrived
            .iter()
            .map(|(identity, row)| match stored.get(&identity.0) {
                // The row is committed, so MySQL has it or a newer one. Only if the servers' clocks
                // differ much does the query skip the row as ahead of the clock.
                Some((newest, stored)) if newest.1 >= identity.1 => (newest, stored),
                _ => (*identity, *row),
            })
            .collect();
        self.call(Mode::Row, &shown).await.map(drop)
    }

    /// Writes the newest rows of these devices in MySQL to Redis. Returns the number of changed
    /// hashes.
    pub async fn refresh(&self, devices: &[DeviceSn]) -> Result<usize, RedisFailure> {
        let mut changed = 0;
        for chunk in devices.chunks(self.devices_max) {
            let mut open: Vec<DeviceSn> = chunk.to_vec();
            for _ in 0..READ_AGAIN_MAX {
                let stored = self.newest.rows(&open).await?;
                let shown: Vec<Shown<'_>> =
                    stored.values().map(|(identity, row)| (identity, row)).collect();
                let answers = self.call(Mode::Row, &shown).await?;
                changed += count(&answers, Answer::Changed);
                let outdated = chosen(&shown, &answers, Answer::Outdated);
                open = outdated.into_iter().map(|(identity, _)| identity.0.clone()).collect();
                if open.is_empty() {
                    break;
                }
            }
            if !open.is_empty() {
                return Err(RedisFailure::Unsettled(open.len()));
            }
        }
        Ok(changed)
    }

    async fn call(&self, mode: Mode, shown: &[Shown<'_>]) -> Result<Vec<Answer>, RedisFailure> {
        if shown.is_empty() {
            return Ok(Vec::new());
        }
        let (keys, arguments) = self.arguments(mode, shown);
        let answers: Result<Vec<i64>, _> =
            self.script.evalsha_with_reload(&self.client, keys, arguments).await;
        match answers {
            Ok(mut answers) => {
                tell_replaced(shown, &answers.split_off(shown.len().min(answers.len())));
                let answers: Vec<Answer> = answers.into_iter().map(Answer::of).collect();
                if answers.contains(&Answer::Changed) {
                    self.writes.taken();
                }
                Ok(answers)
            }
            Err(error) => {
                self.writes.failed(&error, Instant::now());
                self.rest();
                Err(error.into())
            }
        }
    }

    fn arguments(&self, mode: Mode, shown: &[Shown<'_>]) -> (Vec<String>, Vec<Bytes>) {
        let mut keys = Vec::with_capacity(shown.len() * 2);
        let mut arguments = Vec::with_capacity(ARGUMENTS_AHEAD + shown.len());
        let ttl = self.ttl.map(|ttl| ttl.as_secs().max(1).to_string()).unwrap_or_default();
        arguments.extend([mode.as_str().into(), ttl.into(), self.fields.clone()]);
        for (identity, row) in shown {
            keys.push(format!("health_data:{}", identity.0));
            keys.push(format!("health_data_channel:{}", identity.0));
            arguments.push(packed_row(identity, row));
        }
        (keys, arguments)
    }

    fn rests(&self) -> bool {
        let until = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn rest(&self) {
        let mut until = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = Some(Instant::now() + REST_AFTER_FAILURE);
    }
}

/// Logs and counts the keys that were no hashes. `numbers` are their devices' numbers, from 1.
fn tell_replaced(shown: &[Shown<'_>], numbers: &[i64]) {
    let device = |number: &i64| shown.get(usize::try_from(*number - 1).ok()?);
    let Some((first, _)) = numbers.first().and_then(device) else { return };
    counter!(REDIS_REPLACED).increment(numbers.len() as u64);
    let key = format!("health_data:{}", first.0);
    warn!(keys = numbers.len(), first = key, "keys of another type replaced by devices' hashes");
}

fn count(answers: &[Answer], wanted: Answer) -> usize {
    answers.iter().filter(|answer| **answer == wanted).count()
}

fn chosen<'a>(shown: &[Shown<'a>], answers: &[Answer], wanted: Answer) -> Vec<Shown<'a>> {
    let pairs = shown.iter().zip(answers);
    pairs.filter(|(_, answer)| **answer == wanted).map(|(shown, _)| *shown).collect()
}
