//! Routes a notification again that its recipient refused, or whose account cannot send it: to the
//! person's next address, or to those who stand in. What nobody takes stays unrouted, and is routed
//! again at an interval.
//!
//! [`crate::notify::recipients`] finds the recipients, and [`crate::notify::outbox::reroute_rows`]
//! has the statements.

use std::sync::Arc;
use std::time::Instant;

use metrics::counter;
use tracing::warn;

use super::Sender;
use super::retry_policy::FIX_WAIT;
use crate::metrics::NOTIFICATIONS;
use crate::notify::address::{Address, Recipient};
use crate::notify::limits::breaker::AccountHealth;
use crate::notify::notice::{Notice, Routing};
use crate::notify::outbox::reroute_rows::{
    ONLY_MOVED, Outcome, REFUSALS_WINDOW, SET_ASIDE, copy, finish, is_reached, lock_alert,
};
use crate::notify::outbox::{self, Attempt, KEPT_DAYS, Notification, Settlement};
use crate::notify::recipients;
use crate::notify::wechat::Account;
use crate::notify::wechat::error::{ErrcodeRemedy, Failure};
use crate::rules::channel::{Channel, Channels};

/// Different addresses whose refusals show that their account is the cause.
const REFUSALS_MAX: i64 = 5;

/// Age from which an unrouted notification without an alert is over, in milliseconds.
const UNKNOWN_MS_MAX: i64 = KEPT_DAYS * 86_400_000;

impl Sender {
    /// Settles a notification that others get: its address is disabled if its recipient refused, and
    /// the notification is added for those who are found, all or none of it. The rows of a refused
    /// digest are routed one by one. An end has nobody left to notify of it, and what is over by now
    /// goes to nobody. Returns the settlement.
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
        let account = self.routes.find(customer_id, address.channel).await?;
        let is_refused = attempt.settlement == Settlement::Refused;
        let notice = (customer_id, notification.notice.as_str());
        let found = if is_refused {
            // Another replica may have disabled more addresses in the last seconds.
            self.routes.directory.addresses.forget();
            self.found(notice, Some(&address), None).await?
        } else {
            self.elsewhere(notice, notification.user_id, address.channel).await?
        };
        if !is_refused && found.is_empty() {
            attempt.settlement = Settlement::Failed;
        }
        let mut transaction = self.outbox.transaction().await?;
        let is_over = lock_alert(&mut transaction, &notification.episode_key).await? == Some(true);
        if !outbox::settle(&mut transaction, notification, &attempt).await? {
            transaction.rollback().await?;
            return Ok(attempt.settlement);
        }
        if !is_over || notification.is_end() {
            let set_aside = if is_refused { ONLY_MOVED } else { SET_ASIDE };
            copy(&mut transaction, id, &found, set_aside).await?;
            if attempt.settlement == Settlement::Moved
                && !is_reached(&mut transaction, id, Some(&found)).await?
            {
                // The rows of those who were found are final, so it fails as if nobody was found.
                transaction.rollback().await?;
                attempt.settlement = Settlement::Failed;
                self.outbox.settle(notification, &attempt).await?;
                return Ok(attempt.settlement);
            }
        }
        if is_refused {
            let default = account.as_ref().and_then(|account| account.default_address());
            let is_default = default.as_ref() == Some(&address);
            let errcode = attempt.errcode;
            recipients::disable(&mut transaction, customer_id, &address, is_default, errcode)
                .await?;
            let is_settled = is_over || notification.is_digest() || notification.is_end();
            if !is_settled && !is_reached(&mut transaction, id, None).await? {
                finish(&mut transaction, id, Outcome::Unrouted).await?;
                warn!(
                    alert.episode_key = notification.episode_key,
                    "notification refused and nobody else is known, looking again every minute"
                );
            }
        }
        transaction.commit().await?;
        self.routes.directory.addresses.forget();
        if is_refused
            && let Some(account) = account
            && let Err(error) = self.judge(&account, address.channel, attempt.errcode).await
        {
            warn!(%error, "cannot enable recipient addresses, they stay disabled for a day");
        }
        Ok(attempt.settlement)
    }

    /// Judges an account after a refusal. If many addresses refuse and none accepts, the account is
    /// the cause: the addresses are enabled again, and an operator has to fix the account. Whoever
    /// refused has the notification elsewhere by now.
    async fn judge(
        &self,
        account: &Account,
        channel: Channel,
        errcode: Option<i64>,
    ) -> Result<(), sqlx::Error> {
        let name = &account.name;
        let customers = self.gates.customers(name);
        if !self.gates.refuses_all(name) {
            if self.outbox.refusals(&customers, channel).await? < REFUSALS_MAX {
                return Ok(());
            }
            warn!(account = name, "account refuses for all addresses, enabling them again");
            let failure = Failure {
                remedy: ErrcodeRemedy::ConfigError,
                errcode,
                uncertain: false,
                message: format!("{REFUSALS_MAX} addresses refused and none accepted"),
            };
            self.note(account, AccountHealth::Broken(FIX_WAIT), Some(&failure));
            self.gates.refuse_all(name);
        }
        self.routes.directory.addresses.enable(&customers, channel, REFUSALS_WINDOW).await
    }

    /// Routes unrouted notifications that are due. One that fails stays unrouted until its lease is
    /// over, and delays no other.
    pub(super) async fn route_unrouted(&self) -> Result<(), sqlx::Error> {
        for notification in self.outbox.claim_unrouted().await? {
            match self.route_again(&notification).await {
                Ok(Outcome::Over) => {
                    counter!(NOTIFICATIONS, "outcome" => "over", "channel" => "none", "errcode" => "none")
                        .increment(1);
                }
                Ok(Outcome::Reached | Outcome::Unrouted) => {}
                Err(error) => warn!(
                    %error,
                    alert.episode_key = notification.episode_key,
                    "cannot route notification again, retrying in a minute"
                ),
            }
        }
        Ok(())
    }

    /// Routes an unrouted notification: to whoever is found now, also at their own address if it was
    /// enabled again.
    async fn route_again(&self, notification: &Notification) -> Result<Outcome, Arc<sqlx::Error>> {
        let Notification { id, customer_id, age_ms, .. } = *notification;
        let found = self.found((customer_id, &notification.notice), None, None).await?;
        let mut transaction = self.outbox.transaction().await?;
        let over = lock_alert(&mut transaction, &notification.episode_key).await?;
        let is_over = over.unwrap_or(age_ms >= UNKNOWN_MS_MAX);
        let is_routed = if is_over && !notification.is_end() {
            false
        } else {
            copy(&mut transaction, id, &found, SET_ASIDE).await?;
            is_reached(&mut transaction, id, None).await?
        };
        let outcome = match (is_routed, is_over) {
            (true, _) => Outcome::Reached,
            (false, true) => Outcome::Over,
            (false, false) => Outcome::Unrouted,
        };
        finish(&mut transaction, id, outcome).await?;
        transaction.commit().await?;
        Ok(outcome)
    }

    /// Finds the recipients of a notice now, without an address, and without an account beside those
    /// that rest. None for a digest: its rows have recipients. A notice of an older version names no
    /// people, so it goes to those who stand in.
    async fn found(
        &self,
        (customer_id, notice): (i64, &str),
        without: Option<&Address>,
        account: Option<&str>,
    ) -> Result<Vec<Recipient>, Arc<sqlx::Error>> {
        let notice: Option<Notice> = serde_json::from_str(notice).ok();
        let Some(notice) = notice.filter(|notice| notice.digest_of.is_none()) else {
            return Ok(Vec::new());
        };
        let wechat = Channels { wechat: true, ..Channels::default() };
        let stand_ins = Routing { channels: wechat, ..Routing::default() };
        let routing = notice.routing.unwrap_or(stand_ins);
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
