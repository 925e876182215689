//! Gathers a person's backlog into one digest: what found the person at the limit, and what waited
//! for a broken account.
//!
//! Runs before rows are claimed. [`super::digest`] chooses the rows. If a statement fails, the rows
//! are sent one by one.

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

use ljwx_ledger::mysql::MySqlConnection;
use metrics::counter;
use tracing::{debug, info};

use super::digest::{DigestChoice, LINES_MIN, choose, notice};
use super::{Sender, count_over};
use crate::metrics::{DIGESTS, IN_DIGESTS};
use crate::notify::address::Address;
use crate::notify::outbox::{
    DueRow, digest_rows, end_rows, from_milliseconds, notified_episodes, over_episodes,
};
use crate::rules::Channel;

/// Wait for a broken account from which on a row belongs to the backlog. During a shorter one, few
/// notifications come.
const WAIT_MIN: Duration = Duration::from_secs(60);

/// Time after which a turn gathers no further backlogs, so that other rows do not wait. The next
/// turn continues.
const GATHER_MAX: Duration = Duration::from_millis(500);

impl Sender {
    /// Gathers the backlogs of the people in `due`. Returns whether rows were changed.
    pub(super) async fn gather_backlogs(&self, due: &[DueRow]) -> bool {
        let (started, mut people, mut is_changed) = (Instant::now(), HashSet::new(), false);
        for row in due.iter().filter(|row| self.is_backlog(row)) {
            let whom = (row.customer_id, row.recipient.as_str());
            if !people.insert(whom) || started.elapsed() >= GATHER_MAX {
                continue;
            }
            match self.digest(whom).await {
                Ok(changed) => is_changed |= changed,
                Err(error) => {
                    debug!(%error, "cannot write digest, sending notifications one by one");
                }
            }
        }
        is_changed
    }

    /// Whether a row belongs to a backlog. Messages to the watch have no digests, and an address of
    /// a later version's channel is left to a sender of that version.
    fn is_backlog(&self, row: &DueRow) -> bool {
        let Some(Address { channel, .. }) = Address::parse(&row.recipient) else { return false };
        let waited = from_milliseconds(row.waited_ms);
        let scope = (row.customer_id, channel);
        channel != Channel::Message
            && row.may_join
            && (row.met_limit
                || waited >= WAIT_MIN && self.accounts.was_broken(scope, waited, Instant::now()))
    }

    /// Groups the rows that wait for a person into a digest, and drops those that are over. Returns
    /// false if all go by themselves.
    async fn digest(&self, whom: (i64, &str)) -> sqlx::Result<bool> {
        let ids = self.outbox.waiting(whom).await?;
        if ids.len() < LINES_MIN {
            return Ok(false);
        }
        let mut transaction = self.outbox.pool.begin().await?;
        let Some([grouped, over]) = group(&mut transaction, whom, &ids).await? else {
            transaction.rollback().await?;
            return Ok(false);
        };
        transaction.commit().await?;
        if grouped > 0 {
            counter!(DIGESTS).increment(1);
            counter!(IN_DIGESTS).increment(grouped);
            info!(
                customer.id = whom.0,
                notifications = grouped,
                "notifications grouped into a digest"
            );
        }
        if over > 0 {
            count_over(over);
            info!(
                customer.id = whom.0,
                notifications = over,
                "notifications dropped, their alerts are over"
            );
        }
        Ok(true)
    }
}

/// Groups rows into a digest, and drops those that are over. Returns the numbers of both. `None`:
/// there is nothing to change, or the caller has to roll back.
async fn group(
    connection: &mut MySqlConnection,
    whom: (i64, &str),
    ids: &[i64],
) -> sqlx::Result<Option<[u64; 2]>> {
    let waiting = digest_rows::lock(connection, whom, ids).await?;
    let ids: Vec<i64> = waiting.iter().map(|row| row.id).collect();
    if ids.len() < LINES_MIN {
        return Ok(None);
    }
    let over = over_episodes(connection, &ids).await?;
    let notified = notified_episodes(connection, &ids).await?;
    let DigestChoice { members, over } = choose(&waiting, &over, &notified);
    // What is folded into one of them goes by itself, see `Outbox::free_others`.
    end_rows(connection, &over, "dropped", "over").await?;
    if let Some(notice) = notice(&members) {
        let messages: BTreeSet<i64> = members.iter().map(|member| member.row.message).collect();
        let messages: Vec<i64> = messages.into_iter().collect();
        let severity = members.iter().map(|member| member.row.severity).max();
        let age_ms = members.iter().map(|member| member.row.age_ms).min();
        let what = (&notice, severity.unwrap_or_default(), age_ms.unwrap_or_default());
        if !digest_rows::write_digest(connection, whom, what, &messages).await? {
            return Ok(None);
        }
    }
    let changed = [members.len(), over.len()].map(|count| count as u64);
    Ok(Some(changed).filter(|changed| *changed != [0, 0]))
}
