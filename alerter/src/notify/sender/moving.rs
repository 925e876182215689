//! Moves what waits for an account that does not send to the person's address at another account. A
//! person without one keeps waiting.
//!
//! [`crate::notify::limits`] knows the accounts, and [`crate::notify::outbox`] has the statements.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::counter;
use tracing::{debug, info};

use super::Sender;
use crate::metrics::NOTIFICATIONS;
use crate::notify::limits::AccountScope;
use crate::notify::limits::breaker::Leaving;
use crate::notify::outbox::BATCH_MAX;
use crate::rules::channel::Channel;

/// Tenants and channels whose rows are read in one turn.
const SCOPES_MAX: usize = 100;

/// Time between two passes over what waits for an account. In the meantime somebody may have got
/// another address.
const PASS_INTERVAL: Duration = Duration::from_secs(5);

/// The passes over what waits for accounts, one for each tenant and channel that does not send.
#[derive(Default)]
pub(super) struct Passes(HashMap<AccountScope, Pass>);

/// The row after which a pass continues, and the time from which on it does.
type Pass = (i64, Instant);

impl Sender {
    /// Moves what waits for accounts that do not send, a bounded number of rows in a turn. Returns
    /// whether there may be more. If a statement fails, the rows wait.
    pub(super) async fn leave_accounts(&self, passes: &mut Passes) -> bool {
        let now = Instant::now();
        let leaving = self.gates.leaving(now);
        passes.0.retain(|scope, _| leaving.contains_key(scope));
        let pass = |scope: &AccountScope| passes.0.get(scope).copied().unwrap_or((0, now));
        let mut due: Vec<_> =
            leaving.into_iter().map(|(scope, what)| (scope, what, pass(&scope))).collect();
        due.retain(|(_, _, (_, from))| *from <= now);
        due.sort_by_key(|(_, _, (_, from))| *from);
        let mut more = false;
        for (scope, what, (after, _)) in due.into_iter().take(SCOPES_MAX) {
            let next = self.leave_account(scope, what, after).await;
            let next = next.unwrap_or_else(|error| {
                debug!(%error, customer.id = scope.0, "cannot move notifications, retrying");
                None
            });
            more |= next.is_some();
            let from = if next.is_some() { now } else { now + PASS_INTERVAL };
            passes.0.insert(scope, (next.unwrap_or(0), from));
        }
        more
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
        if let Some(route) = self.routes.find(customer_id, channel).await? {
            // The sender claims nothing of this account meanwhile, so only this shows a change.
            if self.gates.observe(route.name(), route.settings(), scope, now).is_none() {
                self.outbox.make_due(scope).await?;
                return Ok(None);
            }
        }
        let accounts = self.routes.directory.accounts(customer_id).await?;
        let takes = |other: Channel| {
            let name = accounts.name(other).filter(|_| other != channel);
            name.is_some_and(|name| self.gates.takes_messages(&name, now))
        };
        if !accounts.kinds().into_iter().any(takes) {
            return Ok(None);
        }
        let rows = self.outbox.stranded(scope, after, what == Leaving::Critical).await?;
        let digests: Vec<i64> = rows.iter().filter(|row| row.is_digest).map(|row| row.id).collect();
        let mut moves = Vec::new();
        for row in rows.iter().filter(|row| !row.is_digest) {
            let notice = (customer_id, row.notice.as_str());
            let found = self.elsewhere(notice, row.user_id, channel).await?;
            if !found.is_empty() {
                moves.push((row.id, found));
            }
        }
        if !moves.is_empty() || !digests.is_empty() {
            let moved = self.outbox.relocate(&moves, &digests).await?;
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
}
