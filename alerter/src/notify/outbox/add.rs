//! Adds notifications in the transaction of their transition.
//!
//! Runs a statement inside the caller's transaction. [`crate::pipeline`] decides which
//! notifications there are.

use std::fmt::Write;

use ljwx_ledger::mysql::MySqlConnection;

use crate::engine::episode::TransitionKind;
use crate::notify::notice::Notice;
use crate::notify::outbox::notification::{NewNotification, Whom};
use crate::notify::outbox::table::{NOTIFIED, NOW_MS, addresses};
use crate::rules::Channel;

/// Adds a notification for each of its recipients. Existing rows stay unchanged.
///
/// Notified are those who received, or may have received, an earlier notification of the episode,
/// and those who will by a row that waits, unless they refused a later one. If there are none,
/// because all earlier ones failed, a follow-up goes to the present recipients.
///
/// Those who were notified of a rise while it was owed to others are not notified again with these.
pub async fn add(
    connection: &mut MySqlConnection,
    notification: &NewNotification,
) -> sqlx::Result<()> {
    let notice = &notification.notice;
    // What was owed may have been a rise.
    let was_owed = notice.transition == TransitionKind::Notified && !notification.follow_up;
    let rows = rows(notification, was_owed);
    let query = format!(
        "INSERT INTO t_alert_outbox (episode_key, transition_seq, transition, customer_id, \
         device_sn, notice, traceparent, severity, event_at, next_attempt_at, created_at, \
         recipient, user_id, payload) {rows} \
         ON DUPLICATE KEY UPDATE t_alert_outbox.episode_key = t_alert_outbox.episode_key"
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(notification.key.as_str())
        .bind(notification.transition_seq)
        .bind(notice.transition.as_str())
        .bind(notification.customer_id)
        .bind(&notice.device_sn)
        .bind(stored(notice))
        .bind(&notification.traceparent)
        .bind(notice.severity.number())
        .bind(notification.event_ms);
    let (mut query, mut selects) = (query, true);
    if let Whom::Recipient(recipient, payload) = &notification.whom {
        query = query.bind(recipient.address.to_string()).bind(recipient.user_id).bind(payload);
        selects = notification.follow_up || was_owed;
    }
    if selects {
        query = query.bind(notification.key.as_str()).bind(notification.transition_seq);
    }
    if let Whom::Recipient(recipient, _) = &notification.whom
        && was_owed
    {
        query = query.bind(recipient.address.to_string());
    }
    query.execute(&mut *connection).await.map(drop)
}

/// Gives what waits of the episode the severity of the notification behind it, and makes it due.
/// Otherwise a critical notification would wait for a less severe one of its episode.
///
/// Locks rows that senders claim and send. So this comes last in a transaction.
pub async fn raise(
    connection: &mut MySqlConnection,
    notification: &NewNotification,
) -> sqlx::Result<()> {
    // A rise and a later notification of a rise that was owed. Both also go to those who were
    // notified.
    let Notice { transition, severity, .. } = &notification.notice;
    let may_rise = matches!(transition, TransitionKind::Escalated | TransitionKind::Notified);
    if !may_rise || !matches!(notification.whom, Whom::Notified { .. }) {
        return Ok(());
    }
    let earlier = "earlier.episode_key = ? AND earlier.transition_seq < ?";
    let rise = format!("next_attempt_at = {NOW_MS}");
    // A row in a digest keeps the severity if the digest is taken apart. The digest's own row comes
    // second: the lock of the first shows in which digest the row is by now.
    for query in [
        format!(
            "UPDATE t_alert_outbox AS earlier SET earlier.{rise}, earlier.severity = ? \
             WHERE {earlier} AND earlier.state IN ('pending', 'in_digest', 'unrouted') \
             AND earlier.severity < ?"
        ),
        format!(
            "UPDATE t_alert_outbox AS earlier JOIN t_alert_outbox AS digest \
             ON digest.id = earlier.digest_id SET digest.{rise}, digest.severity = ? \
             WHERE {earlier} AND earlier.state = 'in_digest' AND digest.state = 'pending' \
             AND digest.severity < ?"
        ),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(severity.number())
            .bind(notification.key.as_str())
            .bind(notification.transition_seq)
            .bind(severity.number())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Returns the rows to insert, as VALUES or as a SELECT.
fn rows(notification: &NewNotification, was_owed: bool) -> String {
    let values = format!("?, ?, ?, ?, ?, ?, ?, ?, ?, {NOW_MS}, {NOW_MS}");
    let notified = format!(
        "FROM t_alert_outbox AS notified WHERE episode_key = ? AND transition_seq < ? \
         AND (state IN ('pending', 'in_digest') OR {NOTIFIED}) \
         AND NOT EXISTS (SELECT 1 FROM t_alert_outbox AS refused \
             WHERE refused.episode_key = notified.episode_key \
             AND refused.recipient = notified.recipient \
             AND refused.transition_seq >= notified.transition_seq AND refused.state = 'refused')"
    );
    // The recipient's last notification is the rise.
    let knows = format!(
        "MAX(transition_seq) = \
         MAX(IF(transition = 'escalated' AND severity = {}, transition_seq, -1))",
        notification.notice.severity.number()
    );
    let watch = addresses(Channel::Message);
    match &notification.whom {
        Whom::Recipient(..) if notification.follow_up => format!(
            "SELECT {values}, ?, ?, ? FROM DUAL \
             WHERE NOT EXISTS (SELECT 1 {notified} AND recipient NOT LIKE '{watch}')"
        ),
        Whom::Recipient(..) if was_owed => format!(
            "SELECT {values}, ?, ?, ? FROM DUAL WHERE NOT EXISTS ( \
                 SELECT 1 {notified} AND recipient = ? GROUP BY recipient HAVING {knows})"
        ),
        Whom::Recipient(..) => format!("VALUES ({values}, ?, ?, ?)"),
        Whom::Notified { on_watch } => format!(
            "SELECT {values}, notified.recipient, notified.user_id, '' FROM ( \
                 SELECT recipient, MAX(user_id) AS user_id {notified} \
                 AND ({on_watch} OR recipient NOT LIKE '{watch}') GROUP BY recipient \
                 HAVING NOT ({was_owed} AND {knows})) AS notified"
        ),
    }
}

/// Returns the stored form of a notice. Characters that a column may not be able to hold become
/// JSON escapes. A notice then never depends on a character set.
pub(super) fn stored(notice: &Notice) -> String {
    // Plain structs and strings always serialise.
    let json = serde_json::to_string(notice).unwrap_or_default();
    let mut stored = String::with_capacity(json.len());
    for one in json.chars() {
        if one.len_utf8() <= 3 {
            stored.push(one);
        } else {
            for unit in one.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(stored, "\\u{unit:04x}");
            }
        }
    }
    stored
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::notice;

    #[test]
    fn a_stored_notice_needs_no_character_of_four_bytes_and_reads_back() {
        let notice = Notice { user: "𠮷田 😀 \"\\u\"".into(), ..notice() };
        let stored = stored(&notice);
        assert!(stored.chars().all(|one| one.len_utf8() <= 3), "{stored}");
        assert_eq!(serde_json::from_str::<Notice>(&stored).unwrap(), notice);
    }
}
