//! Finds the recipients of a transition, and counts what reaches no one.
//!
//! [`crate::notify::recipients`] looks people up and chooses. The engine has asked already whether
//! the transition reaches anyone. [`crate::pipeline::transition_rows`] builds the rows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use ljwx_ledger::group::delivery::Delivery;
use ljwx_reading::Ids;
use metrics::counter;
use tracing::warn;

use super::Pipeline;
use crate::engine::Change;
use crate::engine::routing::{OwedReason, Routed};
use crate::metrics::NOTIFICATIONS;
use crate::mysql::retry::Stopping;
use crate::mysql::suppressed_counts::{NO_CHANNEL, SILENCED};
use crate::notify::recipients::choice::{Choice, RECIPIENTS_MAX};
use crate::notify::recipients::router::PeopleRouter;
use crate::pipeline::partition_batch::PartitionBatch;
use crate::pipeline::shared_state::SharedState;
use crate::pipeline::transition_rows::Cause;
use crate::rules::Rule;

/// Missing accounts that are logged until the rules change. Further ones are not logged.
const UNSERVED_MAX: usize = 1_000;

impl Pipeline {
    /// Returns a router for a batch, which knows no one yet.
    pub(super) fn router(&self) -> PeopleRouter {
        let SharedState { silences, accounts, .. } = &self.shared;
        let now_ms = Timestamp::now().as_millisecond();
        PeopleRouter::new(silences.clone(), Arc::clone(accounts), now_ms)
    }

    /// Looks up the contacts that the router lacks, all together.
    pub(super) async fn look_up(
        &self,
        router: &mut PeopleRouter,
        people: &BTreeSet<Ids>,
    ) -> Result<(), Stopping> {
        let missing = router.missing(people);
        if missing.is_empty() {
            return Ok(());
        }
        let SharedState { mysql_retry, directory, .. } = &self.shared;
        let found =
            mysql_retry.until_done("look up recipients", || directory.contacts(&missing)).await?;
        router.add(found);
        Ok(())
    }

    /// Adds the changes by one delivery, or by one look, to the partition's batch. Their people are
    /// looked up. A record also shows that other devices are silent, and is not the cause of their
    /// alerts.
    pub(super) fn record(
        &mut self,
        changes: &[Change],
        delivery: Option<&Delivery>,
        since: SystemTime,
        partition_batch: &mut PartitionBatch,
        router: &PeopleRouter,
    ) {
        let from = partition_batch.notifications.len();
        let next_offset = partition_batch.advance.to;
        for change in changes {
            let Some(rule) = change.rule.as_deref() else {
                partition_batch.supersede(change);
                continue;
            };
            let seen = delivery.and_then(|delivery| delivery.reading.as_ref().ok());
            let reading = seen.filter(|reading| *reading.device_sn() == change.device_sn);
            let own = delivery.filter(|_| reading.is_some());
            let cause = Cause {
                reading,
                offset: delivery.map_or(next_offset, |delivery| delivery.offset),
                topic: self.writer.ledger.topic(),
                context: own.and_then(|delivery| delivery.origin.context()),
                since,
            };
            let choice = choice(change, rule, router);
            count(change, &choice);
            log(change, rule, &choice, router);
            log_unserved(&mut self.unserved, change, &choice);
            partition_batch.suppress(change);
            let contacts = router.contacts(change.ids).cloned().unwrap_or_default();
            partition_batch.add(change, rule, &cause, &contacts, &choice);
        }
        partition_batch.fold(from);
    }
}

/// Logs once that a tenant has no account for a channel of its rules.
fn log_unserved(logged: &mut BTreeSet<(i64, &'static str)>, change: &Change, choice: &Choice) {
    let customer_id = change.ids.customer_id.unwrap_or_default();
    for channel in &choice.unserved {
        if logged.len() < UNSERVED_MAX && logged.insert((customer_id, *channel)) {
            warn!(
                customer.id = customer_id,
                rule.id = change.rule_id,
                channel,
                "tenant has no account for channel, notifying by the others"
            );
        }
    }
}

/// Chooses the recipients of a change. None if none were looked for.
fn choice(change: &Change, rule: &Rule, router: &PeopleRouter) -> Choice {
    let transition = change.transition;
    let looked_for = match transition.routed {
        Some(Routed::Somebody) => true,
        Some(Routed::Nobody(reason)) => reason.is_unreachable(),
        Some(Routed::NoChannel) | None => false,
    };
    let chosen = looked_for.then(|| router.choose(change.ids, rule.channels)).flatten();
    let mut choice = chosen.unwrap_or_default();
    if transition.on_watch {
        let mut recipients = std::mem::take(&mut choice.recipients);
        recipients.retain(|recipient| choice.counts(recipient));
        choice.recipients = recipients;
    }
    choice
}

/// Counts what reaches no one, once a notification.
fn count(change: &Change, choice: &Choice) {
    let note = |outcome: &'static str, channel: &'static str, reason: &'static str| {
        counter!(NOTIFICATIONS, "outcome" => outcome, "channel" => channel, "errcode" => reason)
            .increment(1);
    };
    match change.transition.routed {
        Some(Routed::NoChannel) => note("unreachable", "none", NO_CHANNEL),
        Some(Routed::Nobody(OwedReason::Silenced)) => note(SILENCED, "none", "none"),
        // What was owed has been counted when it became due.
        Some(_) if !change.transition.on_watch => {
            for (channel, reason) in &choice.unreachable {
                note("unreachable", channel, reason.as_str());
            }
        }
        _ => {}
    }
}

fn log(change: &Change, rule: &Rule, choice: &Choice, router: &PeopleRouter) {
    let transition = change.transition;
    let due = transition.notify || transition.routed.is_some();
    // The end of an episode that was notified is logged, silence or not.
    let silenced = transition.routed.is_some()
        && router.is_silenced(change.ids, &change.device_sn, change.rule_id);
    if rule.channels.log && due && !silenced {
        warn!(rule.id = rule.id, device.id = %change.device_sn, alert.transition = transition.to.as_str(),
            alert.severity = transition.severity.as_str(), "alert notification");
    }
    if choice.omitted > 0 {
        warn!(
            customer.id = change.ids.customer_id,
            org.id = change.ids.org_id,
            recipients.omitted = choice.omitted,
            "too many recipients, notifying the first {RECIPIENTS_MAX}"
        );
    }
}
