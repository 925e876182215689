//! What the tests ask Redis.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use fred::clients::SubscriberClient;
use fred::interfaces::{ClientLike, EventInterface, HashesInterface, PubsubInterface};
use fred::prelude::{Builder, Client, Config, ReconnectPolicy};
use fred::types::{ClusterHash, CustomCommand, Message};
use tokio::sync::broadcast::Receiver;

/// How long Redis may take for one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The cache of the devices' newest readings.
#[derive(Debug, Clone)]
pub struct Cache {
    client: Client,
    url: String,
}

impl Cache {
    /// Connects; a server that goes away later is waited for by each command.
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        let client = builder(url)?.build()?;
        client.init().await.context("REDIS_URL")?;
        Ok(Self { client, url: url.into() })
    }

    /// The hash of a device; empty where there is none.
    pub async fn newest(&self, device: &str) -> anyhow::Result<HashMap<String, String>> {
        Ok(self.client.hgetall(format!("health_data:{device}")).await?)
    }

    /// The time of a device's hash.
    pub async fn newest_time(&self, device: &str) -> anyhow::Result<Option<String>> {
        Ok(self.client.hget(format!("health_data:{device}"), "timestamp").await?)
    }

    /// Listens to what is published about a device.
    pub async fn subscribe(&self, device: &str) -> anyhow::Result<Published> {
        let client = builder(&self.url)?.build_subscriber_client()?;
        let messages = client.message_rx();
        client.init().await?;
        client.subscribe(format!("health_data_channel:{device}")).await?;
        Ok(Published { client, messages })
    }

    /// Removes the keys of all devices whose serial numbers open with `prefix`.
    pub async fn remove(&self, prefix: &str) -> anyhow::Result<()> {
        // KEYS blocks the server, which is fine for one that only tests use.
        let keys = CustomCommand::new_static("KEYS", ClusterHash::Random, false);
        let keys: Vec<String> = fred::interfaces::ClientLike::custom(
            &self.client,
            keys,
            vec![format!("health_data:{prefix}*")],
        )
        .await?;
        if !keys.is_empty() {
            fred::interfaces::KeysInterface::del::<(), _>(&self.client, keys).await?;
        }
        Ok(())
    }
}

/// A subscription to one device's channel.
#[derive(Debug)]
pub struct Published {
    client: SubscriberClient,
    messages: Receiver<Message>,
}

impl Published {
    /// What has been published since the last call.
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
    let mut builder = Builder::from_config(Config::from_url(url).context("REDIS_URL")?);
    builder.with_performance_config(|config| config.default_command_timeout = ANSWER_WITHIN);
    // For ever: tests take the server away.
    builder.set_policy(ReconnectPolicy::new_constant(0, 100));
    Ok(builder)
}
