//! Routes a notification again that its recipient refused, or whose account cannot send it: to the
//! person's next address, or to those who stand in. What nobody takes stays unrouted, and is routed
//! again at an interval. Also moves what waits for an account that does not send to the person's
//! address at another account. A person without one keeps waiting.
//!
//! Runs beside the sends: a hundred thousand rows delay no message. [`crate::notify::limits`] knows
//! the accounts, [`crate::notify::recipients`] finds the recipients, and
//! [`crate::notify::outbox::reroute_rows`] has the statements.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use metrics::counter;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::refusals::JUDGE_INTERVAL;
use super::{POLL_INTERVAL, Sender, count_over};
use crate::metrics::NOTIFICATIONS;
use crate::notify::address::{Address, Recipient};
use crate::notify::limits::AccountScope;
use crate::notify::limits::breaker::Leaving;
use crate::notify::notice::{Notice, Routing};
use crate::notify::outbox::reroute_rows::{
    ONLY_MOVED, Outcome, SET_ASIDE, STRANDED_MAX, copy, finish, is_reached, lock_alert,
};
use crate::notify::outbox::{self, Attempt, KEPT_DAYS, Notification, Settlement};
use crate::notify::recipients::{self, LookupResult};
use crate::rules::Channels;

/// Age from which an unrouted notification without an alert is over, in milliseconds.
const UNKNOWN_MS_MAX: i64 = KEPT_DAYS * 86_400_000;

/// Time between two passes over what waits for an account. In the meantime somebody may have got
/// another address.
const PASS_INTERVAL: Duration = Duration::from_secs(5);

/// The passes over what waits for accounts, one for each tenant and channel that does not send: the
/// row after which it continues, and the time from which on it does.
type Passes = HashMap<AccountScope, (i64, Instant)>;

impl Sender {
    /// Routes again what nobody took, frees what another row left behind, and moves what waits for
    /// accounts that do not send, until `stop`. If a statement fails, the rows wait.
    ///
    /// A pass under way at `stop` is abandoned: its transaction is undone. Its rows wait for another
    /// replica or the next process, unrouted ones until their lease is over.
    pub(super) async fn reroute(&self, stop: &CancellationToken) {
        stop.run_until_cancelled(self.reroute_forever()).await;
    }

    async fn reroute_forever(&self) {
        let mut passes = Passes::new();
        let (mut freed_at, mut judged_at): (Option<Instant>, Option<Instant>) = (None, None);
        let mut causes = HashSet::new();
        loop {
            // Not before every part of a pass: it reads all that is folded.
            if freed_at.is_none_or(|at| at.elapsed() >= POLL_INTERVAL) {
                if let Err(error) = self.outbox.free_others().await {
                    debug!(%error, "cannot free folded notifications, retrying");
                }
                freed_at = Some(Instant::now());
            }
            if judged_at.is_none_or(|at| at.elapsed() >= JUDGE_INTERVAL) {
                if let Err(error) = self.judge_all(&mut causes).await {
                    debug!(%error, "cannot judge refusals, retrying");
                }
                judged_at = Some(Instant::now());
            }
            if let Err(error) = self.route_unrouted().await {
                debug!(%error, "cannot route notifications again, retrying");
            }
            if !self.leave_accounts(&mut passes).await {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        }
    }

    /// Continues the pass that has waited longest. Returns false if none is due.
    async fn leave_accounts(&self, passes: &mut Passes) -> bool {
        let now = Instant::now();
        let leaving = self.accounts.leaving(now);
        passes.retain(|scope, _| leaving.contains_key(scope));
        let from = |scope: &AccountScope| passes.get(scope).map(|(_, from)| *from);
        let due = leaving.iter().filter(|(scope, _)| from(scope).is_none_or(|from| from <= now));
        // Passes that are yet to begin come first.
        let Some((scope, what)) = due.min_by_key(|(scope, _)| from(scope)) else { return false };
        let after = passes.get(scope).map_or(0, |(after, _)| *after);
        let next = self.leave_account(*scope, *what, after).await.unwrap_or_else(|error| {
            debug!(%error, customer.id = scope.0, "cannot move notifications, retrying");
            None
        });
        let wait = if next.is_some() { Duration::ZERO } else { PASS_INTERVAL };
        passes.insert(*scope, (next.unwrap_or(0), now + wait));
        true
    }

    /// Moves the next rows of a scope after the row `after`. Returns the last of them if there may
    /// be more.
    async fn leave_account(
        &self,
        scope: AccountScope,
        what: Leaving,
        after: i64,
    ) -> LookupResult<Option<i64>> {
        let now = Instant::now();
        let (customer_id, channel) = scope;
        // The sender claims nothing of this account meanwhile, so only this shows a change.
        if let Some(account) = self.account(scope).await?
            && self.accounts.observe(&account.name, account.settings(), scope, now)
        {
            self.outbox.make_due(scope).await?;
            return Ok(None);
        }
        let accounts = self.directory.accounts(customer_id).await?;
        let has_other = accounts.usable().any(|account| {
            account.channel() != channel && self.accounts.takes_messages(&account.name, now)
        });
        if !has_other {
            return Ok(None);
        }
        let rows = self.outbox.stranded(scope, after, what == Leaving::Critical).await?;
        let (mut moves, mut digests) = (Vec::new(), Vec::new());
        for row in &rows {
            if row.is_digest {
                // If none of its rows can leave, the digest keeps waiting.
                for (user_id, notice) in self.outbox.members(row.id).await? {
                    if !self.elsewhere(scope, user_id, &notice).await?.is_empty() {
                        digests.push(row.id);
                        break;
                    }
                }
                continue;
            }
            let found = self.elsewhere(scope, row.user_id, &row.notice).await?;
            if !found.is_empty() {
                moves.push((row.id, found));
            }
        }
        let moved = self.outbox.relocate(&moves, &digests).await?;
        if moved > 0 {
            counter!(NOTIFICATIONS, "outcome" => "moved", "channel" => channel.as_str(), "errcode" => "none")
                .increment(moved);
            info!(
                customer.id = customer_id,
                notification.channel = channel.as_str(),
                notifications = moved,
                "notifications moved, their account does not send"
            );
        }
        Ok(rows.last().map(|row| row.id).filter(|_| rows.len() >= STRANDED_MAX))
    }

    /// Settles a notification that others get: its address is disabled if its recipient refused, and
    /// the notification is added for those who are found, all or none of it. The rows of a refused
    /// digest are routed one by one. An end has nobody left to notify of it, and what is over by now
    /// goes to nobody. Returns the settlement.
    pub(super) async fn hand_on(
        &self,
        notification: &Notification,
        attempt: &Attempt,
    ) -> LookupResult<Settlement> {
        let mut attempt = attempt.clone();
        // An address that cannot be read makes no attempt.
        let Some(address) = Address::parse(&notification.recipient) else {
            return Ok(attempt.settlement);
        };
        let Notification { id, customer_id, user_id, ref notice, .. } = *notification;
        let scope = (customer_id, address.channel);
        let account = self.account(scope).await?;
        let is_refused = attempt.settlement == Settlement::Refused;
        let found = if is_refused {
            // Another replica may have disabled more addresses in the last seconds.
            self.directory.addresses.forget();
            self.found(customer_id, notice, Some(&address), None).await?
        } else {
            self.elsewhere(scope, user_id, notice).await?
        };
        if !is_refused && found.is_empty() {
            attempt.settlement = Settlement::Failed;
        }
        let mut transaction = self.outbox.pool.begin().await?;
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
            let (is_default, errcode) = (default.as_ref() == Some(&address), attempt.errcode);
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
        self.directory.addresses.forget();
        if is_refused
            && let Some(account) = account
            && let Err(error) = self.judge(&account, attempt.errcode, false).await
        {
            debug!(%error, "cannot judge refusals, retrying");
        }
        Ok(attempt.settlement)
    }

    /// Routes unrouted notifications that are due. One that fails stays unrouted until its lease is
    /// over, and delays no other.
    async fn route_unrouted(&self) -> sqlx::Result<()> {
        for notification in self.outbox.claim_unrouted().await? {
            match self.route_again(&notification).await {
                Ok(Outcome::Over) => count_over(1),
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
    async fn route_again(&self, notification: &Notification) -> LookupResult<Outcome> {
        let Notification { id, customer_id, age_ms, .. } = *notification;
        let found = self.found(customer_id, &notification.notice, None, None).await?;
        let mut transaction = self.outbox.pool.begin().await?;
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
        customer_id: i64,
        notice: &str,
        without: Option<&Address>,
        account: Option<&str>,
    ) -> LookupResult<Vec<Recipient>> {
        let notice: Option<Notice> = serde_json::from_str(notice).ok();
        let Some(notice) = notice.filter(|notice| notice.digest_of.is_none()) else {
            return Ok(Vec::new());
        };
        let wechat = Channels { wechat: true, ..Channels::default() };
        let stand_ins = Routing { channels: wechat, ..Routing::default() };
        let routing = notice.routing.unwrap_or(stand_ins);
        let now = Instant::now();
        let rests = |name: &str| account == Some(name) || self.accounts.is_resting(name, now);
        self.directory.reroute(customer_id, routing, without, &rests).await
    }

    /// Finds the addresses at which a user is reached by another account than that of the scope.
    async fn elsewhere(
        &self,
        scope: AccountScope,
        user_id: Option<i64>,
        notice: &str,
    ) -> LookupResult<Vec<Recipient>> {
        let account = self.accounts.account(scope);
        let found = self.found(scope.0, notice, None, Some(&account)).await?;
        Ok(found.into_iter().filter(|to| Some(to.user_id) == user_id).collect())
    }
}
