//! Moves what waits for an account that does not send to the person's address at another account. A
//! person without one keeps waiting.
//!
//! [`crate::notify::limits`] knows the accounts, and [`crate::notify::outbox`] has the statements.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::counter;
use tracing::{debug, info};

use super::Sender;
use crate::metrics::NOTIFICATIONS;
use crate::notify::address::{Address, Recipient};
use crate::notify::limits::AccountScope;
use crate::notify::limits::breaker::Leaving;
use crate::notify::notice::Notice;
use crate::notify::outbox::{BATCH_MAX, StrandedRow};
use crate::rules::channel::Channel;

/// Tenants and channels whose rows are read in one turn.
const SCOPES_MAX: usize = 100;

/// Time between two passes over what waits for an account. In the meantime somebody may have got
/// another address.
const PASS_INTERVAL: Duration = Duration::from_secs(5);

/// The passes over what waits for accounts, one for each tenant and channel that does not send.
#[derive(Default)]
pub(super) struct Passes(HashMap<AccountScope, Pass>);

/// How far a pass has come.
#[derive(Clone, Copy)]
struct Pass {
    /// The pass continues after this row.
    after: i64,
    /// The pass continues from this time on.
    from: Instant,
}

/// Rows by the recipient to whom they go.
type Moves = Vec<(Recipient, Vec<i64>)>;

impl Sender {
    /// Moves what waits for accounts that do not send, a bounded number of rows in a turn. Returns
    /// whether there may be more. If a statement fails, the rows wait.
    pub(super) async fn leave_accounts(&self, passes: &mut Passes) -> bool {
        let now = Instant::now();
        let leaving = self.gates.leaving(now);
        passes.0.retain(|scope, _| leaving.contains_key(scope));
        let begin = Pass { after: 0, from: now };
        let passes_of = leaving
            .iter()
            .map(|(scope, what)| (*scope, *what, passes.0.get(scope).copied().unwrap_or(begin)));
        let mut due: Vec<_> = passes_of.filter(|(_, _, pass)| pass.from <= now).collect();
        due.sort_by_key(|(_, _, pass)| pass.from);
        let mut more = false;
        for (scope, what, pass) in due.into_iter().take(SCOPES_MAX) {
            let next = self.leave_account(scope, what, pass.after).await;
            let next = next.unwrap_or_else(|error| {
                debug!(%error, customer.id = scope.0, "cannot move notifications, retrying");
                None
            });
            more |= next.is_some();
            let from = if next.is_some() { now } else { now + PASS_INTERVAL };
            passes.0.insert(scope, Pass { after: next.unwrap_or(0), from });
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
        let Some(other) = other(channel) else { return Ok(None) };
        let Some(route) = self.routes.find(customer_id, other).await? else { return Ok(None) };
        if !self.gates.takes_messages(route.name(), now) {
            return Ok(None);
        }
        let critical = what == Leaving::Critical;
        let rows = self.outbox.stranded(scope, after, critical).await?;
        if rows.is_empty() {
            return Ok(None);
        }
        let mut users: Vec<i64> = rows.iter().filter_map(|row| row.user_id).collect();
        users.sort_unstable();
        users.dedup();
        let addresses = self.routes.directory.addresses(customer_id, &users, other).await?;
        let (moves, digests) = moves(&rows, channel, &addresses);
        let moved = match moves.is_empty() {
            true => 0,
            false => self.outbox.relocate(&moves, &digests).await?,
        };
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
        let found = rows.iter().filter(|row| row.digest_id.is_none());
        let (count, last) = (found.clone().count(), found.map(|row| row.id).max());
        Ok(last.filter(|_| count >= BATCH_MAX))
    }
}

/// Returns the channel at which a person may have another address.
fn other(channel: Channel) -> Option<Channel> {
    match channel {
        Channel::Official => Some(Channel::Wecom),
        Channel::Wecom => Some(Channel::Official),
        Channel::Message => None,
    }
}

/// Returns the recipients to whom rows of `channel` go, and the digests that hold some of the rows.
/// `addresses` holds the addresses of the users on the other channel.
fn moves(
    rows: &[StrandedRow],
    channel: Channel,
    addresses: &HashMap<i64, Vec<Address>>,
) -> (Moves, Vec<i64>) {
    let mut moves: BTreeMap<(&Address, i64), Vec<i64>> = BTreeMap::new();
    let mut digests = Vec::new();
    for row in rows.iter().filter(|row| !row.is_digest && may_leave(row, channel)) {
        let Some(user_id) = row.user_id else { continue };
        let found = addresses.get(&user_id).into_iter().flatten();
        for address in found {
            moves.entry((address, user_id)).or_default().push(row.id);
            digests.extend(row.digest_id);
        }
    }
    digests.sort_unstable();
    digests.dedup();
    let recipient =
        |(address, user_id): (&Address, i64)| Recipient { address: address.clone(), user_id };
    (moves.into_iter().map(|(to, ids)| (recipient(to), ids)).collect(), digests)
}

/// Whether the rule names the other channel too. The word `wechat` means both channels, `wecom`
/// only one.
fn may_leave(row: &StrandedRow, channel: Channel) -> bool {
    let names_both = || {
        let notice: Option<Notice> = serde_json::from_str(&row.notice).ok();
        notice.and_then(|notice| notice.routing).is_some_and(|routing| routing.channels.wechat)
    };
    channel == Channel::Official || names_both()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::notice::Routing;
    use crate::rules::channel::Channels;
    use crate::test_support::notice;

    fn row(id: i64, user_id: Option<i64>, channels: Channels) -> StrandedRow {
        let routing = Some(Routing { channels, ..Routing::default() });
        let notice = serde_json::to_string(&Notice { routing, ..notice() }).unwrap();
        StrandedRow { id, user_id, notice, is_digest: false, digest_id: None }
    }

    fn addresses(known: &[(i64, &[&str])]) -> HashMap<i64, Vec<Address>> {
        let parse = |text: &&str| Address::parse(text).unwrap();
        known.iter().map(|(user, texts)| (*user, texts.iter().map(parse).collect())).collect()
    }

    /// The moves as text: recipient, user, rows.
    fn shown(moves: &Moves) -> Vec<(String, i64, Vec<i64>)> {
        moves.iter().map(|(to, ids)| (to.address.to_string(), to.user_id, ids.clone())).collect()
    }

    #[test]
    fn a_row_goes_to_every_other_address_of_its_person_and_stays_without_one() {
        let wechat = Channels { wechat: true, ..Channels::default() };
        let rows = [
            row(1, Some(5), wechat),
            row(2, Some(6), wechat),
            row(3, Some(5), wechat),
            row(4, None, wechat),
            StrandedRow { is_digest: true, ..row(5, Some(5), wechat) },
            StrandedRow { digest_id: Some(5), ..row(6, Some(5), wechat) },
        ];
        let known = addresses(&[(5, &["wecom:a", "wecom:b"]), (6, &[])]);
        let (moves, digests) = moves(&rows, Channel::Official, &known);
        let expected = ["wecom:a", "wecom:b"].map(|address| (address.to_owned(), 5, vec![1, 3, 6]));
        assert_eq!((shown(&moves), digests), (expected.to_vec(), vec![5]));
    }

    #[test]
    fn a_rule_that_names_wecom_alone_stays_there() {
        let wecom = Channels { wecom: true, ..Channels::default() };
        let both = Channels { wechat: true, ..wecom };
        let known = addresses(&[(5, &["openid:o5"])]);
        let rows = [row(1, Some(5), wecom), row(2, Some(5), both)];
        let (moves, _) = moves(&rows, Channel::Wecom, &known);
        assert_eq!(shown(&moves), [("openid:o5".to_owned(), 5, vec![2])]);
    }
}
