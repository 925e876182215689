//! Connecting to Redis with bounds on everything: fred's own defaults wait for ever and queue
//! without limit while Redis is away.

use std::time::Duration;

use fred::prelude::{Builder, Client, ClientLike, Config, Error, ReconnectPolicy};
use fred::types::config::UnresponsiveConfig;
use secrecy::{ExposeSecret, SecretString};

use crate::config::{Problems, duration};

/// Settings of the connection to Redis.
#[derive(Debug, Clone, clap::Args)]
pub struct RedisArgs {
    /// Redis, as `redis://user:password@host:port/db`.
    #[arg(id = "redis-url", long = "redis-url", env = "REDIS_URL", hide_env_values = true)]
    pub url: SecretString,
    /// How long one command may take.
    #[arg(
        id = "redis-timeout",
        long = "redis-timeout", env = "REDIS_TIMEOUT", default_value = "500ms", value_parser = duration)]
    pub timeout: Duration,
}

/// Longest time until the next attempt to connect, in milliseconds.
const RECONNECT_MS_MAX: u32 = 2_000;

/// First time until the next attempt to connect, in milliseconds.
const RECONNECT_MS_MIN: u32 = 100;

/// Commands that may wait for a connection; beyond it they fail at once.
const WAITING_COMMANDS_MAX: usize = 1_000;

impl RedisArgs {
    /// Notes what is wrong with the settings.
    pub fn validate(&self, problems: &mut Problems) {
        problems.require(Config::from_url(self.url.expose_secret()).is_ok(), || {
            "--redis-url must read redis://host:port or redis://user:password@host:port/db".into()
        });
    }

    /// A client that connects in the background and keeps reconnecting.
    pub fn connect(&self) -> Result<Client, Error> {
        let client = self.builder()?.build()?;
        // The task ends with the client; its result only repeats what commands report.
        drop(client.connect());
        Ok(client)
    }

    /// The builder behind [`Self::connect`], for clients of another kind (subscribers).
    pub fn builder(&self) -> Result<Builder, Error> {
        let timeout = self.timeout;
        let mut builder = Builder::from_config(Config::from_url(self.url.expose_secret())?);
        builder
            // Or a Redis that is away at the start would be away for good.
            .with_config(|config| config.fail_fast = false)
            .with_performance_config(|performance| {
                performance.default_command_timeout = timeout;
            })
            .with_connection_config(|connection| {
                connection.connection_timeout = timeout;
                connection.max_command_attempts = 1;
                connection.max_command_buffer_len = WAITING_COMMANDS_MAX;
                connection.unresponsive =
                    UnresponsiveConfig { max_timeout: Some(timeout * 4), interval: timeout };
            })
            .set_policy(ReconnectPolicy::new_exponential(0, RECONNECT_MS_MIN, RECONNECT_MS_MAX, 2));
        Ok(builder)
    }
}
