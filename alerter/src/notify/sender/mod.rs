//! Works through the outbox: claims due rows, sends them and settles them.
//!
//! The sender never delays evaluation. If a platform is slow, the outbox only grows. Rows are
//! claimed as slots become free, so a slow account delays no other.
//!
//! ```text
//! backlog ─► slots ─► claim ─► decide ─► limits (breaker, rate) ─► send ─► retry policy ─► settle
//!     ▲                                                                                       │
//!     └── reroute (the recipient refused, or the account does not send) ◄─────────────────────┘
//! ```

mod attempt;
mod backlog;
mod decide;
mod device_delivery;
mod digest;
mod refusals;
mod reroute;
mod retry_policy;

#[cfg(test)]
pub(crate) mod queue_tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use metrics::counter;
use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::limits::AccountLimits;
use super::limits::rate_limit::{RecentSends, RecipientKey};
use super::limits::send_slots::{SendSlot, SendSlots};
use crate::metrics::{NOTIFICATIONS, POSTPONED};
use crate::mysql::columns::ColumnCache;
use crate::mysql::retry::MysqlRetry;
use crate::notify::address::Address;
use crate::notify::operator_events::OperatorEvents;
use crate::notify::outbox::{
    Attempt, DUE_MAX, DueRow, Notification, Outbox, RECIPIENT_LIMIT, Settlement,
};
use crate::notify::recipients::{Directory, LookupResult};
use crate::notify::silences::ActiveSilences;
use crate::notify::wechat::{Platforms, error};
use crate::rules::Channel;

/// Interval at which the outbox is polled without a wake-up, for rows of other replicas and retries
/// that fall due.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The sender, which works through the outbox.
pub struct Sender {
    /// The outbox to send from.
    pub outbox: Outbox,
    /// The tenants' accounts, and the addresses of people.
    pub directory: Arc<Directory>,
    /// The platforms.
    pub platforms: Platforms,
    /// The table of messages that the watch polls.
    pub device_messages: ColumnCache,
    /// The breakers and rates of the accounts.
    pub accounts: Arc<AccountLimits>,
    /// Messages to one recipient in a minute, over all replicas.
    pub recipient_per_minute: u32,
    /// The silences. While one covers everything, nothing is sent.
    pub silences: ActiveSilences,
    /// The channel to the operators, for accounts that stop or resume sending.
    pub operators: OperatorEvents,
    /// Retries operations during an outage of MySQL. Holds the sender's heartbeat.
    pub mysql_retry: MysqlRetry,
    /// Wakes the sender when the outbox has new rows.
    pub wake: Arc<Notify>,
}

/// The sends under way, each in a task that returns its row's id.
#[derive(Default)]
struct Sends {
    slots: SendSlots,
    tasks: JoinSet<i64>,
}

impl Sends {
    /// Waits until a send ends. Never returns if none is under way.
    async fn ended(&mut self) {
        match self.tasks.join_next().await {
            Some(ended) => self.end(ended),
            None => std::future::pending().await,
        }
    }

    /// Records all sends that have ended. They no longer count for their recipients.
    fn end_all(&mut self) {
        while let Some(ended) = self.tasks.try_join_next() {
            self.end(ended);
        }
    }

    fn end(&mut self, ended: Result<i64, JoinError>) {
        match ended {
            Ok(id) => self.slots.end(id),
            // The sender ends like its send, and with it the process. Only the end of the process
            // cancels a send.
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
}

impl Sender {
    /// Sends until `stop`, and beside that moves and routes again what has to be.
    pub async fn run(self, stop: CancellationToken) {
        let sender = Arc::new(self);
        tokio::join!(sender.send_due(&stop), sender.reroute(&stop));
    }

    /// Sends until `stop`. Attempts under way at `stop` are still settled.
    async fn send_due(self: &Arc<Self>, stop: &CancellationToken) {
        let mut sends = Sends::default();
        let heartbeat = self.mysql_retry.heartbeat().clone();
        while !stop.is_cancelled() {
            heartbeat.turn();
            let turn = heartbeat.during(self.turn(&mut sends)).await;
            let more_due = turn.unwrap_or_else(|error| {
                warn!(%error, "cannot query the outbox, retrying");
                false
            });
            if !more_due {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = self.wake.notified() => {}
                    () = sends.ended() => {}
                    () = tokio::time::sleep(POLL_INTERVAL) => {}
                }
                // Not earlier: an account with many rows would take its freed slots at every turn,
                // and its rows would hide those of others.
                sends.end_all();
                sends.slots.free_ended();
            }
        }
        while !sends.tasks.is_empty() {
            sends.ended().await;
        }
    }

    /// Claims due rows for which there are free slots, and begins to send them. Returns whether there
    /// may be more of them. Every turn reads past all rows of resting accounts.
    async fn turn(self: &Arc<Self>, sends: &mut Sends) -> sqlx::Result<bool> {
        sends.end_all();
        if self.silences.covers_all(Timestamp::now().as_millisecond()) {
            return Ok(false);
        }
        let paused = self.accounts.paused(&sends.slots.full_accounts(), Instant::now());
        let full = sends.slots.full_channels();
        let mut due = self.outbox.due(&paused, &full).await?;
        if self.gather_backlogs(&due).await {
            due = self.outbox.due(&paused, &full).await?;
        }
        let is_full = due.len() == DUE_MAX;
        let mut chosen = sends.slots.choose(due.into_iter().map(|row| self.slot(row)));
        let recent = self.recent(&chosen, &sends.slots).await?;
        let ids: Vec<i64> = chosen.iter().map(|slot| slot.id).collect();
        let claimed = self.outbox.claim("pending", &ids).await?;
        chosen.retain(|slot| claimed.iter().any(|notification| notification.id == slot.id));
        chosen.into_iter().for_each(|slot| sends.slots.take(slot));
        let more_due = is_full && !claimed.is_empty();
        for notification in claimed {
            // A recipient has one row among the chosen ones.
            let recipient = (notification.customer_id, notification.recipient.clone());
            let recent = recent.get(&recipient).copied().unwrap_or_default();
            let sender = Arc::clone(self);
            sends.tasks.spawn(async move {
                sender.process(&notification, recent).await;
                notification.id
            });
        }
        Ok(more_due)
    }

    /// Returns the slot that a row needs.
    fn slot(&self, row: DueRow) -> SendSlot {
        // A row whose address cannot be read is settled without a call, like a message to the watch.
        let address = Address::parse(&row.recipient);
        let channel = address.map_or(Channel::Message, |address| address.channel);
        let account = self.accounts.account((row.customer_id, channel));
        SendSlot { id: row.id, channel, account, recipient: (row.customer_id, row.recipient) }
    }

    /// Returns what the recipients of `chosen` got in the last minute. Sends under way count as sent,
    /// once.
    async fn recent(
        &self,
        chosen: &[SendSlot],
        slots: &SendSlots,
    ) -> sqlx::Result<HashMap<RecipientKey, RecentSends>> {
        let recipients: BTreeSet<_> = chosen.iter().map(|slot| slot.recipient.clone()).collect();
        // A chosen row that may have arrived is the message that it counts as.
        let own: Vec<i64> = slots.live().chain(chosen).map(|slot| slot.id).collect();
        let mut recent = self.outbox.recent(&recipients, &own).await?;
        for slot in slots.live() {
            recent.entry(slot.recipient.clone()).or_default().sent += 1;
        }
        Ok(recent)
    }

    /// Makes one attempt at one notification and settles it.
    async fn process(&self, notification: &Notification, recent: RecentSends) {
        let Some(mut attempt) = self.attempt(notification, recent).await else { return };
        // First: whoever finds this row settled finds the recipient's other rows postponed.
        self.postpone_others(notification, &attempt).await;
        let channel = Address::parse(&notification.recipient).map(|address| address.channel);
        // A sent message to the watch was settled in the transaction that wrote it.
        if channel != Some(Channel::Message) || attempt.settlement != Settlement::Sent {
            // The lease protects the row until it is settled. After the lease another replica sends
            // it again, and the platform recognises the bytes.
            let settle = || self.settle(notification, &attempt);
            let settled = self.mysql_retry.until_done("settle a notification", settle).await;
            let Ok(settlement) = settled else {
                warn!("notification not settled at shutdown, another replica sends it again");
                return;
            };
            attempt.settlement = settlement;
        }
        count(&attempt, channel.map_or("none", |channel| channel.as_str()));
        if attempt.requested
            && let Some(channel) = channel
            && let Err(error) = self.outbox.log(notification, channel, &attempt).await
        {
            warn!(%error, "cannot write to t_alert_action_log, continuing without it");
        }
    }

    async fn settle(
        &self,
        notification: &Notification,
        attempt: &Attempt,
    ) -> LookupResult<Settlement> {
        // A digest that the platform does not take has nobody else. Its rows are sent one by one.
        let is_moved = attempt.settlement == Settlement::Moved && !notification.is_digest();
        if attempt.settlement == Settlement::Refused || is_moved {
            return self.hand_on(notification, attempt).await;
        }
        self.outbox.settle(notification, attempt).await?;
        Ok(attempt.settlement.clone())
    }

    /// Postpones the pending rows of a recipient at the limit, so that they are not claimed one by
    /// one.
    async fn postpone_others(&self, notification: &Notification, attempt: &Attempt) {
        let Settlement::Retry(wait) = attempt.settlement else { return };
        if attempt.requested || attempt.reason.as_deref() != Some(RECIPIENT_LIMIT) {
            return;
        }
        let whom = (notification.customer_id, notification.recipient.as_str());
        match self.outbox.postpone(whom, notification.is_critical(), wait).await {
            Ok(rows) => counter!(POSTPONED, "reason" => RECIPIENT_LIMIT).increment(rows),
            Err(error) => {
                debug!(%error, "cannot postpone notifications of a recipient, postponing them one by one")
            }
        }
    }
}

/// Counts notifications that nobody gets any more, because their episodes are over.
fn count_over(notifications: u64) {
    counter!(NOTIFICATIONS, "outcome" => "over", "channel" => "none", "errcode" => "none")
        .increment(notifications);
}

/// Counts the outcome of an attempt. If no platform was called, the reason replaces the errcode.
fn count(attempt: &Attempt, channel: &'static str) {
    let reason = || match &attempt.reason {
        Some(std::borrow::Cow::Borrowed(word)) if !attempt.requested => *word,
        _ => "none",
    };
    let outcome = match &attempt.settlement {
        Settlement::Retry(_) if attempt.requested => "retried",
        Settlement::Retry(_) => {
            counter!(POSTPONED, "reason" => reason()).increment(1);
            return;
        }
        settlement => settlement.state(),
    };
    let errcode = attempt.errcode.map_or_else(|| reason().to_owned(), error::label);
    counter!(NOTIFICATIONS, "outcome" => outcome, "channel" => channel, "errcode" => errcode)
        .increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    #[should_panic(expected = "on purpose")]
    async fn a_send_that_panics_ends_the_sender() {
        let mut sends = Sends::default();
        sends.tasks.spawn(async { panic!("on purpose") });
        sends.ended().await;
    }

    #[tokio::test]
    async fn an_ended_send_frees_its_slot() {
        let mut sends = Sends::default();
        let slot = SendSlot {
            id: 1,
            channel: Channel::Official,
            account: "wx7".into(),
            recipient: (7, "openid:o1".to_owned()),
        };
        sends.slots.take(slot.clone());
        sends.tasks.spawn(std::future::ready(1));
        sends.ended().await;
        assert_eq!(sends.slots.live().count(), 0);
        sends.slots.free_ended();
        assert_eq!(sends.slots.choose([slot.clone()]), [slot]);
    }
}
