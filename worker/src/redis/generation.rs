//! Detects that Redis was flushed or went back in time. A key in Redis shares the fate of all other
//! keys. A row in MySQL holds the value that the key must have.
//!
//! The key is written before the row and read after it, so the key is behind the row only after a
//! loss. All replicas of a group share key and row.

use std::time::Instant;

use fred::clients::Client;
use fred::interfaces::KeysInterface;
use fred::types::scripts::Script;
use ljwx_ledger::mysql::MySqlPool;
use sqlx::FromRow;
use tracing::warn;
use uuid::Uuid;

use crate::health::redis_outcomes::RedisOutcome;
use crate::redis::RedisError;

/// Writes "token beat", unless the key has this token with the same beat or a later one. With
/// `ARGV[3]` = 'only' it changes only a key with this token, so that a beat does not hide a loss. A
/// key that is no string has no token.
const BEAT: &str = r"
local held = redis.pcall('GET', KEYS[1])
local token, beat = string.match(type(held) == 'string' and held or '', '^(%S+) (%d+)$')
if token == ARGV[1] then
  if tonumber(beat) >= tonumber(ARGV[2]) then return 0 end
elseif ARGV[3] == 'only' then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2])
return 1
";

/// Longest time, in seconds, between two signs of life of a replica that refills.
const REFILL_SECONDS_MAX: i64 = 60;

/// The row of a group.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
struct GenerationRow {
    token: String,
    placed: bool,
    sequence: i64,
    generation: i64,
    refilled: i64,
}

/// The present generation of Redis, and the last complete one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation {
    /// The present generation. A loss begins the next.
    pub present: i64,
    /// The last generation to which everything was written.
    pub refilled: i64,
}

impl Generation {
    /// Returns whether Redis may be missing any device, not only some ranges of offsets.
    pub fn is_lost(&self) -> bool {
        self.refilled < self.present
    }
}

/// The key and the row of one group.
pub struct GenerationCheck {
    client: Client,
    pool: MySqlPool,
    group: String,
    key: String,
    owner: String,
    beat: Script,
    writes: RedisOutcome,
}

impl GenerationCheck {
    /// Creates the check of `group`. `owner` names this replica in the row, and `writes` gets the
    /// result of each beat.
    pub fn new(
        client: Client,
        pool: MySqlPool,
        group: &str,
        owner: String,
        writes: RedisOutcome,
    ) -> Self {
        Self {
            client,
            pool,
            group: group.to_owned(),
            key: format!("ljwx:worker:sentinel:{group}"),
            owner,
            beat: Script::from_lua(BEAT),
            writes,
        }
    }

    /// Compares the key with the row. A loss begins a new generation.
    pub async fn check(&self) -> Result<Generation, RedisError> {
        let mut expected = self.expected().await?;
        if expected.placed {
            let found = self.found().await?;
            if expected.is_met_by(found.as_deref()) {
                self.advance(&expected).await?;
                return Ok(expected.generation());
            }
            if self.lose(&expected).await? {
                warn!(
                    generation = expected.generation + 1,
                    found = found.is_some(),
                    "Redis was flushed or restored to an older state, refilling it"
                );
            }
            expected = self.expected().await?;
        }
        if !expected.placed {
            self.place(&expected).await?;
        }
        Ok(expected.generation())
    }

    /// Returns the value of the key; `None` if the key is missing or has another type.
    async fn found(&self) -> Result<Option<String>, RedisError> {
        match self.client.get(&self.key).await {
            Err(error) if error.details().starts_with("WRONGTYPE") => Ok(None),
            Err(error) => {
                self.writes.failed(error.details(), Instant::now());
                Err(error.into())
            }
            Ok(found) => Ok(found),
        }
    }

    async fn expected(&self) -> Result<GenerationRow, sqlx::Error> {
        if let Some(expected) = self.select().await? {
            return Ok(expected);
        }
        sqlx::query("INSERT IGNORE INTO redis_generation (consumer_group, token) VALUES (?, ?)")
            .bind(&self.group)
            .bind(Uuid::new_v4().to_string())
            .execute(&self.pool)
            .await?;
        self.select().await?.ok_or(sqlx::Error::RowNotFound)
    }

    async fn select(&self) -> Result<Option<GenerationRow>, sqlx::Error> {
        sqlx::query_as(
            "SELECT token, placed, sequence, generation, refilled FROM redis_generation \
             WHERE consumer_group = ?",
        )
        .bind(&self.group)
        .fetch_optional(&self.pool)
        .await
    }

    /// Begins a new generation. Returns `false` if another replica did.
    async fn lose(&self, expected: &GenerationRow) -> Result<bool, sqlx::Error> {
        let begun = sqlx::query(
            "UPDATE redis_generation SET token = ?, placed = 0, generation = generation + 1 \
             WHERE consumer_group = ? AND token = ? AND placed = 1",
        )
        .bind(Uuid::new_v4().to_string())
        .bind(&self.group)
        .bind(&expected.token)
        .execute(&self.pool)
        .await?;
        Ok(begun.rows_affected() == 1)
    }

    async fn place(&self, expected: &GenerationRow) -> Result<(), RedisError> {
        self.write(&expected.token, expected.sequence, "any").await?;
        sqlx::query(
            "UPDATE redis_generation SET placed = 1 WHERE consumer_group = ? AND token = ?",
        )
        .bind(&self.group)
        .bind(&expected.token)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    async fn advance(&self, expected: &GenerationRow) -> Result<(), RedisError> {
        let sequence = expected.sequence + 1;
        if !self.write(&expected.token, sequence, "only").await? {
            return Ok(());
        }
        sqlx::query(
            "UPDATE redis_generation SET sequence = GREATEST(sequence, ?) \
             WHERE consumer_group = ? AND token = ?",
        )
        .bind(sequence)
        .bind(&self.group)
        .bind(&expected.token)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    async fn write(&self, token: &str, beat: i64, which: &str) -> Result<bool, RedisError> {
        let arguments = vec![token.to_owned(), beat.to_string(), which.to_owned()];
        let written: Result<i64, _> =
            self.beat.evalsha_with_reload(&self.client, vec![self.key.as_str()], arguments).await;
        match written {
            Ok(1) => {
                self.writes.taken();
            }
            Ok(_) => {}
            Err(ref error) => {
                self.writes.failed(error.details(), Instant::now());
            }
        }
        Ok(written? == 1)
    }

    /// Takes or keeps the refill of the present generation. Returns `false` if another replica has
    /// the refill or the refill is done.
    pub async fn take_refill(&self) -> Result<bool, sqlx::Error> {
        let taken = sqlx::query(
            "UPDATE redis_generation SET refiller = ?, \
             refill_until = UTC_TIMESTAMP(3) + INTERVAL ? SECOND \
             WHERE consumer_group = ? AND refilled < generation AND (refiller = ? \
             OR refill_until IS NULL OR refill_until < UTC_TIMESTAMP(3))",
        )
        .bind(&self.owner)
        .bind(REFILL_SECONDS_MAX)
        .bind(&self.group)
        .bind(&self.owner)
        .execute(&self.pool)
        .await?;
        Ok(taken.rows_affected() == 1)
    }

    /// Stores that everything was written to a generation.
    pub async fn refilled(&self, generation: i64) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE redis_generation SET refilled = GREATEST(refilled, ?), refiller = NULL, \
             refill_until = NULL WHERE consumer_group = ?",
        )
        .bind(generation)
        .bind(&self.group)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

impl GenerationRow {
    fn generation(&self) -> Generation {
        Generation { present: self.generation, refilled: self.refilled }
    }

    /// Returns whether the key has the row's token and at least the row's beat.
    fn is_met_by(&self, found: Option<&str>) -> bool {
        let Some((token, beat)) = found.and_then(|found| found.split_once(' ')) else {
            return false;
        };
        token == self.token && beat.parse().is_ok_and(|beat: i64| beat >= self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_gone_foreign_or_older_is_a_loss() {
        let expected = GenerationRow {
            token: "a".into(),
            placed: true,
            sequence: 7,
            generation: 1,
            refilled: 1,
        };
        for (found, met) in [
            (Some("a 7"), true),
            (Some("a 8"), true),
            (Some("a 6"), false),
            (Some("b 9"), false),
            (Some("a"), false),
            (Some(""), false),
            (None, false),
        ] {
            assert_eq!(expected.is_met_by(found), met, "{found:?}");
        }
    }
}
