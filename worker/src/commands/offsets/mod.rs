//! `worker offsets`: shows the positions of a group and moves them. The ledger counts every offset
//! that is skipped or reprocessed.

mod args;
mod ledger_rows;
mod plan;

use std::collections::BTreeMap;
use std::io::{self, Write};

use anyhow::{Context, ensure};
use ljwx_ledger::ledger::AcceptedTopic;
use ljwx_service::kafka::REQUEST_TIMEOUT;
use ljwx_service::kafka::topic_reader::{TopicReader, TopicWatermarks, whole};
use ljwx_service::text::Align::Right;
use ljwx_service::text::{Column, table};

pub use args::OffsetsArgs;

use args::MoveTarget;
use plan::PartitionMove;

/// The state of the group and its topic in Kafka.
struct GroupPosition {
    ends: TopicWatermarks,
    record_ends: BTreeMap<i32, i64>,
    at_time: BTreeMap<i32, i64>,
    members: Vec<String>,
}

/// Shows or moves the positions of the group.
pub async fn offsets(config: &OffsetsArgs) -> anyhow::Result<()> {
    let (group, topic) = (&config.group, &config.kafka.readings_topic);
    let pool = config.mysql.connect(&config.zone.zone)?;
    let (asked, accepted) = (config.clone(), ljwx_ledger::ledger::accepted(&pool, topic).await?);
    let found = tokio::task::spawn_blocking(move || query_kafka(&asked, &accepted)).await??;
    let ledger = ledger_rows::ledger(&pool, group, topic).await?;
    let target = config.target();
    let moves = plan::plan(&config.partitions, target, &ledger, &found.ends, &found.at_time)?;
    let mut out = io::stdout();
    print(config, &moves, &found.record_ends, &mut out)?;
    if !config.execute {
        if target.is_some() {
            writeln!(out, "\nnothing was moved: add --execute")?;
        }
        return Ok(());
    }
    ensure!(
        config.force || found.members.is_empty() || !moves.iter().any(PartitionMove::is_worked_on),
        "the group has {} member(s): {}. Stop them first, or add --force: they claim these partitions \
         again and continue from the new positions",
        found.members.len(),
        found.members.join(", ")
    );
    ledger_rows::execute(&pool, group, topic, &moves).await?;
    let moved = moves.iter().filter(|planned| planned.target.is_some()).count();
    writeln!(out, "\nmoved {moved} partition(s); running workers claim them again within seconds")?;
    Ok(())
}

/// Reads the state in Kafka. Blocks.
fn query_kafka(config: &OffsetsArgs, accepted: &AcceptedTopic) -> anyhow::Result<GroupPosition> {
    let topic = &config.kafka.readings_topic;
    let reader = TopicReader::new(&config.kafka, "worker-offsets")?;
    accepted.count_in(&reader, topic, REQUEST_TIMEOUT)?;
    let ends = reader.ends(topic)?.with_context(|| format!("there is no topic {topic}"))?;
    let at_time = match config.target() {
        Some(MoveTarget::Time(at_ms)) => reader.at_time(topic, &ends, at_ms)?,
        _ => BTreeMap::new(),
    };
    let members = if config.execute { reader.members(&config.group)? } else { Vec::new() };
    let record_ends = reader.record_ends(topic, &whole(&ends))?;
    Ok(GroupPosition { ends, record_ends, at_time, members })
}

fn print(
    config: &OffsetsArgs,
    moves: &[PartitionMove],
    record_ends: &BTreeMap<i32, i64>,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "group {} on {}\n", config.group, config.kafka.readings_topic)?;
    let lag = |planned: &PartitionMove| {
        let end = record_ends.get(&planned.partition).unwrap_or(&planned.high);
        (end - planned.position()).max(0).to_string()
    };
    let columns: [Column<'_, PartitionMove>; 8] = [
        ("partition", Right, &|planned| planned.partition.to_string()),
        ("low", Right, &|planned| planned.low.to_string()),
        ("high", Right, &|planned| planned.high.to_string()),
        ("position", Right, &|planned| {
            planned.entry.map_or("none".to_owned(), |_| planned.position().to_string())
        }),
        ("lag", Right, &lag),
        ("target", Right, &|planned| planned.target.map_or("-".to_owned(), |to| to.to_string())),
        ("skipped", Right, &|planned| planned.skipped().to_string()),
        ("rewound", Right, &|planned| planned.rewound().to_string()),
    ];
    table(moves, columns, out)
}
