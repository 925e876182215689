//! Works through the outbox: claims due rows, sends them and settles them.
//!
//! The sender never delays evaluation. If a platform is slow, the outbox only grows.
//!
//! ```text
//! storm (digest) ─► claim ─► decide ─► limits (breaker, rate) ─► send ─► retry policy ─► settle
//! ```

pub mod routes;

mod attempt;
mod decide;
mod device_delivery;
mod digest;
mod retry_policy;
mod storm;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use jiff::tz::TimeZone;
use metrics::{counter, gauge};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::routes::SenderRoutes;
use super::limits::AccountLimits;
use super::limits::rate_limit::{RecipientBudget, RecipientKey, SendLimits};
use crate::metrics::{NOTIFICATIONS, OUTBOX_DEPTH, OUTBOX_OLDEST_SECONDS, POSTPONED};
use crate::mysql::retry::MysqlRetry;
use crate::notify::address::Address;
use crate::notify::device_message::DeviceMessageTable;
use crate::notify::operator_events::OperatorEvents;
use crate::notify::outbox::{Attempt, Notification, Outbox, Settlement};
use crate::notify::wechat::error;
use crate::rules::channel::Channel;

/// Notifications sent at the same time, few enough to finish well within a lease.
const CONCURRENT_SENDS_MAX: usize = 8;

/// Interval at which the outbox is polled without a wake-up, for rows of other replicas and retries
/// that fall due.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Interval at which the outbox is measured.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);

/// Interval at which old rows are removed.
const REMOVE_INTERVAL: Duration = Duration::from_secs(3600);

/// The sender, which works through the outbox.
pub struct Sender {
    /// The outbox to send from.
    pub outbox: Outbox,
    /// The accounts and platforms that deliver.
    pub routes: SenderRoutes,
    /// The table of messages that the watch polls.
    pub device_messages: DeviceMessageTable,
    /// The breakers and rates of the accounts.
    pub gates: AccountLimits,
    /// The limits on messages.
    pub limits: SendLimits,
    /// The channel to the operators, for accounts that stop or resume sending.
    pub operators: OperatorEvents,
    /// Retries operations during an outage of MySQL.
    pub mysql_retry: MysqlRetry,
    /// Wakes the sender when the outbox has new rows.
    pub wake: Arc<Notify>,
    /// The zone in which the platform's day ends.
    pub zone: TimeZone,
}

/// Claimed rows that are sent at the same time, with the budget of their recipients.
struct Round(Mutex<RecipientBudget>);

impl Round {
    fn wait(&self, recipient: &RecipientKey) -> Option<Duration> {
        self.lock().wait(recipient)
    }

    fn take(&self, recipient: &RecipientKey) {
        self.lock().take(recipient);
    }

    fn lock(&self) -> MutexGuard<'_, RecipientBudget> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender {
    /// Sends until `stop`. Attempts under way at `stop` are still settled.
    pub async fn run(self, stop: CancellationToken) {
        let (mut measured, mut removed) = (None, Instant::now());
        while !stop.is_cancelled() {
            if measured.is_none_or(|at: Instant| at.elapsed() >= MEASURE_INTERVAL) {
                self.measure().await;
                measured = Some(Instant::now());
            }
            if removed.elapsed() >= REMOVE_INTERVAL {
                self.remove_old().await;
                removed = Instant::now();
            }
            // Check before every round: after a pause, pending alerts of a storm would go out one
            // by one.
            self.digest_storms().await;
            let worked = self.round().await.unwrap_or_else(|error| {
                warn!(%error, "cannot query the outbox, retrying");
                false
            });
            if !worked {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep(POLL_INTERVAL) => {}
                }
            }
        }
    }

    /// Claims due rows and sends them at the same time. Returns false if no row is due.
    async fn round(&self) -> Result<bool, sqlx::Error> {
        let paused = self.gates.paused(Instant::now());
        let claimed = self.outbox.claim(CONCURRENT_SENDS_MAX, &paused).await?;
        if claimed.is_empty() {
            return Ok(false);
        }
        let recent = self.outbox.recent(&claimed).await?;
        let round =
            Round(Mutex::new(RecipientBudget::new(self.limits.recipient_per_minute, recent)));
        join_all(claimed.iter().map(|notification| self.process(notification, &round))).await;
        Ok(true)
    }

    /// Makes one attempt at one notification and settles it.
    async fn process(&self, notification: &Notification, round: &Round) {
        let Some(attempt) = self.attempt(notification, round).await else { return };
        let channel = Address::parse(&notification.recipient).map(|address| address.channel);
        count(&attempt, channel.map_or("none", |channel| channel.as_str()));
        // A sent message to the watch was settled in the transaction that wrote it.
        if channel != Some(Channel::Message) || attempt.settlement != Settlement::Sent {
            // The lease protects the row until it is settled. After the lease another replica sends
            // it again, and the platform recognises the bytes.
            let settle = self
                .mysql_retry
                .until_done("settle a notification", || self.outbox.settle(notification, &attempt));
            if settle.await.is_err() {
                warn!("notification not settled at shutdown, another replica sends it again");
                return;
            }
        }
        self.postpone_others(notification, &attempt).await;
        if attempt.requested
            && let Some(channel) = channel
            && let Err(error) = self.outbox.log(notification, channel, &attempt).await
        {
            warn!(%error, "cannot write to t_alert_action_log, continuing without it");
        }
    }

    /// Postpones all pending rows of a recipient at the limit, so that they are not claimed one by
    /// one.
    async fn postpone_others(&self, notification: &Notification, attempt: &Attempt) {
        let Settlement::Retry(wait) = attempt.settlement else { return };
        if attempt.requested || attempt.reason.as_deref() != Some("recipient_limit") {
            return;
        }
        let whom = (notification.customer_id, notification.recipient.as_str());
        match self.outbox.postpone_for(whom, wait).await {
            Ok(rows) => counter!(POSTPONED, "reason" => "recipient_limit").increment(rows),
            Err(error) => {
                debug!(%error, "cannot postpone notifications of a recipient, postponing them one by one")
            }
        }
    }

    async fn measure(&self) {
        if let Ok((depth, oldest_seconds)) = self.outbox.depth().await {
            gauge!(OUTBOX_DEPTH).set(depth as f64);
            gauge!(OUTBOX_OLDEST_SECONDS).set(oldest_seconds);
        }
    }

    async fn remove_old(&self) {
        match self.outbox.remove_old().await {
            Ok(removed) => debug!(removed, "old notifications removed"),
            Err(error) => warn!(%error, "cannot remove old notifications"),
        }
    }
}

/// Counts the outcome of an attempt. If no platform was called, the reason replaces the errcode.
fn count(attempt: &Attempt, channel: &'static str) {
    let reason = || match &attempt.reason {
        Some(std::borrow::Cow::Borrowed(word)) if !attempt.requested => *word,
        _ => "none",
    };
    let outcome = match attempt.settlement {
        Settlement::Sent => "sent",
        Settlement::Retry(_) if attempt.requested => "retried",
        Settlement::Retry(_) => {
            counter!(POSTPONED, "reason" => reason()).increment(1);
            return;
        }
        // The platform rejected the recipient. The row itself is stored as dropped.
        Settlement::Dropped if attempt.requested => "refused",
        Settlement::Dropped => "dropped",
        Settlement::Failed => "failed",
    };
    let errcode = attempt.errcode.map_or_else(|| reason().to_owned(), error::label);
    counter!(NOTIFICATIONS, "outcome" => outcome, "channel" => channel, "errcode" => errcode)
        .increment(1);
}
