//! Adds notifications in the transaction of their transition.
//!
//! Runs a statement inside the caller's transaction. [`crate::pipeline`] decides which
//! notifications there are.

use std::fmt::Write;

use ljwx_ledger::mysql::MySqlConnection;

use crate::notify::notice::Notice;
use crate::notify::outbox::notification::NewNotification;
use crate::notify::outbox::table::NOW_MS;

/// Adds a notification. An existing one stays unchanged.
pub async fn add(
    connection: &mut MySqlConnection,
    notification: &NewNotification,
) -> Result<(), sqlx::Error> {
    let query = format!(
        "INSERT INTO t_alert_outbox (episode_key, transition_seq, transition, recipient, \
         customer_id, device_sn, notice, payload, traceparent, next_attempt_at, created_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, {NOW_MS}, {NOW_MS}) \
         ON DUPLICATE KEY UPDATE episode_key = episode_key"
    );
    sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(notification.key.as_str())
        .bind(notification.transition_seq)
        .bind(notification.to.as_str())
        .bind(&notification.recipient)
        .bind(notification.customer_id)
        .bind(&notification.notice.device_sn)
        .bind(stored(&notification.notice))
        .bind(&notification.payload)
        .bind(&notification.traceparent)
        .execute(connection)
        .await?;
    Ok(())
}

/// Returns the stored form of a notice. Characters that a column may not be able to hold become
/// JSON escapes. A notice then never depends on a character set.
pub(super) fn stored(notice: &Notice) -> String {
    // Plain structs and strings always serialise.
    let json = serde_json::to_string(notice).unwrap_or_default();
    if json.is_ascii() {
        return json;
    }
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
