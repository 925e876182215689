//! `worker run --dry-run`: goes through what a group has before it and says what would become of it.
//! Joins no group, claims nothing, commits nothing, writes nothing.
//!
//! What only the database can refuse — a value that no column takes — it cannot foresee.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};

use anyhow::Context;
use common::kafka::REQUEST_TIMEOUT;
use common::ledger::Accepted;
use common::mysql::MySqlPool;
use common::table::table;
use common::topic::Reader;
use common::wire;
use rdkafka::message::Message;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::audit::Identity;
use crate::config::RunConfig;
use crate::stop_at::{Stops, stops};

/// Readings of one question to MySQL.
const ASKED_MAX: usize = 500;

/// Identities that are remembered, to tell repeated ones that are not stored yet; 8 bytes each.
const SEEN_MAX: usize = 5_000_000;

/// Names of the table's columns.
const COLUMNS: [&str; 7] = [
    "partition",
    "from",
    "to",
    "would store",
    "would merge",
    "would dead-letter",
    "ahead of clock",
];

/// What would become of a partition's records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Outlook {
    from: i64,
    to: i64,
    stored: i64,
    merged: i64,
    dead_lettered: i64,
    ahead: i64,
}

/// Prints the outlook up to `--stop-at`, else up to the topic's present end.
pub async fn dry_run(config: &RunConfig, stop: CancellationToken) -> anyhow::Result<()> {
    tokio::select! {
        done = run(config) => done,
        () = stop.cancelled() => anyhow::bail!("interrupted"),
    }
}

async fn run(config: &RunConfig) -> anyhow::Result<()> {
    let pool = config.mysql.connect(&config.zone.zone)?;
    let topic = &config.kafka.readings_topic;
    let accepted = common::ledger::accepted(&pool, topic).await?;
    let ledger = crate::offsets::ledger(&pool, &config.group, topic).await?;
    let positions = ledger.into_iter().map(|(partition, entry)| (partition, entry.next_offset));
    let (positions, config, runtime) = (positions.collect(), config.clone(), Handle::current());
    let work = move || outlook(&config, &accepted, &pool, &positions, &runtime);
    let outlook = tokio::task::spawn_blocking(work).await??;
    print(&outlook, &mut io::stdout())?;
    Ok(())
}

/// Blocks.
fn outlook(
    config: &RunConfig,
    accepted: &Accepted,
    pool: &MySqlPool,
    positions: &BTreeMap<i32, i64>,
    runtime: &Handle,
) -> anyhow::Result<BTreeMap<i32, Outlook>> {
    let topic = &config.kafka.readings_topic;
    let at_ms = config.stop_at.and_then(|stop_at| stop_at.at_ms(&config.zone.zone));
    let stops: Stops = stops(&config.kafka, accepted, at_ms)?;
    let reader = Reader::new(&config.kafka, "worker-dry-run")?;
    reader.count_as(topic, accepted, REQUEST_TIMEOUT)?;
    let ends = reader.ends(topic)?.with_context(|| format!("there is no topic {topic}"))?;
    let mut found = BTreeMap::new();
    let mut stretches = BTreeMap::new();
    for (partition, to) in stops {
        let low = ends.get(&partition).map_or(0, |ends| ends.low);
        let from = positions.get(&partition).copied().unwrap_or(low).max(low);
        stretches.insert(partition, from..to);
        found.insert(partition, Outlook { from, to: to.max(from), ..Outlook::default() });
    }
    let mut judge = Judge::new(pool, runtime);
    reader.read(topic, &stretches, |message| {
        let Some(outlook) = found.get_mut(&message.partition()) else { return Ok(()) };
        match wire::decode(message.payload().unwrap_or_default()) {
            Err(_) => outlook.dead_lettered += 1,
            Ok(reading) => {
                outlook.ahead += i64::from(reading.ahead_of_clock());
                let identity = (
                    reading.device_sn().to_string(),
                    common::reading::wall_text(reading.timestamp()),
                );
                judge.note(message.partition(), identity);
            }
        }
        if judge.is_full() {
            judge.ask(&mut found)?;
        }
        Ok(())
    })?;
    judge.ask(&mut found)?;
    Ok(found)
}

/// Tells new identities from those that are stored, or were seen before.
struct Judge<'a> {
    pool: &'a MySqlPool,
    runtime: &'a Handle,
    hasher: RandomState,
    seen: HashSet<u64>,
    waiting: Vec<(i32, Identity)>,
}

impl<'a> Judge<'a> {
    fn new(pool: &'a MySqlPool, runtime: &'a Handle) -> Self {
        let (hasher, seen) = (RandomState::new(), HashSet::new());
        Self { pool, runtime, hasher, seen, waiting: Vec::with_capacity(ASKED_MAX) }
    }

    fn note(&mut self, partition: i32, identity: Identity) {
        self.waiting.push((partition, identity));
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= ASKED_MAX
    }

    fn ask(&mut self, found: &mut BTreeMap<i32, Outlook>) -> anyhow::Result<()> {
        let identities = self.waiting.iter().map(|(_, identity)| identity);
        let stored = self.runtime.block_on(crate::audit::stored(self.pool, identities))?;
        for (partition, identity) in self.waiting.drain(..) {
            let hash = self.hasher.hash_one(&identity);
            let again = self.seen.contains(&hash);
            if self.seen.len() < SEEN_MAX {
                self.seen.insert(hash);
            }
            let Some(outlook) = found.get_mut(&partition) else { continue };
            if again || stored.contains(&identity) {
                outlook.merged += 1;
            } else {
                outlook.stored += 1;
            }
        }
        Ok(())
    }
}

fn print(found: &BTreeMap<i32, Outlook>, out: &mut impl Write) -> io::Result<()> {
    let mut total = Outlook::default();
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    for (partition, outlook) in found {
        rows.push(cells(partition.to_string(), outlook, true));
        total.stored += outlook.stored;
        total.merged += outlook.merged;
        total.dead_lettered += outlook.dead_lettered;
        total.ahead += outlook.ahead;
    }
    rows.push(cells("total".into(), &total, false));
    table(&rows, out)?;
    writeln!(out, "\nnothing was written and nothing committed")
}

fn cells(name: String, outlook: &Outlook, offsets: bool) -> [String; 7] {
    let offset = |offset: i64| if offsets { offset.to_string() } else { String::new() };
    [
        name,
        offset(outlook.from),
        offset(outlook.to),
        outlook.stored.to_string(),
        outlook.merged.to_string(),
        outlook.dead_lettered.to_string(),
        outlook.ahead.to_string(),
    ]
}
