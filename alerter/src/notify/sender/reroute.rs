//! Routes a notification again that its recipient refused: to the person's next address, or to
//! those who stand in. What nobody takes stays unrouted, and is routed again at an interval.
//!
//! [`crate::notify::recipients`] finds the recipients, and [`crate::notify::outbox::reroute_rows`]
//! has the statements.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::counter;
use tracing::{debug, info, warn};

use super::Sender;
use super::routes::Route;
use crate::metrics::NOTIFICATIONS;
use crate::notify::address::{Address, Recipient};
use crate::notify::limits::refusals::REFUSALS_WINDOW;
use crate::notify::operator_events::LastingEvent;
use crate::notify::outbox::reroute_rows::{
    copy, leave_unrouted, lock_firing, reaching, settle_unrouted, was_told_later,
};
use crate::notify::outbox::{self, Attempt, Notification};
use crate::notify::recipients;
use crate::notify::wechat::error::ErrcodeRemedy;
use crate::rules::channel::Channel;
use crate::rules::severity::Severity;

/// Interval at which unrouted notifications are counted for operators.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);

/// The tenants of which operators know that notifications reach nobody.
#[derive(Default)]
pub(super) struct Unreached {
    counted: Option<Instant>,
    tenants: BTreeSet<i64>,
}

impl Sender {
    /// Returns the remedy for a refusal of an address. If many addresses refuse, the account is the
    /// cause: the addresses are enabled again, and an operator has to fix the account.
    pub(super) async fn refusal_remedy(
        &self,
        customer_id: i64,
        address: &Address,
        route: &Route,
    ) -> ErrcodeRemedy {
        let whom = (customer_id, address.name.as_str());
        let Some(customers) = self.gates.refused(route.name(), whom, Instant::now()) else {
            return ErrcodeRemedy::DropRecipient;
        };
        warn!(account = route.name(), "account refuses for all addresses, enabling them again");
        self.enable(&customers, address.channel).await;
        ErrcodeRemedy::ConfigError
    }

    /// Enables the addresses that refused because of their account.
    async fn enable(&self, customers: &BTreeSet<i64>, channel: Channel) {
        let enabled = async {
            let mut transaction = self.outbox.transaction().await?;
            recipients::enable(&mut transaction, customers, channel, REFUSALS_WINDOW).await?;
            transaction.commit().await
        };
        if let Err(error) = enabled.await {
            warn!(%error, "cannot enable recipient addresses, they stay disabled for a day");
        }
        self.routes.directory.forget_addresses();
    }

    /// Settles a refused notification, disables its address, and adds the notification for those
    /// who are found without the address, all or none of it. The rows of a digest are routed one by
    /// one. An end has nobody left to notify of it.
    pub(super) async fn refuse(
        &self,
        notification: &Notification,
        attempt: &Attempt,
    ) -> Result<(), Arc<sqlx::Error>> {
        // An address that cannot be read makes no attempt.
        let Some(address) = Address::parse(&notification.recipient) else { return Ok(()) };
        let (customer_id, ids) = (notification.customer_id, [notification.id]);
        let route = self.routes.find(customer_id, address.channel).await?;
        let is_default = route.as_ref().is_some_and(|route| route.is_default(&address));
        let found = match notification.is_digest() {
            true => Vec::new(),
            false => self.found(notification, std::slice::from_ref(&address)).await?,
        };
        let mut transaction = self.outbox.transaction().await?;
        if !outbox::settle(&mut transaction, notification, attempt).await? {
            return Ok(transaction.rollback().await?);
        }
        recipients::disable(&mut transaction, customer_id, &address, is_default, attempt.errcode)
            .await?;
        for to in &found {
            copy(&mut transaction, &ids, to).await?;
        }
        let settled = notification.is_digest() || notification.is_end();
        if !settled && reaching(&mut transaction, &ids, None).await?.is_empty() {
            leave_unrouted(&mut transaction, &ids).await?;
            warn!(
                alert.episode_key = notification.episode_key,
                "notification refused and nobody else is known, looking again every minute"
            );
        }
        transaction.commit().await?;
        self.routes.directory.forget_addresses();
        // Another refusal may have shown meanwhile that the account is the cause.
        if route.is_some_and(|route| self.gates.refuses_for_all(route.name())) {
            self.enable(&BTreeSet::from([customer_id]), address.channel).await;
        }
        Ok(())
    }

    /// Routes unrouted notifications that are due, and reports to operators how many there are. If
    /// a statement fails, the rows stay unrouted until their lease is over.
    pub(super) async fn route_unrouted(&self, unreached: &mut Unreached) {
        if let Err(error) = self.route_due().await {
            debug!(%error, "cannot route notifications again, retrying");
        }
        if let Err(error) = self.report_unreached(unreached).await {
            debug!(%error, "cannot count unrouted notifications, retrying");
        }
    }

    async fn route_due(&self) -> Result<(), Arc<sqlx::Error>> {
        let (due, over) = self.outbox.claim_unrouted().await?;
        if over > 0 {
            counter!(NOTIFICATIONS, "outcome" => "over", "channel" => "none", "errcode" => "none")
                .increment(over);
        }
        let mut unrouted = Vec::new();
        for notification in &due {
            if !self.route(notification).await? {
                unrouted.push(notification.id);
            }
        }
        let mut transaction = self.outbox.transaction().await?;
        leave_unrouted(&mut transaction, &unrouted).await?;
        Ok(transaction.commit().await?)
    }

    /// Routes an unrouted notification. Returns false if nobody takes it now.
    async fn route(&self, notification: &Notification) -> Result<bool, Arc<sqlx::Error>> {
        let found = self.found(notification, &[]).await?;
        if found.is_empty() {
            return Ok(false);
        }
        let (own, others): (Vec<Recipient>, Vec<Recipient>) =
            found.into_iter().partition(|to| to.address.to_string() == notification.recipient);
        let mut transaction = self.outbox.transaction().await?;
        let firing = lock_firing(&mut transaction, &notification.episode_key).await?;
        let ids = [notification.id];
        for to in others.iter().filter(|_| firing) {
            copy(&mut transaction, &ids, to).await?;
        }
        // The address was added again, or its day is over.
        let again = !own.is_empty() && !was_told_later(&mut transaction, notification).await?;
        let elsewhere =
            !own.is_empty() || !reaching(&mut transaction, &ids, None).await?.is_empty();
        if !firing || !again && !elsewhere {
            transaction.rollback().await?;
            return Ok(false);
        }
        settle_unrouted(&mut transaction, notification.id, again).await?;
        transaction.commit().await?;
        info!(alert.episode_key = notification.episode_key, "unrouted notification routed");
        Ok(true)
    }

    async fn found(
        &self,
        notification: &Notification,
        without: &[Address],
    ) -> Result<Vec<Recipient>, Arc<sqlx::Error>> {
        let routing = notification.notice().and_then(|notice| notice.routing).unwrap_or_default();
        self.routes.directory.reroute(notification.customer_id, routing, without).await
    }

    async fn report_unreached(&self, unreached: &mut Unreached) -> Result<(), sqlx::Error> {
        let now = Instant::now();
        if unreached.counted.is_some_and(|counted| now < counted + COUNT_INTERVAL) {
            return Ok(());
        }
        unreached.counted = Some(now);
        let counts: BTreeMap<i64, i64> =
            self.outbox.unrouted(Severity::Major).await?.into_iter().collect();
        let over = unreached.tenants.iter().filter(|tenant| !counts.contains_key(*tenant));
        let over = over.map(|tenant| (*tenant, 0));
        for (customer_id, count) in over.chain(counts.iter().map(|(id, count)| (*id, *count))) {
            let count = u64::try_from(count).unwrap_or_default();
            self.operators.lasting(LastingEvent::NoRecipientReached, Some(customer_id), count);
        }
        unreached.tenants = counts.into_keys().collect();
        Ok(())
    }
}
