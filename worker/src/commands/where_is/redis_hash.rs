//! Reads from Redis which reading the device's hash shows.

use anyhow::Context;
use fred::interfaces::{ClientLike, HashesInterface};

use super::answers::{HashState, SoughtReading};
use super::args::WhereArgs;
use super::report::hash_state;

/// Longest wait for a connection, in multiples of the limit of one command.
const CONNECT_COMMANDS: u32 = 4;

/// Reads the state of the device's hash.
pub async fn state(config: &WhereArgs, sought: &SoughtReading) -> anyhow::Result<HashState> {
    let Some(args) = config.redis.args() else { return Ok(HashState::NotAsked) };
    let client = args.connect()?;
    let wait = args.timeout.saturating_mul(CONNECT_COMMANDS);
    tokio::time::timeout(wait, client.wait_for_connect())
        .await
        .context("Redis is unreachable")?
        .context("Redis is unreachable")?;
    let key = format!("health_data:{}", sought.device);
    let shown: Option<String> =
        client.hget(key, "timestamp").await.context("cannot read the hash")?;
    Ok(hash_state(shown, sought))
}
