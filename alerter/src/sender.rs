//! Works the outbox: claims what is due, sends it, writes down what came of it.
//!
//! Never in the way of the evaluation; a slow platform only makes the outbox longer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use common::trace::{self, NewSpan};
use futures_util::future::join_all;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use metrics::{counter, gauge};
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::channel::Address;
use crate::course::{MEND_WAIT, RETRY_MIN, course};
use crate::episode::To;
use crate::hold::Hold;
use crate::metrics::{NOTIFICATIONS, OUTBOX_DEPTH, OUTBOX_OLDEST_SECONDS};
use crate::outbox::{Attempt, Fate, Notification, Outbox};
use crate::recipients::Directory;
use crate::wechat::errcode::Remedy;
use crate::wechat::{Failure, Platforms};

/// Notifications sent side by side. All are through well within a lease.
const AT_ONCE_MAX: usize = 8;

/// How often the outbox is looked at when nobody says that there is something in it: rows of other
/// replicas, and retries that fall due.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How often the outbox is measured.
const MEASURE_INTERVAL: Duration = Duration::from_secs(5);

/// How often old rows are removed.
const REMOVE_INTERVAL: Duration = Duration::from_secs(3600);

/// What the sender is made of.
pub struct Sender {
    /// What there is to send.
    pub outbox: Outbox,
    /// Whose accounts send it.
    pub directory: Arc<Directory>,
    /// The platforms.
    pub platforms: Platforms,
    /// How outages of MySQL are waited out.
    pub hold: Hold,
    /// Says that there is something new.
    pub wake: Arc<Notify>,
    /// The zone in which the platform's day ends.
    pub zone: TimeZone,
    /// Accounts that send nothing for a while.
    pub resting: Resting,
}

/// Accounts that send nothing until a time.
#[derive(Debug, Default)]
pub struct Resting(Mutex<HashMap<String, Instant>>);

impl Resting {
    fn left(&self, account: &str) -> Option<Duration> {
        let resting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = resting.get(account)?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    fn rest(&self, account: &str, wait: Duration) {
        let mut resting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        resting.insert(account.to_owned(), Instant::now() + wait);
    }
}

impl Sender {
    /// Sends until `stop`; what is being sent then is still settled.
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
            let claimed = self.outbox.claim(AT_ONCE_MAX).await.unwrap_or_else(|error| {
                warn!(%error, "cannot look into the outbox");
                Vec::new()
            });
            if claimed.is_empty() {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep(LOOK_INTERVAL) => {}
                }
                continue;
            }
            join_all(claimed.iter().map(|notification| self.attend(notification))).await;
        }
    }

    /// One attempt at one notification, to its end.
    async fn attend(&self, notification: &Notification) {
        let attempt = self.attempt(notification).await;
        let outcome = match &attempt.fate {
            Fate::Sent => "sent",
            Fate::Later(_) if attempt.asked => "retried",
            Fate::Later(_) => "postponed",
            Fate::Dropped => "dropped",
            Fate::Failed => "failed",
        };
        let errcode = attempt.errcode.map_or_else(|| "none".to_owned(), |code| code.to_string());
        counter!(NOTIFICATIONS, "outcome" => outcome, "errcode" => errcode).increment(1);
        // Until this is written the row is leased; after that another replica sends it again, and
        // the platform knows it by its client_msg_id.
        let settle = self
            .hold
            .until_done("settle a notification", || self.outbox.settle(notification, &attempt));
        if settle.await.is_err() {
            warn!("stopping with a notification that is not settled");
            return;
        }
        if attempt.asked
            && let Err(error) = self.outbox.log(notification, &attempt).await
        {
            warn!(%error, "cannot add to t_alert_action_log");
        }
    }

    async fn attempt(&self, notification: &Notification) -> Attempt {
        let without_asking = |fate, error: &str| Attempt {
            fate,
            asked: false,
            errcode: None,
            error: Some(error.into()),
        };
        match self.is_void(notification).await {
            Ok(false) => {}
            Ok(true) => return without_asking(Fate::Dropped, "nobody was told of the opening"),
            Err(error) => {
                debug!(%error, "cannot look into the outbox");
                return without_asking(Fate::Later(RETRY_MIN), "MySQL does not answer");
            }
        }
        let accounts = match self.directory.accounts(notification.customer_id).await {
            Ok(accounts) => accounts,
            Err(error) => {
                debug!(%error, "cannot read the accounts");
                return without_asking(Fate::Later(RETRY_MIN), "MySQL does not answer");
            }
        };
        let Some(address) = Address::parse(&notification.recipient) else {
            return without_asking(Fate::Failed, "the recipient is no address");
        };
        let Some(account) = accounts.name(address.channel) else {
            return without_asking(Fate::Later(MEND_WAIT), "the tenant has no account");
        };
        if let Some(left) = self.resting.left(&account) {
            return without_asking(Fate::Later(left), "the account rests");
        }
        let span = span(notification);
        let sent = self.platforms.send(&accounts, address.channel, &notification.payload).await;
        if let Err(failure) = &sent {
            span.span().set_attribute(KeyValue::new("error.type", error_type(failure)));
            span.span().set_status(Status::error("not sent"));
        }
        span.span().end();
        let Err(failure) = sent else {
            info!(
                alert.to = notification.transition,
                attempt = notification.attempts + 1,
                "notification sent"
            );
            return Attempt { fate: Fate::Sent, asked: true, errcode: Some(0), error: None };
        };
        self.failed(notification, &account, &address, failure).await
    }

    /// An end is told only to people of whom somebody heard of its beginning.
    async fn is_void(&self, notification: &Notification) -> Result<bool, sqlx::Error> {
        if notification.transition != To::Resolved.as_str() {
            return Ok(false);
        }
        Ok(!self.outbox.was_told(notification).await?)
    }

    async fn failed(
        &self,
        notification: &Notification,
        account: &str,
        address: &Address,
        failure: Failure,
    ) -> Attempt {
        let attempts = u32::try_from(notification.attempts).unwrap_or_default() + 1;
        let course = course(failure.remedy, attempts, self.until_tomorrow(), rand::random());
        match course.rest {
            Some(wait) if course.operator => {
                error!(account, errcode = failure.errcode, error = %failure, "WeChat account needs an operator");
                self.resting.rest(account, wait);
            }
            Some(wait) => {
                warn!(
                    account,
                    errcode = failure.errcode,
                    wait_seconds = wait.as_secs(),
                    "WeChat account has reached a limit"
                );
                self.resting.rest(account, wait);
            }
            None => {
                warn!(errcode = failure.errcode, error = %failure, attempts, "notification not sent")
            }
        }
        if failure.remedy == Remedy::DropRecipient {
            self.refuse(notification, address, failure.errcode).await;
        }
        Attempt {
            fate: course.fate,
            asked: true,
            errcode: failure.errcode,
            error: Some(failure.message),
        }
    }

    async fn refuse(&self, notification: &Notification, address: &Address, errcode: Option<i64>) {
        let refused = self.directory.refuse(notification.customer_id, address, errcode).await;
        if let Err(error) = refused {
            warn!(%error, "cannot note that a recipient is not reachable");
        }
    }

    fn until_tomorrow(&self) -> Duration {
        let now = Timestamp::now();
        let tomorrow =
            self.zone.to_datetime(now).date().tomorrow().ok().and_then(|day| {
                self.zone.to_ambiguous_timestamp(day.at(0, 0, 0, 0)).compatible().ok()
            });
        tomorrow
            .and_then(|tomorrow| Duration::try_from(tomorrow.duration_since(now)).ok())
            .unwrap_or(Duration::from_secs(86_400))
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

fn span(notification: &Notification) -> opentelemetry::Context {
    let mut span = NewSpan::new("notify", SpanKind::Client).with(vec![
        KeyValue::new("notification.channel", "wechat_official"),
        KeyValue::new("alert.to", notification.transition.clone()),
        KeyValue::new("notification.attempt", i64::from(notification.attempts) + 1),
    ]);
    let parent = notification.traceparent.as_deref();
    if let Some(parent) = parent.and_then(|header| trace::read(header.as_bytes(), None)) {
        span = span.under_remote(parent);
    }
    span.start()
}

fn error_type(failure: &Failure) -> String {
    failure.errcode.map_or_else(|| "unreachable".to_owned(), |errcode| errcode.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_rests_until_its_time_is_over() {
        let resting = Resting::default();
        assert_eq!(resting.left("wx7"), None);
        resting.rest("wx7", Duration::from_secs(60));
        assert!(resting.left("wx7").is_some() && resting.left("wx8").is_none());
        resting.rest("wx7", Duration::ZERO);
        assert_eq!(resting.left("wx7"), None);
    }
}
