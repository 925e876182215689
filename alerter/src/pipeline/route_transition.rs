//! Finds the recipients of a transition, and counts what reaches no one.
//!
//! [`crate::notify::recipients`] looks people up and chooses. The engine has asked already whether
//! the transition reaches anyone. [`crate::pipeline::transition_rows`] builds the rows.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use ljwx_reading::{DeviceSn, Ids};
use metrics::counter;
use tracing::warn;

use super::{Pipeline, PipelineParts};
use crate::engine::Change;
use crate::engine::routing::{OwedReason, Routed};
use crate::metrics::NOTIFICATIONS;
use crate::mysql::retry::Stopping;
use crate::mysql::suppressed_counts::{NO_CHANNEL, SILENCED};
use crate::notify::recipients::choice::{Choice, RECIPIENTS_MAX};
use crate::notify::recipients::router::PeopleRouter;
use crate::pipeline::alert_span::Cause;
use crate::pipeline::partition_batch::PartitionBatch;
use crate::rules::rule::Rule;

/// Missing accounts that are logged until the rules change. Further ones are not logged.
const UNSERVED_MAX: usize = 1_000;

impl Pipeline {
    /// Returns a router for a batch, which knows no one yet.
    pub(super) fn router(&self) -> PeopleRouter {
        let PipelineParts { silences, accounts, .. } = &self.parts;
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
        let PipelineParts { mysql_retry, directory, .. } = &self.parts;
        let found =
            mysql_retry.until_done("look up recipients", || directory.contacts(&missing)).await?;
        router.add(found);
        Ok(())
    }

    /// Adds the changes by one reading, or one look, to the partition's batch. Their people are looked
    /// up. A record also shows that other devices are silent, and is not the cause of their alerts:
    /// `own` is the cause of changes of the device that was seen.
    pub(super) fn record(
        &mut self,
        changes: &[Change],
        own: Option<(&DeviceSn, &Cause<'_>)>,
        others: &Cause<'_>,
        partition_batch: &mut PartitionBatch,
        router: &PeopleRouter,
    ) {
        let from = partition_batch.notifications.len();
        for change in changes {
            let own = own.filter(|(device_sn, _)| **device_sn == change.device_sn);
            let cause = own.map_or(others, |(_, cause)| cause);
            self.record_one(change, cause, partition_batch, router);
        }
        partition_batch.fold(from);
    }

    fn record_one(
        &mut self,
        change: &Change,
        cause: &Cause<'_>,
        partition_batch: &mut PartitionBatch,
        router: &PeopleRouter,
    ) {
        let Some(rule) = change.rule.as_deref() else { return partition_batch.supersede(change) };
        let choice = choice(change, rule, router);
        count(change, &choice);
        log(change, rule, &choice, router);
        self.log_unserved(change, &choice);
        partition_batch.suppress(change);
        let contacts = router.contacts(change.ids).cloned().unwrap_or_default();
        partition_batch.add(change, rule, cause, &contacts, &choice);
    }

    /// Logs once that a tenant has no account for a channel of its rules.
    fn log_unserved(&mut self, change: &Change, choice: &Choice) {
        for channel in &choice.unserved {
            let customer_id = change.ids.customer_id.unwrap_or_default();
            if self.unserved.len() < UNSERVED_MAX && self.unserved.insert((customer_id, *channel)) {
                warn!(
                    customer.id = customer_id,
                    rule.id = change.rule_id,
                    channel,
                    "tenant has no account for channel, notifying by the others"
                );
            }
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
    let transition = change.transition;
    let unreachable = |channel: &'static str, reason: &'static str| {
        counter!(NOTIFICATIONS, "outcome" => "unreachable", "channel" => channel, "errcode" => reason)
            .increment(1);
    };
    match transition.routed {
        Some(Routed::NoChannel) => unreachable("none", NO_CHANNEL),
        Some(Routed::Nobody(OwedReason::Silenced)) => {
            counter!(NOTIFICATIONS, "outcome" => SILENCED, "channel" => "none", "errcode" => "none")
                .increment(1);
        }
        // What was owed has been counted when it became due.
        Some(_) if !transition.on_watch => {
            choice
                .unreachable
                .iter()
                .for_each(|(channel, reason)| unreachable(channel, reason.as_str()));
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
