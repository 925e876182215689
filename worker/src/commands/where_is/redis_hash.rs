//! Reads from Redis which reading the device's hash shows.

use anyhow::Context;
use fred::interfaces::HashesInterface;

use super::answers::{HashState, SoughtReading};
use super::args::WhereArgs;
use super::report::hash_state;
use crate::redis::hash_key;

/// Reads the state of the device's hash.
pub async fn state(config: &WhereArgs, sought: &SoughtReading) -> anyhow::Result<HashState> {
    let Some(args) = config.redis.args() else { return Ok(HashState::NotAsked) };
    let client = args.connected().await?;
    let shown = client.hget(hash_key(&sought.device), "timestamp").await;
    let shown: Option<String> = shown.context("cannot read the hash")?;
    Ok(hash_state(shown, sought))
}
