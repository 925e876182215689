//! Makes one attempt at one notification: decides whether it may go now, calls the platform, and
//! derives the settlement from the answer.

use std::time::{Duration, Instant};

use ljwx_service::telemetry::trace;
use opentelemetry::KeyValue;
use opentelemetry::trace::{Status, TraceContextExt};
use tracing::{debug, info, warn};

use super::Sender;
use super::decide::{AGE_MAX, Decision, NotificationState, decide, window};
use super::retry_policy::{FIX_WAIT, RETRY_MIN, after_failure};
use super::routes::start_span;
use crate::notify::address::Address;
use crate::notify::limits::breaker::AccountHealth;
use crate::notify::limits::rate_limit::{RecipientBudget, RecipientKey};
use crate::notify::notice::Notice;
use crate::notify::outbox::{Attempt, Notification, RebuiltRequest, Settlement};
use crate::notify::wechat::error::{ErrcodeRemedy, Failure, Reset};
use crate::notify::wechat::{self, Account};
use crate::rules::channel::Channel;

/// A notification with its parsed address and notice.
pub(super) struct SendJob<'a> {
    pub(super) notification: &'a Notification,
    pub(super) address: Address,
    pub(super) notice: Option<Notice>,
}

impl Sender {
    /// Makes one attempt. `None`: another replica has taken the notification.
    pub(super) async fn attempt(
        &self,
        notification: &Notification,
        budget: &RecipientBudget,
    ) -> Option<Attempt> {
        let Some(address) = Address::parse(&notification.recipient) else {
            // A sender of a later version, which may run beside this one, knows more channels.
            return Some(if notification.age() < AGE_MAX {
                Attempt::later(FIX_WAIT, "no_channel")
            } else {
                Attempt::not_sent(Settlement::Failed, "no_channel")
            });
        };
        let mut job = SendJob { notification, address, notice: notification.notice() };
        let decided = match self.read_beside(&mut job).await {
            Ok(()) => self.decide(&job, budget).await,
            Err(error) => Err(error),
        };
        let now = match decided {
            Ok(now) => now,
            Err(error) => {
                debug!(%error, "cannot query the outbox, retrying");
                return Some(Attempt::later(RETRY_MIN, "database"));
            }
        };
        let marks = match now {
            Decision::Drop(reason) => return Some(Attempt::not_sent(Settlement::Dropped, reason)),
            Decision::Postpone(wait, reason) => return Some(Attempt::later(wait, reason)),
            Decision::Stored => None,
            Decision::Rebuild { delayed, repeat } => Some((delayed, repeat)),
        };
        if job.address.channel == Channel::Message {
            let delayed = marks.is_some_and(|(delayed, _)| delayed);
            return self.write_for_watch(notification, &job.address, job.notice, delayed).await;
        }
        self.send(&job, marks).await
    }

    /// Adds to the notice the other alerts that the message reports.
    async fn read_beside(&self, job: &mut SendJob<'_>) -> Result<(), sqlx::Error> {
        if let Some(notice) = &mut job.notice
            && job.notification.leads()
        {
            notice.beside = self.outbox.beside(job.notification.id).await?;
        }
        Ok(())
    }

    async fn decide(
        &self,
        job: &SendJob<'_>,
        budget: &RecipientBudget,
    ) -> Result<Decision, sqlx::Error> {
        let notification = job.notification;
        let age = notification.age();
        let is_end = notification.is_end();
        let start_notified = is_end && self.outbox.was_notified(notification).await?;
        let firing = age >= AGE_MAX && !is_end && self.outbox.still_fires(notification).await?;
        let recipient: RecipientKey = (notification.customer_id, notification.recipient.clone());
        // Messages to the watch have no limit: they are rows of this database, and the watch lists
        // them.
        let limited = job.address.channel != Channel::Message;
        let known = NotificationState {
            age,
            is_end,
            start_notified,
            firing,
            uncertain: notification
                .uncertain_ms
                .map(|since| Duration::from_millis(u64::try_from(since).unwrap_or_default())),
            window: window(job.address.channel),
            tried: notification.attempts > 0,
            has_bytes: !notification.payload.is_empty(),
            has_notice: job.notice.is_some(),
            marked_delayed: job.notice.as_ref().is_some_and(|notice| notice.delayed),
            recipient_wait: if limited {
                budget.wait(&recipient, notification.is_critical())
            } else {
                None
            },
        };
        let now = decide(&known);
        if limited && matches!(now, Decision::Stored | Decision::Rebuild { .. }) {
            budget.take(&recipient);
        }
        Ok(now)
    }

    /// Sends the notification through the tenant's account, if the account may send now, and again
    /// at once in a plainer form as long as the platform refuses its content.
    async fn send(&self, job: &SendJob<'_>, marks: Option<(bool, bool)>) -> Option<Attempt> {
        let SendJob { notification, address, .. } = job;
        let scope = (notification.customer_id, address.channel);
        let account = match self.routes.find(scope.0, scope.1).await {
            Ok(Some(account)) => account,
            Ok(None) => return Some(Attempt::later(FIX_WAIT, "no_account")),
            Err(error) => {
                debug!(%error, "cannot read accounts, retrying");
                return Some(Attempt::later(RETRY_MIN, "database"));
            }
        };
        let mut rendered = match marks {
            None => None,
            Some((delayed, repeat)) => match render(job, &account, delayed, repeat) {
                None => return Some(Attempt::later(FIX_WAIT, "no_account")),
                rendered => rendered,
            },
        };
        let admitted = self.gates.admit(&account.name, account.settings(), scope, Instant::now());
        if let Err((wait, reason)) = admitted {
            return Some(Attempt::later(wait, reason));
        }
        let mut is_refused = false;
        let mut attempt = loop {
            match self.outbox.begin(notification, rendered.as_ref()).await {
                Ok(true) => {}
                Ok(false) => {
                    self.gates.abandon(&account.name, Instant::now());
                    warn!("notification lease expired during sending, another replica took over");
                    return None;
                }
                Err(error) => {
                    debug!(%error, "cannot mark notification as being sent, retrying");
                    self.gates.abandon(&account.name, Instant::now());
                    // The mark of a form that was refused must not stay: it did not arrive.
                    let uncertain = notification.uncertain_ms.is_some();
                    let later = Attempt::later(RETRY_MIN, "database");
                    return Some(Attempt { requested: is_refused, uncertain, ..later });
                }
            }
            let payload = rendered.as_ref().map_or(&notification.payload, |anew| &anew.payload);
            let sent = self.call(job, &account, payload).await;
            match sent {
                Ok(()) => break Attempt::sent(Some(0)),
                Err(failure) => match self.plainer(job, &account, rendered.as_ref(), &failure) {
                    Some(plainer) => (rendered, is_refused) = (Some(plainer), true),
                    None => break self.failed(job, &account, failure),
                },
            }
        };
        let notice = rendered.as_ref().map(|anew| &anew.notice).or(job.notice.as_ref());
        attempt.plain_fields = notice.map(|notice| notice.plain_fields.clone()).unwrap_or_default();
        Some(attempt)
    }

    async fn call(
        &self,
        job: &SendJob<'_>,
        account: &Account,
        payload: &[u8],
    ) -> Result<(), Failure> {
        let SendJob { notification, address, .. } = job;
        let span = start_span(notification, address.channel);
        let sent = self.routes.platforms.send(account, payload).await;
        if let Err(failure) = &sent {
            span.span().set_attribute(KeyValue::new("error.type", error_type(failure)));
            span.span().set_status(Status::error("not sent"));
        }
        span.span().end();
        if sent.is_ok() {
            self.note(account, AccountHealth::Works, None);
            info!(
                alert.transition = notification.transition,
                notification.channel = address.channel.as_str(),
                alert.episode_key = notification.episode_key,
                attempts = notification.attempts + 1,
                trace_id = notification.traceparent.as_deref().and_then(trace::id_in),
                "notification sent"
            );
        }
        sent
    }

    fn failed(&self, job: &SendJob<'_>, account: &Account, failure: Failure) -> Attempt {
        let notification = job.notification;
        let attempts = u32::try_from(notification.attempts).unwrap_or_default() + 1;
        let remedy = match failure.remedy {
            ErrcodeRemedy::DropRecipient if self.gates.refuses_all(&account.name) => {
                ErrcodeRemedy::ConfigError
            }
            // No form is plainer, so the template is at fault and not the notice.
            ErrcodeRemedy::Plainer if job.notice.is_some() && failure.is_of_template() => {
                ErrcodeRemedy::ConfigError
            }
            remedy => remedy,
        };
        let answered = failure.errcode.is_some();
        let (mut settlement, health) = after_failure(remedy, attempts, answered, rand::random());
        if settlement == Settlement::Failed && notification.is_digest() {
            // One of its rows may be at fault. They are sent one by one.
            settlement = Settlement::Moved;
        }
        warn!(
            account = account.name,
            errcode = failure.errcode,
            error = %failure,
            attempts,
            "cannot send notification"
        );
        self.note(account, health, Some(&failure));
        if remedy == ErrcodeRemedy::WaitUntil(Reset::Duplicate)
            && notification.uncertain_ms.is_some()
        {
            // The message of which this one is a duplicate is its own earlier attempt.
            return Attempt::sent(failure.errcode);
        }
        Attempt {
            settlement,
            requested: true,
            // A definite answer does not settle an earlier attempt that got no answer.
            uncertain: failure.uncertain || notification.uncertain_ms.is_some(),
            errcode: failure.errcode,
            reason: Some(failure.message.into()),
            ..Attempt::sent(None)
        }
    }

    /// Records what an attempt shows about the account, and notifies operators of a change.
    pub(super) fn note(&self, account: &Account, health: AccountHealth, failure: Option<&Failure>) {
        let (name, now) = (account.name.as_str(), Instant::now());
        if let Some(is_broken) = self.gates.report(name, health, now, rand::random()) {
            self.operators.account(name, is_broken, failure);
        }
    }
}

/// Rebuilds the request. `None`: the notice cannot be read.
fn render(
    job: &SendJob<'_>,
    account: &Account,
    delayed: bool,
    repeat: bool,
) -> Option<RebuiltRequest> {
    let mut notice = job.notice.clone()?;
    // The account's map may have been corrected.
    notice.plain_fields.clear();
    // Marks stay once set: an earlier attempt that may have arrived may have been the final one.
    notice.delayed |= delayed;
    let resends = job.notification.resends + i32::from(repeat);
    // A row that was moved here counts what may have arrived at the other address.
    notice.repeat |= resends > 0;
    Some(rebuilt(job, account, notice, resends))
}

/// Returns the request of `notice`, under the name that it has after `resends` resends.
pub(super) fn rebuilt(
    job: &SendJob<'_>,
    account: &Account,
    notice: Notice,
    resends: i32,
) -> RebuiltRequest {
    let id = job.notification.client_msg_id(resends);
    let payload = wechat::request(account, &job.address.name, &id, &notice);
    RebuiltRequest { notice, payload, resends }
}

fn error_type(failure: &Failure) -> String {
    failure.errcode.map_or_else(|| "unreachable".to_owned(), |errcode| errcode.to_string())
}

#[cfg(test)]
#[path = "attempt_tests.rs"]
mod tests;
