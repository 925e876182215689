//! Queries Redis for the tests.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use fred::clients::SubscriberClient;
use fred::interfaces::{
    ClientLike, EventInterface, HashesInterface, KeysInterface, PubsubInterface,
};
use fred::prelude::{Builder, Client, ReconnectPolicy};
use fred::types::{ClusterHash, CustomCommand, Message};
use tokio::sync::broadcast::Receiver;

/// The longest that Redis may take for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Password of the users that tests create.
const PASSWORD: &str = "of-a-test";

/// The cache of the devices' newest readings.
#[derive(Debug, Clone)]
pub struct Cache {
    client: Client,
    url: String,
}

impl Cache {
    /// Connects. If the server stops later, each command waits for it.
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        let client = builder(url)?.build()?;
        client.init().await.context("REDIS_URL")?;
        Ok(Self { client, url: url.into() })
    }

    /// Returns the hash of a device; empty if there is none.
    pub async fn newest(&self, device: &str) -> anyhow::Result<HashMap<String, String>> {
        Ok(self.client.hgetall(format!("health_data:{device}")).await?)
    }

    /// Returns the time in a device's hash.
    pub async fn newest_time(&self, device: &str) -> anyhow::Result<Option<String>> {
        Ok(self.client.hget(format!("health_data:{device}"), "timestamp").await?)
    }

    /// Returns the seconds until a device's hash expires; `None` if it never does.
    pub async fn expires_in(&self, device: &str) -> anyhow::Result<Option<i64>> {
        let seconds: i64 = self.client.ttl(format!("health_data:{device}")).await?;
        Ok((seconds >= 0).then_some(seconds))
    }

    /// Returns the bytes that a device's hash takes in memory.
    pub async fn bytes(&self, device: &str) -> anyhow::Result<i64> {
        let memory = CustomCommand::new_static("MEMORY", ClusterHash::Random, false);
        let arguments = vec!["USAGE".to_owned(), format!("health_data:{device}")];
        Ok(fred::interfaces::ClientLike::custom(&self.client, memory, arguments).await?)
    }

    /// Sets one field of a device's hash.
    pub async fn set_field(&self, device: &str, field: &str, value: &str) -> anyhow::Result<()> {
        let key = format!("health_data:{device}");
        Ok(self.client.hset(key, (field.to_owned(), value.to_owned())).await?)
    }

    /// Replaces a device's hash by a value that is no hash.
    pub async fn spoil(&self, device: &str) -> anyhow::Result<()> {
        Ok(self.client.set(format!("health_data:{device}"), "stray", None, None, false).await?)
    }

    /// Replaces the workers' generation key by a value that is no string.
    pub async fn spoil_sentinel(&self, group: &str) -> anyhow::Result<()> {
        self.remove_sentinel(group).await?;
        Ok(self.client.hset(sentinel(group), ("stray", "1")).await?)
    }

    /// Whether the workers' generation key is a string with a value.
    pub async fn has_sentinel(&self, group: &str) -> bool {
        let held: Result<Option<String>, _> = self.client.get(sentinel(group)).await;
        held.is_ok_and(|held| held.is_some_and(|held| held.contains(' ')))
    }

    /// Changes a setting of the server; only for an exclusive world.
    pub async fn configure(&self, setting: &str, value: &str) -> anyhow::Result<()> {
        let config = CustomCommand::new_static("CONFIG", ClusterHash::Random, false);
        let arguments = vec!["SET", setting, value];
        Ok(fred::interfaces::ClientLike::custom(&self.client, config, arguments).await?)
    }

    /// Creates a user, or changes it by these rules. Returns the URL to connect as that user.
    pub async fn set_user(&self, user: &str, rules: &[&str]) -> anyhow::Result<String> {
        let password = format!(">{PASSWORD}");
        self.acl(&[&["SETUSER", user, password.as_str()], rules].concat()).await?;
        let (scheme, address) = self.url.split_once("://").context("REDIS_URL has no scheme")?;
        let address = address.rsplit_once('@').map_or(address, |(_, address)| address);
        Ok(format!("{scheme}://{user}:{PASSWORD}@{address}"))
    }

    /// Removes a user.
    pub async fn remove_user(&self, user: &str) -> anyhow::Result<()> {
        self.acl(&["DELUSER", user]).await
    }

    async fn acl(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let acl = CustomCommand::new_static("ACL", ClusterHash::Random, false);
        Ok(fred::interfaces::ClientLike::custom(&self.client, acl, arguments.to_vec()).await?)
    }

    /// Makes the server a replica of the one at this port; only for an exclusive world.
    pub async fn follow(&self, port: u16) -> anyhow::Result<()> {
        let command = CustomCommand::new_static("REPLICAOF", ClusterHash::Random, false);
        let arguments = vec!["127.0.0.1".to_owned(), port.to_string()];
        Ok(fred::interfaces::ClientLike::custom(&self.client, command, arguments).await?)
    }

    /// Makes the server follow no other any more; only for an exclusive world.
    pub async fn lead(&self) -> anyhow::Result<()> {
        let command = CustomCommand::new_static("REPLICAOF", ClusterHash::Random, false);
        let arguments = vec!["NO", "ONE"];
        Ok(fred::interfaces::ClientLike::custom(&self.client, command, arguments).await?)
    }

    /// Deletes a device's hash, as eviction does.
    pub async fn evict(&self, device: &str) -> anyhow::Result<()> {
        Ok(self.client.del(format!("health_data:{device}")).await?)
    }

    /// Deletes all keys of the server; only for an exclusive world.
    pub async fn flush(&self) -> anyhow::Result<()> {
        Ok(self.client.flushall(false).await?)
    }

    /// Sets the workers' generation key back to its value before its first heartbeat.
    pub async fn turn_sentinel_back(&self, group: &str) -> anyhow::Result<()> {
        let key = sentinel(group);
        let now: String = self.client.get(&key).await?;
        let (token, _) = now.split_once(' ').context("sentinel")?;
        Ok(self.client.set(&key, format!("{token} 0"), None, None, false).await?)
    }

    /// Deletes the workers' generation key.
    pub async fn remove_sentinel(&self, group: &str) -> anyhow::Result<()> {
        Ok(self.client.del(sentinel(group)).await?)
    }

    /// Subscribes to the messages about a device.
    pub async fn subscribe(&self, device: &str) -> anyhow::Result<Published> {
        let client = builder(&self.url)?.build_subscriber_client()?;
        let messages = client.message_rx();
        client.init().await?;
        client.subscribe(format!("health_data_channel:{device}")).await?;
        Ok(Published { client, messages })
    }

    /// Publishes on the platform's channel that rules changed.
    pub async fn announce_rules(&self) -> anyhow::Result<()> {
        Ok(self.client.publish("alert_rules_channel", "changed").await?)
    }

    /// Deletes the keys of all devices whose serial numbers start with `prefix`.
    pub async fn remove(&self, prefix: &str) -> anyhow::Result<()> {
        // KEYS blocks the server, which only tests use.
        let keys = CustomCommand::new_static("KEYS", ClusterHash::Random, false);
        let keys: Vec<String> = fred::interfaces::ClientLike::custom(
            &self.client,
            keys,
            vec![format!("health_data:{prefix}*")],
        )
        .await?;
        if !keys.is_empty() {
            self.client.del::<(), _>(keys).await?;
        }
        Ok(())
    }
}

fn sentinel(group: &str) -> String {
    format!("ljwx:worker:sentinel:{group}")
}

/// A subscription to one device's channel.
#[derive(Debug)]
pub struct Published {
    client: SubscriberClient,
    messages: Receiver<Message>,
}

impl Published {
    /// Returns the messages published since the last call.
    pub fn take(&mut self) -> Vec<String> {
        let received = std::iter::from_fn(|| self.messages.try_recv().ok());
        received.filter_map(|message| message.value.into_string()).collect()
    }

    /// Ends the subscription.
    pub async fn end(self) -> anyhow::Result<()> {
        Ok(self.client.quit().await?)
    }
}

fn builder(url: &str) -> anyhow::Result<Builder> {
    let (config, _) =
        ljwx_ledger::redis::config(url).map_err(anyhow::Error::msg).context("REDIS_URL")?;
    let mut builder = Builder::from_config(config);
    builder.with_performance_config(|config| config.default_command_timeout = ANSWER_WITHIN);
    // Reconnect for ever: tests stop the server.
    builder.set_policy(ReconnectPolicy::new_constant(0, 100));
    Ok(builder)
}
