//! Routes a notification again that its recipient refused, or whose account cannot send it: to the
//! person's next address, or to those who stand in. What nobody takes stays unrouted, and is routed
//! again at an interval.
//!
//! [`crate::notify::recipients`] finds the recipients, and [`crate::notify::outbox::reroute_rows`]
//! has the statements.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use metrics::counter;
use tracing::warn;

use super::Sender;
use super::routes::Route;
use crate::metrics::NOTIFICATIONS;
use crate::notify::address::{Address, Recipient};
use crate::notify::limits::refusals::REFUSALS_WINDOW;
use crate::notify::notice::Notice;
use crate::notify::outbox::reroute_rows::{
    copy, is_reached, leave_unrouted, lock_firing, settle_unrouted,
};
use crate::notify::outbox::{self, Attempt, Notification, Settlement};
use crate::notify::recipients;
use crate::notify::wechat::error::ErrcodeRemedy;
use crate::rules::channel::Channel;

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
        let addresses = &self.routes.directory.addresses;
        if let Err(error) = addresses.enable(customers, channel, REFUSALS_WINDOW).await {
            warn!(%error, "cannot enable recipient addresses, they stay disabled for a day");
        }
    }

    /// Settles a notification that others get: its address is disabled if its recipient refused, and
    /// the notification is added for those who are found, all or none of it. The rows of a refused
    /// digest are routed one by one. An end has nobody left to notify of it. Returns the settlement.
    pub(super) async fn hand_on(
        &self,
        notification: &Notification,
        attempt: &Attempt,
    ) -> Result<Settlement, Arc<sqlx::Error>> {
        let mut attempt = attempt.clone();
        // An address that cannot be read makes no attempt.
        let Some(address) = Address::parse(&notification.recipient) else {
            return Ok(attempt.settlement);
        };
        let (customer_id, id) = (notification.customer_id, notification.id);
        let route = self.routes.find(customer_id, address.channel).await?;
        let is_refused = attempt.settlement == Settlement::Refused;
        let notice = (customer_id, notification.notice.as_str());
        let found = if is_refused {
            self.found(notice, Some(&address), None).await?
        } else {
            self.elsewhere(notice, notification.user_id, address.channel).await?
        };
        if !is_refused && found.is_empty() {
            attempt.settlement = Settlement::Failed;
        }
        let mut transaction = self.outbox.transaction().await?;
        if !outbox::settle(&mut transaction, notification, &attempt).await? {
            transaction.rollback().await?;
            return Ok(attempt.settlement);
        }
        copy(&mut transaction, id, &found).await?;
        if is_refused {
            let is_default = route.as_ref().is_some_and(|route| route.is_default(&address));
            let errcode = attempt.errcode;
            recipients::disable(&mut transaction, customer_id, &address, is_default, errcode)
                .await?;
            let is_settled = notification.is_digest() || notification.is_end();
            if !is_settled && !is_reached(&mut transaction, id).await? {
                leave_unrouted(&mut transaction, &[id]).await?;
                warn!(
                    alert.episode_key = notification.episode_key,
                    "notification refused and nobody else is known, looking again every minute"
                );
            }
        }
        transaction.commit().await?;
        self.routes.directory.addresses.forget();
        // Another refusal may have shown meanwhile that the account is the cause.
        if is_refused && route.is_some_and(|route| self.gates.refuses_for_all(route.name())) {
            self.enable(&BTreeSet::from([customer_id]), address.channel).await;
        }
        Ok(attempt.settlement)
    }

    /// Routes unrouted notifications that are due. If a statement fails, they stay unrouted until
    /// their lease is over.
    pub(super) async fn route_unrouted(&self) -> Result<(), Arc<sqlx::Error>> {
        let (due, over) = self.outbox.claim_unrouted().await?;
        if over > 0 {
            counter!(NOTIFICATIONS, "outcome" => "over", "channel" => "none", "errcode" => "none")
                .increment(over);
        }
        let mut unrouted = Vec::new();
        for notification in &due {
            let found =
                self.found((notification.customer_id, &notification.notice), None, None).await?;
            if found.is_empty() {
                unrouted.push(notification.id);
            } else {
                self.route(notification, &found).await?;
            }
        }
        if unrouted.is_empty() {
            return Ok(());
        }
        let mut transaction = self.outbox.transaction().await?;
        leave_unrouted(&mut transaction, &unrouted).await?;
        Ok(transaction.commit().await?)
    }

    /// Adds an unrouted notification for these recipients. Its own address is among them if it was
    /// enabled again. If none of them takes it, the row stays unrouted until its lease is over.
    async fn route(
        &self,
        notification: &Notification,
        found: &[Recipient],
    ) -> Result<(), sqlx::Error> {
        let mut transaction = self.outbox.transaction().await?;
        if !lock_firing(&mut transaction, &notification.episode_key).await? {
            return transaction.rollback().await;
        }
        copy(&mut transaction, notification.id, found).await?;
        if is_reached(&mut transaction, notification.id).await? {
            settle_unrouted(&mut transaction, notification.id).await?;
        }
        transaction.commit().await
    }

    /// Finds the recipients of a notice now, without an address, and without an account beside those
    /// that rest. None for a digest: its rows have recipients.
    pub(super) async fn found(
        &self,
        (customer_id, notice): (i64, &str),
        without: Option<&Address>,
        account: Option<&str>,
    ) -> Result<Vec<Recipient>, Arc<sqlx::Error>> {
        let notice: Option<Notice> = serde_json::from_str(notice).ok();
        let Some(routing) = notice.and_then(|notice| notice.routing) else { return Ok(Vec::new()) };
        let now = Instant::now();
        let rests = |name: &str| account == Some(name) || self.gates.is_resting(name, now);
        self.routes.directory.reroute(customer_id, routing, without, &rests).await
    }

    /// Finds the addresses at which a person is reached by another account than that of `channel`.
    pub(super) async fn elsewhere(
        &self,
        (customer_id, notice): (i64, &str),
        user_id: Option<i64>,
        channel: Channel,
    ) -> Result<Vec<Recipient>, Arc<sqlx::Error>> {
        let account = self.gates.account((customer_id, channel));
        let found = self.found((customer_id, notice), None, Some(&account)).await?;
        Ok(found.into_iter().filter(|to| Some(to.user_id) == user_id).collect())
    }
}
