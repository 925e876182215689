//! Finds and claims due rows, and marks a row just before it is sent.
//!
//! The queries decide which rows may be sent at all: in order, by one sender at a time.

use std::time::Duration;

use sqlx::{FromRow, MySql, QueryBuilder};
use uuid::Uuid;

use crate::notify::notice::Notice;
use crate::notify::outbox::add::stored;
use crate::notify::outbox::digest_rows::may_join;
use crate::notify::outbox::notification::Notification;
use crate::notify::outbox::table::{
    NOW_MS, Outbox, RECIPIENT_LIMIT, addresses, from_milliseconds, milliseconds, push_in,
};
use crate::rules::Channel;

/// Time for which a claimed row belongs to its sender, several times the length of one send.
const LEASE: Duration = Duration::from_secs(60);

/// Due rows that are read at a time.
pub const DUE_MAX: usize = 64;

/// The order of due rows: the most severe first, then the oldest. `idx_send_order` has it.
const ORDER: &str = " ORDER BY severity DESC, created_at, id";

/// Names the index of [`ORDER`]. By another index, a server sorts all that is due at every turn.
const IN_ORDER: &str = "FORCE INDEX (idx_send_order)";

/// A due row.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct DueRow {
    /// The row's id.
    pub id: i64,
    /// The tenant whose account sends the notification.
    pub customer_id: i64,
    /// The recipient, as kind:address.
    pub recipient: String,
    /// Whether a digest may take the row.
    pub may_join: bool,
    /// Whether the row has found its recipient at the limit.
    pub met_limit: bool,
    /// Time since the row was written, in milliseconds.
    pub waited_ms: i64,
}

/// A rebuilt request.
#[derive(Debug, Clone, PartialEq)]
pub struct RebuiltRequest {
    /// The request's notice.
    pub notice: Notice,
    /// The request, byte for byte.
    pub payload: Vec<u8>,
    /// Number of times the request was rebuilt as a repeat.
    pub resends: i32,
}

impl Outbox {
    /// Returns due rows, at most [`DUE_MAX`], the most severe first, then the oldest.
    ///
    /// Of one episode and recipient only the first pending row is due. So no end is read before its
    /// opening. Rows of the tenants and channels in `paused`, and of the channels in `full`, are
    /// left out.
    pub async fn due(
        &self,
        paused: &[(i64, Channel)],
        full: &[Channel],
    ) -> sqlx::Result<Vec<DueRow>> {
        let columns = format!(
            "id, customer_id, recipient, CAST({} AS SIGNED) AS may_join, \
             CAST(last_error <=> '{RECIPIENT_LIMIT}' AS SIGNED) AS met_limit, \
             CAST({NOW_MS} - created_at AS SIGNED) AS waited_ms",
            may_join()
        );
        let mut query = due(&columns, IN_ORDER, paused, full);
        query.push(format!("{ORDER} LIMIT {DUE_MAX}"));
        query.build_query_as().fetch_all(&self.pool).await
    }

    /// Returns the time for which a row has been due at most. 0 if none is due. Rows of the tenants
    /// and channels in `paused` are left out.
    pub(super) async fn due_for(&self, paused: &[(i64, Channel)]) -> sqlx::Result<Duration> {
        let columns = format!("CAST({NOW_MS} - next_attempt_at AS SIGNED)");
        let mut query = due(&columns, "", paused, &[]);
        query.push(" ORDER BY next_attempt_at LIMIT 1");
        let longest: Option<i64> = query.build_query_scalar().fetch_optional(&self.pool).await?;
        Ok(from_milliseconds(longest.unwrap_or_default()))
    }

    /// Claims those of the rows in `state` that are still due. No other sender takes them before the
    /// lease is over.
    pub async fn claim(&self, state: &'static str, ids: &[i64]) -> sqlx::Result<Vec<Notification>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        // Other senders may have found the same rows. Only the first update finds them free, and a
        // row that its sender postponed in between is not due any more.
        let claim = Uuid::new_v4().simple().to_string();
        let mut take = QueryBuilder::<MySql>::new("UPDATE t_alert_outbox SET lease_owner = ");
        take.push_bind(&claim).push(format!(
            ", lease_until = {NOW_MS} + {} WHERE state = '{state}' \
             AND next_attempt_at <= {NOW_MS} AND lease_until <= {NOW_MS} AND id",
            milliseconds(LEASE)
        ));
        push_in(&mut take, ids);
        take.build().execute(&self.pool).await?;
        let mut taken: QueryBuilder<MySql> = QueryBuilder::new(format!(
            "SELECT id, episode_key, transition_seq, transition, recipient, user_id, customer_id, \
             severity, payload, notice, traceparent, attempts, resends, lease_owner, \
             CAST({NOW_MS} - COALESCE(event_at, created_at) AS SIGNED) AS age_ms, \
             CAST({NOW_MS} - uncertain_since AS SIGNED) AS uncertain_ms, \
             (SELECT COUNT(*) FROM t_alert_outbox AS part \
                 WHERE part.digest_id = t_alert_outbox.id) AS members \
             FROM t_alert_outbox WHERE lease_owner = "
        ));
        taken.push_bind(&claim).push(" AND id");
        push_in(&mut taken, ids);
        taken.push(ORDER);
        taken.build_query_as().fetch_all(&self.pool).await
    }

    /// Marks a claimed row as uncertain just before it is sent, and stores the bytes if they were
    /// rebuilt. After a crash the next sender sends the same bytes. Returns false if the lease is
    /// over and another sender has the row.
    pub async fn begin(
        &self,
        notification: &Notification,
        rendered: Option<&RebuiltRequest>,
    ) -> sqlx::Result<bool> {
        let mut query: QueryBuilder<MySql> = QueryBuilder::new("UPDATE t_alert_outbox SET ");
        if let Some(rendered) = rendered {
            query.push("payload = ").push_bind(&rendered.payload);
            query.push(", notice = ").push_bind(stored(&rendered.notice));
            query.push(", resends = ").push_bind(rendered.resends).push(", ");
        }
        // The platform does not know the name of a repeat yet: its uncertainty starts now.
        let is_repeat = rendered.is_some_and(|anew| anew.resends != notification.resends);
        query.push("uncertain_since = COALESCE(IF(").push_bind(is_repeat);
        query.push(format!(", NULL, uncertain_since), {NOW_MS})"));
        query.push(format!(", lease_until = {NOW_MS} + {}", milliseconds(LEASE)));
        query.push(" WHERE state = 'pending' AND id = ").push_bind(notification.id);
        query.push(" AND lease_owner = ").push_bind(&notification.lease_owner);
        let begun = query.build().execute(&self.pool).await?;
        Ok(begun.rows_affected() > 0)
    }
}

/// Selects columns of the due rows. A row in a digest is still pending, so it holds back later rows
/// of its episode.
///
/// The order of the conditions counts: MariaDB evaluates them as they are written. A paused account
/// may have a hundred thousand rows, for which the subqueries would take seconds.
fn due(
    columns: &str,
    index: &'static str,
    paused: &[(i64, Channel)],
    full: &[Channel],
) -> QueryBuilder<MySql> {
    let mut query = QueryBuilder::new(format!(
        "SELECT {columns} FROM t_alert_outbox AS due {index} \
         WHERE state = 'pending' AND next_attempt_at <= {NOW_MS} AND lease_until <= {NOW_MS}"
    ));
    for (customer_id, channel) in paused {
        query.push(" AND NOT (due.customer_id = ").push_bind(*customer_id);
        query.push(" AND due.recipient LIKE ").push_bind(addresses(*channel)).push(")");
    }
    for channel in full {
        query.push(" AND due.recipient NOT LIKE ").push_bind(addresses(*channel));
    }
    query.push(
        " AND NOT EXISTS (SELECT 1 FROM t_alert_outbox AS earlier \
             WHERE earlier.episode_key = due.episode_key AND earlier.recipient = due.recipient \
             AND earlier.transition_seq < due.transition_seq \
             AND earlier.state IN ('pending', 'in_digest'))",
    );
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rests_is_left_out_of_what_is_due() {
        assert!(!due("id", "", &[], &[]).into_string().contains("LIKE"));
        let paused = [(7, Channel::Official), (9, Channel::Wecom)];
        let sql = due("id", "", &paused, &[Channel::Message]).into_string();
        assert_eq!(
            sql.matches("AND NOT (due.customer_id = ? AND due.recipient LIKE ?)").count(),
            2
        );
        assert_eq!(sql.matches("AND due.recipient NOT LIKE ?").count(), 1);
        assert!(sql.rfind("LIKE") < sql.find("NOT EXISTS"), "subqueries for paused rows");
    }
}
