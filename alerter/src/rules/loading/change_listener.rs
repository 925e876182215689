//! Listens for changed rules: the platform publishes on a channel in Redis when a user edits a
//! rule.
//!
//! Only makes the reload faster. The content of a message is ignored. If Redis is unreachable or
//! not configured, the rules are reloaded at their interval.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fred::clients::SubscriberClient;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::types::Value;
use ljwx_ledger::redis::RedisArgs;
use ljwx_service::lifecycle::EssentialTasks;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The Redis channel of rule changes.
pub const CHANNEL: &str = "alert_rules_channel";

/// Time between attempts to subscribe, if a connected Redis rejects the subscription.
const RESUBSCRIBE_INTERVAL: Duration = Duration::from_secs(10);

/// Starts listening in the background. `edits` changes for each message, or for several. `refused`
/// tells whether Redis rejected the last subscription.
pub fn start(
    redis: &RedisArgs,
    edits: watch::Sender<()>,
    refused: Arc<AtomicBool>,
    essential: &EssentialTasks,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let client = redis.builder()?.build_subscriber_client()?;
    let listener = listen(client, edits, refused, stop.clone());
    essential.spawn("the listener for changed rules", stop, listener);
    Ok(())
}

async fn listen(
    client: SubscriberClient,
    edits: watch::Sender<()>,
    refused: Arc<AtomicBool>,
    stop: CancellationToken,
) {
    let (mut messages, mut connections) = (client.message_rx(), client.reconnect_rx());
    // The task ends with the client. Until then the client reconnects by itself.
    drop(client.connect());
    let mut again = interval(RESUBSCRIBE_INTERVAL);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut listening = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            connected = connections.recv() => match connected {
                Err(RecvError::Closed) => break,
                // Also for the first connection. A new connection does not have the old one's
                // subscriptions.
                Ok(_) | Err(RecvError::Lagged(_)) => listening = subscribe(&client, &refused).await,
            },
            message = messages.recv() => match message {
                Err(RecvError::Closed) => break,
                Ok(_) | Err(RecvError::Lagged(_)) => edits.send_replace(()),
            },
            _ = again.tick(), if !listening && client.is_connected() => {
                listening = subscribe(&client, &refused).await;
            }
        }
    }
    // A connection that cannot quit loses nothing.
    drop(client.quit().await);
}

/// Logs a rejection once, until the subscription succeeds.
async fn subscribe(client: &SubscriberClient, refused: &AtomicBool) -> bool {
    let subscribed = try_subscribe(client).await;
    let logged = refused.swap(subscribed.is_err(), Ordering::Relaxed);
    match &subscribed {
        Ok(()) => info!(channel = CHANNEL, "subscribed to rule changes"),
        Err(error) if !logged => {
            warn!(channel = CHANNEL, %error, "cannot subscribe to rule changes, retrying");
        }
        Err(_) => {}
    }
    subscribed.is_ok()
}

/// Subscribes, and checks that Redis has accepted the subscription: fred drops the answer. On a
/// connection with a subscription, Redis answers PING by a list.
async fn try_subscribe(client: &SubscriberClient) -> Result<(), Error> {
    client.subscribe(CHANNEL).await?;
    match client.ping::<Value>(None).await? {
        Value::Array(_) => Ok(()),
        _ => Err(Error::new(ErrorKind::Auth, "Redis rejected the subscription, look at its ACL")),
    }
}
