//! Makes one attempt at one notification: decides whether it may go now, calls the platform, and
//! derives the settlement from the answer.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Instant;

use ljwx_service::telemetry::trace::{self, NewSpan};
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanKind, Status, TraceContextExt};
use tracing::{debug, info, warn};

use super::Sender;
use super::decide::{SendFacts, SendJob, decide, is_old};
use super::retry_policy::{FIX_WAIT, RETRY_MIN, after_failure};
use crate::notify::address::Address;
use crate::notify::limits::AccountScope;
use crate::notify::limits::breaker::AccountHealth;
use crate::notify::limits::rate_limit::RecentSends;
use crate::notify::notice::Notice;
use crate::notify::outbox::{Attempt, Notification, RebuiltRequest, Settlement};
use crate::notify::recipients::LookupResult;
use crate::notify::wechat::error::{ErrcodeRemedy, Failure, Reset};
use crate::notify::wechat::{self, Account};
use crate::rules::Channel;

impl Sender {
    /// Makes one attempt. `None`: another replica has taken the notification.
    pub(super) async fn attempt(
        &self,
        notification: &Notification,
        recent: RecentSends,
    ) -> Option<Attempt> {
        let Some(address) = Address::parse(&notification.recipient) else {
            // A sender of a later version, which may run beside this one, knows more channels.
            let is_old = is_old(notification);
            let settlement = if is_old { Settlement::Failed } else { Settlement::Retry(FIX_WAIT) };
            return Some(Attempt::not_sent(settlement, "no_channel"));
        };
        let mut job = SendJob { notification, address, notice: notification.notice() };
        let facts = match self.facts(&mut job, recent).await {
            Ok(facts) => facts,
            Err(error) => return Some(without_database(&error, "query the outbox")),
        };
        match decide(&job, facts) {
            Err(attempt) => Some(attempt),
            Ok(_) if job.address.channel == Channel::Message => self.write_for_watch(job).await,
            Ok(rebuilds) => self.send(&job, rebuilds).await,
        }
    }

    /// Looks up what decides about a notification, and what its message reports of other rows.
    async fn facts(&self, job: &mut SendJob<'_>, recent: RecentSends) -> sqlx::Result<SendFacts> {
        let notification = job.notification;
        if let Some(notice) = &mut job.notice
            && notification.leads()
        {
            let members = self.outbox.members(notification.id).await?;
            let others = members.iter().filter_map(|(_, other)| serde_json::from_str(other).ok());
            let mut others: Vec<Notice> = others.collect();
            others.sort_by_key(Notice::place);
            notice.beside = others.iter().map(Notice::headline).collect();
        }
        let (is_end, is_old) = (notification.is_end(), is_old(notification));
        // Messages to the watch have no limit: they are rows of this database, and the watch lists
        // them.
        let is_limited = job.address.channel != Channel::Message;
        let wait = recent.wait(self.recipient_per_minute, notification.is_critical());
        Ok(SendFacts {
            // First: what is settled in between counts as notified.
            start_waits: is_end && self.outbox.start_waits(notification).await?,
            start_notified: is_end && self.outbox.was_notified(notification).await?,
            firing: is_old && !is_end && self.outbox.still_fires(notification).await?,
            recipient_wait: wait.filter(|_| is_limited),
        })
    }

    /// Sends the notification through the tenant's account, if the account may send now, and again
    /// at once in a plainer form as long as the platform refuses its content.
    async fn send(&self, job: &SendJob<'_>, rebuilds: bool) -> Option<Attempt> {
        let notification = job.notification;
        let scope = (notification.customer_id, job.address.channel);
        let account = match self.account(scope).await {
            Ok(Some(account)) => account,
            Ok(None) => {
                self.accounts.record_missing(scope);
                return Some(Attempt::later(FIX_WAIT, "no_account"));
            }
            Err(error) => return Some(without_database(&error, "read accounts")),
        };
        let rendered = if rebuilds { render(job, &account) } else { None };
        let mut rendered = rendered.or_else(|| renewed(job, &account));
        let admitted =
            self.accounts.admit(&account.name, account.settings(), scope, Instant::now());
        if let Err((wait, reason)) = admitted {
            return Some(Attempt::later(wait, reason));
        }
        let mut is_refused = false;
        let mut attempt = loop {
            let begun = self.outbox.begin(notification, rendered.as_ref()).await;
            if !matches!(begun, Ok(true)) {
                self.accounts.abandon(&account.name, Instant::now());
            }
            match begun {
                Ok(true) => {}
                Ok(false) => {
                    warn!("notification lease expired during sending, another replica took over");
                    return None;
                }
                Err(error) => {
                    // The mark of a form that was refused must not stay: it did not arrive.
                    let uncertain = notification.uncertain_ms.is_some();
                    let later = without_database(&error, "mark notification as being sent");
                    return Some(Attempt { requested: is_refused, uncertain, ..later });
                }
            }
            let payload = rendered.as_ref().map_or(&notification.payload, |anew| &anew.payload);
            let Err(failure) = self.call(job, &account, payload).await else {
                break Attempt::sent(Some(0));
            };
            match self.plainer(job, &account, rendered.as_ref(), &failure) {
                Some(plainer) => (rendered, is_refused) = (Some(plainer), true),
                None => break self.failed(job, &account, failure),
            }
        };
        let notice = rendered.as_ref().map(|anew| &anew.notice).or(job.notice.as_ref());
        attempt.plain_fields = notice.map(|notice| notice.plain_fields.clone()).unwrap_or_default();
        Some(attempt)
    }

    /// Finds the account that serves a tenant on a channel.
    pub(super) async fn account(
        &self,
        (customer_id, channel): AccountScope,
    ) -> LookupResult<Option<Arc<Account>>> {
        Ok(self.directory.accounts(customer_id).await?.of(channel).cloned())
    }

    async fn call(
        &self,
        job: &SendJob<'_>,
        account: &Account,
        payload: &[u8],
    ) -> Result<(), Failure> {
        let SendJob { notification, address, .. } = job;
        let span = start_span(notification, address.channel);
        let sent = self.platforms.send(account, payload).await;
        if let Err(Failure { errcode, .. }) = &sent {
            let kind = errcode.map_or_else(|| "unreachable".to_owned(), |code| code.to_string());
            span.span().set_attribute(KeyValue::new("error.type", kind));
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
        let attempts = notification.attempts + 1;
        let refuses_all = failure.remedy == ErrcodeRemedy::DropRecipient
            && self.accounts.refuses_all(&account.name);
        let remedy = match failure.remedy {
            _ if refuses_all => ErrcodeRemedy::ConfigError,
            // No form is plainer, so the template is at fault and not the notice.
            ErrcodeRemedy::Plainer if job.notice.is_some() && failure.is_of_template() => {
                ErrcodeRemedy::ConfigError
            }
            remedy => remedy,
        };
        let answered = failure.errcode.is_some();
        let (mut settlement, health) = after_failure(remedy, attempts, answered, rand::random());
        if refuses_all {
            // This person may really be gone, so another message tries the account next.
            settlement = Settlement::Retry(2 * FIX_WAIT);
        }
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
            // A definite answer does not settle an earlier attempt that got no answer.
            uncertain: failure.uncertain || notification.uncertain_ms.is_some(),
            errcode: failure.errcode,
            reason: Some(failure.message.into()),
            ..Attempt::sent(None)
        }
    }

    /// Returns the request to send at once after `failure`: by the account's template if the stored
    /// bytes are older, and in a plainer form if the platform refused the content, a value that does
    /// not fit its field, or words that it blocks. `sent` is the refused request, if it was rebuilt.
    /// `None`: the failure has another remedy, or no form is plainer.
    fn plainer(
        &self,
        job: &SendJob<'_>,
        account: &Account,
        sent: Option<&RebuiltRequest>,
        failure: &Failure,
    ) -> Option<RebuiltRequest> {
        let is_unknown = failure.remedy == ErrcodeRemedy::RetryThenConfigError;
        if failure.remedy != ErrcodeRemedy::Plainer && !is_unknown {
            return None;
        }
        let mut notice = sent.map(|sent| &sent.notice).or(job.notice.as_ref())?.clone();
        // Under the same name: if an earlier attempt has arrived, the platform shows no second one.
        // This takes for granted that it remembers the names of accepted messages only.
        let resends = sent.map_or(job.notification.resends, |sent| sent.resends);
        if sent.is_none() {
            let today = rebuilt(job, account, notice.clone(), resends);
            if today.payload != job.notification.payload {
                // The stored bytes are older than the account's template.
                return Some(today);
            }
        }
        if is_unknown {
            return None;
        }
        self.operators.template_refused(&account.name, failure);
        let refused = failure.refused_field();
        notice.plain_fields = account.template()?.plainer(&notice.plain_fields, refused)?;
        warn!(
            account = account.name,
            errcode = failure.errcode,
            error = %failure,
            "platform refused content, sending it in a plainer form"
        );
        Some(rebuilt(job, account, notice, resends))
    }

    /// Records what an attempt shows about the account, and notifies operators of a change.
    pub(super) fn note(&self, account: &Account, health: AccountHealth, failure: Option<&Failure>) {
        let (name, now) = (account.name.as_str(), Instant::now());
        if let Some(is_broken) = self.accounts.report(name, health, now, rand::random()) {
            self.operators.account(name, is_broken, failure);
        }
        for replaced in self.accounts.take_replaced() {
            self.operators.account(&replaced, false, None);
        }
    }
}

/// Logs that the database does not answer. Returns the attempt of a notification that waits for it.
pub(super) fn without_database(error: &impl Display, operation: &str) -> Attempt {
    debug!(%error, "cannot {operation}, retrying");
    Attempt::later(RETRY_MIN, "database")
}

/// Rebuilds the request. `None`: the notice cannot be read.
fn render(job: &SendJob<'_>, account: &Account) -> Option<RebuiltRequest> {
    let mut notice = job.notice.clone()?;
    // The account's map may have been corrected.
    notice.plain_fields.clear();
    // Marks stay once set: an earlier attempt that may have arrived may have been the final one.
    notice.delayed |= is_old(job.notification);
    let resends = job.notification.resends + i32::from(job.notification.uncertain_ms.is_some());
    // A row that was moved here counts what may have arrived at the other address.
    notice.repeat |= resends > 0;
    Some(rebuilt(job, account, notice, resends))
}

/// Returns the request that the account sends today, if the stored bytes are another one: the account
/// was replaced or changed since, and would count as broken by the bytes of the former one. `None` also
/// if the bytes may have arrived, because the platform recognises nothing else.
fn renewed(job: &SendJob<'_>, account: &Account) -> Option<RebuiltRequest> {
    let Notification { uncertain_ms, resends, ref payload, .. } = *job.notification;
    let notice = job.notice.clone().filter(|_| uncertain_ms.is_none())?;
    Some(rebuilt(job, account, notice, resends)).filter(|today| today.payload != *payload)
}

/// Returns the request of `notice`, under the name that it has after `resends` resends.
fn rebuilt(job: &SendJob<'_>, account: &Account, notice: Notice, resends: i32) -> RebuiltRequest {
    let id = job.notification.client_msg_id(resends);
    let payload = wechat::request(account, &job.address.name, &id, &notice);
    RebuiltRequest { notice, payload, resends }
}

/// Starts a span under the reading's span that the notification continues. The span holds neither
/// address nor text.
pub fn start_span(notification: &Notification, channel: Channel) -> opentelemetry::Context {
    let mut span = NewSpan::new("notify", SpanKind::Client).with(vec![
        KeyValue::new("notification.channel", channel.as_str()),
        KeyValue::new("alert.episode_key", notification.episode_key.clone()),
        KeyValue::new("alert.transition", notification.transition.clone()),
        KeyValue::new("notification.attempt", i64::from(notification.attempts) + 1),
    ]);
    let parent = notification.traceparent.as_deref();
    if let Some(parent) = parent.and_then(|header| trace::read(header.as_bytes())) {
        span = span.under_remote(parent);
    }
    span.start()
}

#[cfg(test)]
#[path = "attempt_tests.rs"]
mod tests;
