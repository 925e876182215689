//! Accepts the readings topic: stores its identity, and moves every group if the topic was
//! recreated.

use std::io::{self, Write};

use anyhow::Context;
use ljwx_ledger::ledger::AcceptedTopic;
use ljwx_ledger::mysql::{MySqlConnection, MySqlPool};
use ljwx_service::kafka::topic_identity::TopicIdentity;
use ljwx_service::text::Align::Right;
use ljwx_service::text::{Column, table};
use sqlx::FromRow;

/// Owner of a moved ledger row until the partition is claimed.
const OWNER: &str = "worker migrate";

/// Position of a group when the topic was recreated.
#[derive(Debug, FromRow)]
struct GroupPositionBefore {
    consumer_group: String,
    partition: i32,
    next_offset: i64,
    rewound: i64,
}

/// Stores the identity of the topic. If another identity was stored before, this needs `accept`.
/// The topic's first offset then becomes the greatest position of any group, so that every offset
/// is used once.
pub async fn accept_topic(
    pool: &MySqlPool,
    topic: &str,
    found: &TopicIdentity,
    accept: bool,
) -> anyhow::Result<()> {
    let mut connection = pool.acquire().await.context("MySQL does not answer")?;
    let mut transaction = connection.begin().await?;
    let known: Option<AcceptedTopic> = sqlx::query_as(
        "SELECT topic_id, COALESCE(cluster_id, '') AS cluster_id, base FROM ingest_topic \
         WHERE topic = ? AND topic_id IS NOT NULL FOR UPDATE",
    )
    .bind(topic)
    .fetch_optional(&mut *transaction)
    .await?;
    let mut base = known.as_ref().map_or(0, |known| known.base);
    let mut stood = Vec::new();
    if let Some(known) = known.filter(|known| !known.is(found)) {
        if !accept {
            known.check(topic, found)?;
        }
        stood = positions(&mut transaction, topic).await?;
        // A rewound group was further before: its rewound offsets are an upper bound.
        base = stood.iter().map(|stood| stood.next_offset + stood.rewound).fold(base, i64::max);
        move_to(&mut transaction, topic, &known.topic_id, base).await?;
    }
    sqlx::query("UPDATE ingest_topic SET topic_id = ?, cluster_id = ?, base = ? WHERE topic = ?")
        .bind(&found.topic_id)
        .bind(&found.cluster_id)
        .bind(base)
        .bind(topic)
        .execute(&mut *transaction)
        .await?;
    transaction
        .commit()
        .await
        .context("nobody knows whether the topic was accepted: run it again")?;
    tracing::info!(topic, topic_id = found.topic_id, base, "topic accepted");
    if !stood.is_empty() {
        print(&stood, base, &mut io::stdout())?;
    }
    Ok(())
}

async fn positions(
    connection: &mut MySqlConnection,
    topic: &str,
) -> sqlx::Result<Vec<GroupPositionBefore>> {
    sqlx::query_as(
        "SELECT CAST(consumer_group AS CHAR) AS consumer_group, `partition`, next_offset, rewound \
         FROM ingest_progress WHERE topic = ? ORDER BY consumer_group, `partition` FOR UPDATE",
    )
    .bind(topic)
    .fetch_all(connection)
    .await
}

/// Moves every group to the new topic's first offset and stores its former position. The raised
/// epoch fences the present owners of the partitions.
async fn move_to(
    connection: &mut MySqlConnection,
    topic: &str,
    former_id: &str,
    base: i64,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO ingest_topic_gap (consumer_group, topic, `partition`, former_id, stood_at, base) \
         SELECT consumer_group, topic, `partition`, ?, next_offset, ? FROM ingest_progress \
         WHERE topic = ? ON DUPLICATE KEY UPDATE stood_at = VALUES(stood_at), base = VALUES(base), \
         accepted_at = CURRENT_TIMESTAMP",
    )
    .bind(former_id)
    .bind(base)
    .bind(topic)
    .execute(&mut *connection)
    .await?;
    // Assignments run from left to right. If Redis was behind, the repair then reads MySQL.
    sqlx::query(
        "UPDATE ingest_progress SET skipped_gap = skipped_gap + (? - next_offset), \
         redis_offset = IF(redis_offset >= next_offset, ?, redis_offset), next_offset = ?, \
         epoch = epoch + 1, owner = ? WHERE topic = ?",
    )
    .bind(base)
    .bind(base)
    .bind(base)
    .bind(OWNER)
    .bind(topic)
    .execute(connection)
    .await?;
    Ok(())
}

fn print(stood: &[GroupPositionBefore], base: i64, out: &mut impl Write) -> io::Result<()> {
    let columns: [Column<'_, GroupPositionBefore>; 4] = [
        ("group", Right, &|stood| stood.consumer_group.clone()),
        ("partition", Right, &|stood| stood.partition.to_string()),
        ("stood at", Right, &|stood| stood.next_offset.to_string()),
        ("goes on at", Right, &|_| base.to_string()),
    ];
    table(stood, columns, out)?;
    writeln!(
        out,
        "\nthe former topic is gone: readings that were acknowledged behind where a group stood may be \
         lost. What lies between there and {base} is no record and counts as skipped_gap"
    )
}
