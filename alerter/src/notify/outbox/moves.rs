//! Finds what waits for an account that does not send, and moves it to other recipients.
//!
//! [`crate::notify::sender`] chooses the recipients.

use std::time::Duration;

use ljwx_ledger::mysql::MySqlConnection;
use sqlx::{FromRow, MySql, QueryBuilder};

use super::operate::lock;
use super::reroute_rows::{SET_ASIDE, copy, is_reached};
use super::settle::dissolve;
use crate::notify::address::Recipient;
use crate::notify::outbox::notification::DIGEST;
use crate::notify::outbox::table::{NOW_MS, Outbox, addresses, milliseconds, push_in};
use crate::rules::channel::Channel;
use crate::rules::severity::Severity;

/// Rows that are read at a time.
pub const BATCH_MAX: usize = 500;

/// Wait of a critical notification before it leaves an account that is at a limit.
const CRITICAL_WAIT: Duration = Duration::from_secs(10);

/// A row that waits for its account.
#[derive(Debug, Clone, FromRow)]
pub struct StrandedRow {
    /// The row's id.
    pub id: i64,
    /// The user whose address it is. `None`: an older version wrote the row, or it is a digest.
    pub user_id: Option<i64>,
    /// The notice, as JSON.
    pub notice: String,
    /// Whether the row is a digest.
    pub is_digest: bool,
}

impl Outbox {
    /// Returns the pending rows of a tenant on a channel after the row `after`, in their order, at
    /// most [`BATCH_MAX`]. `critical`: only those that are critical and have waited, with the other
    /// rows of their episodes, whose order stays.
    pub async fn stranded(
        &self,
        (customer_id, channel): (i64, Channel),
        after: i64,
        critical: bool,
    ) -> Result<Vec<StrandedRow>, sqlx::Error> {
        stranded(customer_id, channel, after, critical).build_query_as().fetch_all(&self.pool).await
    }

    /// Returns the rows of a digest: the user whose address each has, and the notice, as JSON.
    pub async fn members(&self, digest: i64) -> Result<Vec<(Option<i64>, String)>, sqlx::Error> {
        let query = "SELECT user_id, notice FROM t_alert_outbox WHERE digest_id = ?";
        sqlx::query_as(query).bind(digest).fetch_all(&self.pool).await
    }

    /// Makes a tenant's pending rows on a channel due, because their account was changed. Otherwise
    /// they would wait as long as they would for the account of before.
    pub async fn make_due(
        &self,
        (customer_id, channel): (i64, Channel),
    ) -> Result<(), sqlx::Error> {
        let query = format!(
            "UPDATE t_alert_outbox SET next_attempt_at = {NOW_MS} WHERE customer_id = ? \
             AND state = 'pending' AND recipient LIKE ? AND next_attempt_at > {NOW_MS} \
             AND lease_until <= {NOW_MS}"
        );
        sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(customer_id)
            .bind(addresses(channel))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Moves rows to their recipients. A row stays if none of its recipients can have it: their own
    /// rows are final. The rows of `digests`, and those folded into moved rows, are taken out, to be
    /// moved by themselves. Returns the number of rows that were moved.
    pub async fn relocate(
        &self,
        moves: &[(i64, Vec<Recipient>)],
        digests: &[i64],
    ) -> Result<u64, sqlx::Error> {
        let ids: Vec<i64> = moves.iter().map(|(id, _)| *id).collect();
        let mut transaction = self.transaction().await?;
        let digests = lock(&mut transaction, digests).await?;
        dissolve(&mut transaction, &digests, "pending").await?;
        let ids = lock(&mut transaction, &ids).await?;
        let mut moved = Vec::new();
        for (id, recipients) in moves.iter().filter(|(id, _)| ids.contains(id)) {
            copy(&mut transaction, *id, recipients, SET_ASIDE).await?;
            if is_reached(&mut transaction, *id, Some(recipients)).await? {
                moved.push(*id);
            }
        }
        dissolve(&mut transaction, &moved, "pending").await?;
        settle(&mut transaction, &[&digests[..], &moved[..]].concat()).await?;
        transaction.commit().await?;
        Ok(moved.len() as u64)
    }
}

async fn settle(connection: &mut MySqlConnection, ids: &[i64]) -> Result<(), sqlx::Error> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut query: QueryBuilder<MySql> = QueryBuilder::new(format!(
        "UPDATE t_alert_outbox SET state = 'moved', finished_at = {NOW_MS}, \
         next_attempt_at = {NOW_MS}, last_error = 'account does not send' WHERE id"
    ));
    push_in(&mut query, ids);
    query.build().execute(connection).await?;
    Ok(())
}

/// Selects rows that wait for an account. The indexes are named: a server that guesses from the
/// recipients would read all that the tenant was ever sent.
fn stranded(customer_id: i64, channel: Channel, after: i64, critical: bool) -> QueryBuilder<MySql> {
    let mut query = QueryBuilder::new(format!(
        "SELECT waiting.id, waiting.user_id, waiting.notice, \
         CAST(waiting.transition = '{DIGEST}' AS SIGNED) AS is_digest FROM "
    ));
    if critical {
        query.push(format!(
            "(SELECT DISTINCT episode_key, recipient FROM t_alert_outbox \
                 FORCE INDEX (idx_send_order) WHERE state = 'pending' AND severity = {} AND created_at <= {NOW_MS} - {} \
                 AND customer_id = ",
            Severity::Critical.number(),
            milliseconds(CRITICAL_WAIT)
        ));
        query.push_bind(customer_id).push(
            ") AS critical JOIN t_alert_outbox AS waiting \
             FORCE INDEX (uk_episode_transition_recipient) USING (episode_key, recipient)",
        );
    } else {
        query.push("t_alert_outbox AS waiting FORCE INDEX (idx_customer_state)");
    }
    query.push(format!(" WHERE waiting.state = 'pending' AND waiting.lease_until <= {NOW_MS}"));
    query.push(" AND waiting.customer_id = ").push_bind(customer_id);
    query.push(" AND waiting.id > ").push_bind(after);
    query.push(" AND waiting.recipient LIKE ").push_bind(addresses(channel));
    query.push(format!(" ORDER BY waiting.id LIMIT {BATCH_MAX}"));
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_critical_leaves_an_account_at_a_limit() {
        let all = stranded(7, Channel::Official, 0, false).into_string();
        assert!(
            !all.contains("critical") && all.ends_with("ORDER BY waiting.id LIMIT 500"),
            "{all}"
        );
        let some = stranded(7, Channel::Official, 0, true).into_string();
        assert!(some.contains("severity = 5"), "{some}");
        assert!(some.contains("created_at <= CAST(UNIX_TIMESTAMP(NOW(3)) * 1000"), "{some}");
    }
}
