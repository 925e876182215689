//! Hears of changed rules: the platform publishes on a channel in Redis when somebody edits one.
//!
//! Only makes haste. What a message says is not looked at, and where Redis is away or was never there,
//! the rules are read again in their own time.

use std::time::Duration;

use fred::clients::SubscriberClient;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use ljwx_ledger::redis::RedisArgs;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The channel.
pub const CHANNEL: &str = "alert_rules_channel";

/// How long to wait before another attempt, where a connected Redis does not let us listen.
const SUBSCRIBE_AGAIN: Duration = Duration::from_secs(10);

/// Starts listening in the background; the receiver sees a change for each message, or for several.
pub fn start(
    redis: &RedisArgs,
    stop: CancellationToken,
) -> Result<watch::Receiver<()>, fred::error::Error> {
    let client = redis.builder()?.build_subscriber_client()?;
    let (sender, receiver) = watch::channel(());
    tokio::spawn(listen(client, sender, stop));
    Ok(receiver)
}

async fn listen(client: SubscriberClient, heard: watch::Sender<()>, stop: CancellationToken) {
    let (mut messages, mut connections) = (client.message_rx(), client.reconnect_rx());
    // The task ends with the client; it reconnects by itself until then.
    drop(client.connect());
    let mut again = interval(SUBSCRIBE_AGAIN);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut listening = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            connected = connections.recv() => match connected {
                Err(RecvError::Closed) => break,
                // Also the first time. A new connection knows nothing of the old one's channels.
                Ok(_) | Err(RecvError::Lagged(_)) => listening = subscribe(&client).await,
            },
            message = messages.recv() => match message {
                Err(RecvError::Closed) => break,
                Ok(_) | Err(RecvError::Lagged(_)) => heard.send_replace(()),
            },
            _ = again.tick(), if !listening && client.is_connected() => {
                listening = subscribe(&client).await;
            }
        }
    }
    // Nothing is lost with a connection that cannot say goodbye.
    drop(client.quit().await);
}

async fn subscribe(client: &SubscriberClient) -> bool {
    let subscribed = client.subscribe(CHANNEL).await;
    match &subscribed {
        Ok(()) => info!(channel = CHANNEL, "listening for changed rules"),
        Err(error) => warn!(channel = CHANNEL, %error, "cannot listen for changed rules yet"),
    }
    subscribed.is_ok()
}
