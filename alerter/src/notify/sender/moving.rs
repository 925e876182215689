//! Moves what waits for an account that does not send to the person's address at another account. A
//! person without one keeps waiting.
//!
//! Runs beside the sends, with [`super::reroute`]: a hundred thousand rows delay no message.
//! [`crate::notify::limits`] knows the accounts, and [`crate::notify::outbox`] has the statements.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::counter;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{POLL_INTERVAL, Sender};
use crate::metrics::NOTIFICATIONS;
use crate::notify::limits::AccountScope;
use crate::notify::limits::breaker::Leaving;
use crate::notify::outbox::BATCH_MAX;

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
        let mut freed_at: Option<Instant> = None;
        loop {
            // Not before every part of a pass: it reads all that is folded.
            if freed_at.is_none_or(|at| at.elapsed() >= POLL_INTERVAL) {
                if let Err(error) = self.outbox.free_others().await {
                    debug!(%error, "cannot free folded notifications, retrying");
                }
                freed_at = Some(Instant::now());
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
        let leaving = self.gates.leaving(now);
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
    ) -> Result<Option<i64>, Arc<sqlx::Error>> {
        let now = Instant::now();
        let (customer_id, channel) = scope;
        // The sender claims nothing of this account meanwhile, so only this shows a change.
        if let Some(account) = self.routes.find(customer_id, channel).await?
            && self.gates.observe(&account.name, account.settings(), scope, now)
        {
            self.outbox.make_due(scope).await?;
            return Ok(None);
        }
        let accounts = self.routes.directory.accounts(customer_id).await?;
        let has_other = accounts.usable().any(|account| {
            account.channel() != channel && self.gates.takes_messages(&account.name, now)
        });
        if !has_other {
            return Ok(None);
        }
        let rows = self.outbox.stranded(scope, after, what == Leaving::Critical).await?;
        let (mut moves, mut digests) = (Vec::new(), Vec::new());
        for row in &rows {
            if row.is_digest {
                if self.can_leave(scope, row.id).await? {
                    digests.push(row.id);
                }
                continue;
            }
            let notice = (customer_id, row.notice.as_str());
            let found = self.elsewhere(notice, row.user_id, channel).await?;
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
        Ok(rows.last().map(|row| row.id).filter(|_| rows.len() >= BATCH_MAX))
    }

    /// Whether a row of a digest can leave the account. If none can, the digest keeps waiting.
    async fn can_leave(
        &self,
        (customer_id, channel): AccountScope,
        digest: i64,
    ) -> Result<bool, Arc<sqlx::Error>> {
        for (user_id, notice) in self.outbox.members(digest).await? {
            if !self.elsewhere((customer_id, &notice), user_id, channel).await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
