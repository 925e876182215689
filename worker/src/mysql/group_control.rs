//! Reads what operators decided about a group: whether it is paused, and with how many partitions
//! its topic was accepted. MySQL keeps the decisions for all replicas and across restarts.

use ljwx_ledger::ledger::accepted_partitions;
use ljwx_ledger::mysql::MySqlPool;

/// Whether deliveries may be taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumptionState {
    /// Not known yet: no deliveries are taken in.
    Unknown,
    /// Deliveries are taken in.
    Running,
    /// An operator paused the group, for this reason.
    Paused(String),
    /// No deliveries are taken in, and only an operator can change that.
    Blocked(String),
}

/// Reads the consumption state of `group`, on a topic that has `partitions` partitions.
pub async fn consumption_state(
    pool: &MySqlPool,
    group: &str,
    topic: &str,
    partitions: usize,
) -> Result<ConsumptionState, sqlx::Error> {
    if let Some(accepted) = accepted_partitions(pool, topic).await?
        && accepted != partitions as i64
    {
        return Ok(ConsumptionState::Blocked(format!(
            "{topic} has {partitions} partitions and was accepted with {accepted}: devices have \
             moved between partitions, and workers end until the number is accepted. Wait until \
             the alerters have no lag, stop them, then run `worker migrate --accept-partitions`"
        )));
    }
    let reason: Option<String> =
        sqlx::query_scalar("SELECT reason FROM ingest_control WHERE consumer_group = ? AND paused")
            .bind(group)
            .fetch_optional(pool)
            .await?;
    Ok(reason.map_or(ConsumptionState::Running, ConsumptionState::Paused))
}

/// Stores the number of partitions of a topic. Another number than the stored one needs `accept`.
pub async fn accept_partitions(
    pool: &MySqlPool,
    topic: &str,
    partitions: usize,
    accept: bool,
) -> anyhow::Result<()> {
    let known = accepted_partitions(pool, topic).await?;
    anyhow::ensure!(
        accept || known.is_none_or(|known| known == partitions as i64),
        "{topic} has {partitions} partitions and was accepted with {}: devices have moved between \
         partitions. Wait until the alerters have no lag, stop them, then add --accept-partitions",
        known.unwrap_or_default()
    );
    sqlx::query(
        "INSERT INTO ingest_topic (topic, `partitions`) VALUES (?, ?) \
         ON DUPLICATE KEY UPDATE `partitions` = ?",
    )
    .bind(topic)
    .bind(partitions as i64)
    .bind(partitions as i64)
    .execute(pool)
    .await?;
    Ok(())
}
