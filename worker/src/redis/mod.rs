//! The latest value of each device in Redis: one hash a device, changed only by what is newer, and
//! one message for each that changed.
//!
//! MySQL is the truth; this is written after its commit and may fail without holding anything up.
//! What failed is made good by `repair`.

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

/// How long Redis is left alone after a failure, so that its absence does not slow every batch.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// How often a row is read again because the hash had moved on meanwhile. A device would have to
/// send again between each reading and writing, so the second time settles it but for a flood.
const READ_AGAIN_MAX: usize = 10;

/// The hashes and channels in Redis.
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

/// Why Redis does not have a batch.
#[derive(Debug, thiserror::Error)]
pub enum RedisFailure {
    /// It did not take it.
    #[error("{0}")]
    Failed(#[from] fred::error::Error),
    /// It is away; nothing was tried.
    #[error("Redis is away")]
    Away,
    /// What it lacks could not be read.
    #[error("MySQL: {0}")]
    MySql(#[from] sqlx::Error),
    /// A hash moved on faster than its row could be read.
    #[error("{0} device(s) change faster than they can be read")]
    Unsettled(usize),
}

/// What the script says about a device.
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

/// What a call shows: readings as they came, or whole rows of MySQL.
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

/// The script's arguments ahead of the devices'.
const ARGUMENTS_AHEAD: usize = 3;

type Shown<'a> = (&'a Identity, &'a Row);

impl Latest {
    /// Updates at most `devices_max` devices a call; hashes expire `ttl` after their last change.
    /// `writes` is told what became of each.
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

    /// Whether Redis is connected and did not fail just now.
    pub fn reachable(&self) -> bool {
        !self.rests() && self.client.is_connected()
    }

    /// Shows the newest reading of every device of a batch, or puts off those of a partition that has
    /// more waiting; says which, segment by segment.
    pub async fn update(&self, batch: &Batch) -> Result<Vec<InRedis>, RedisFailure> {
        if !self.reachable() {
            return Err(RedisFailure::Away);
        }
        let (rows, outcomes) = self.sort(batch);
        let devices: Vec<Shown<'_>> = rows.iter().map(|(identity, row)| (identity, row)).collect();
        let chunks = || devices.chunks(self.devices_max);
        // Side by side: while one is under way the next is on its way.
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
        // What was replayed may be older than what is there or may be the newest; MySQL has decided.
        let replayed: BTreeSet<&DeviceSn> =
            batch.segments.iter().flat_map(|s| &s.replays).map(|((sn, _), _)| sn).collect();
        self.refresh(&replayed.into_iter().cloned().collect::<Vec<_>>()).await?;
        Ok(outcomes)
    }

    fn sort(&self, batch: &Batch) -> (Vec<deferred::Shown>, Vec<InRedis>) {
        let mut put_off = self.put_off.lock().unwrap_or_else(PoisonError::into_inner);
        put_off.sort(batch, Instant::now())
    }

    /// Makes the hashes of devices that have none, from what is newest in MySQL.
    async fn fill(&self, arrived: &[Shown<'_>]) -> Result<(), RedisFailure> {
        let stored = self.newest.rows(arrived.iter().map(|((sn, _), _)| sn)).await?;
        let shown: Vec<Shown<'_>> = arrived
            .iter()
            .map(|(identity, row)| match stored.get(&identity.0) {
                // Committed before, so MySQL has it; unless the servers' clocks differ so much that
                // it looks ahead of its clock there.
                Some((newest, stored)) if newest.1 >= identity.1 => (newest, stored),
                _ => (*identity, *row),
            })
            .collect();
        self.call(Mode::Row, &shown).await.map(drop)
    }

    /// Shows what MySQL has newest of the given devices; returns how many hashes changed.
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

/// Says which keys were no hashes; `numbers` are their devices', from 1.
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
