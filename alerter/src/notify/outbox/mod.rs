//! Notifications that stand in MySQL until they are sent, and who sends them.
//!
//! Rows are written in the transaction of what they tell about. A sender claims rows under a lease;
//! one that dies leaves rows that another claims when the lease is over. Leases and attempts are
//! timed by the server's clock, because replicas' clocks differ. What to do with a row is for
//! [`crate::notify::sender`] to decide.

pub mod digest_rows;

mod action_log;
mod claim;
mod operate;
mod queries;
mod settle;

use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;

use ljwx_ledger::mysql::{MySqlConnection, MySqlPool};
use sqlx::{FromRow, MySql, QueryBuilder};

pub use claim::Rendered;
pub use operate::{Filter, Listed};
pub use queries::Recent;
pub(crate) use settle::KEPT_DAYS;

use crate::engine::episode::To;
use crate::mysql::alert_rows::{self, EpisodeKey};
use crate::notify::notice::Notice;

/// The server's clock in milliseconds.
pub(crate) const NOW_MS: &str = "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)";

/// What a digest's row has in the place of a transition.
pub const DIGEST: &str = "digest";

/// Longest reason that a row keeps, in bytes.
const REASON_BYTES_MAX: usize = 255;

/// A notification to be.
#[derive(Debug)]
pub struct NewNotification {
    /// The episode.
    pub key: EpisodeKey,
    /// Which of its transitions.
    pub transition_seq: u32,
    /// What happened.
    pub to: To,
    /// Whom to tell, as kind:address.
    pub recipient: String,
    /// Whose account sends it.
    pub customer_id: i64,
    /// What to tell, should the request have to be made anew.
    pub notice: Notice,
    /// The request, byte for byte; empty: it is made when it is sent.
    pub payload: Vec<u8>,
    /// The span it belongs under.
    pub traceparent: Option<String>,
}

/// A claimed notification.
#[derive(Debug, Clone, FromRow)]
pub struct Notification {
    /// Number of its row.
    pub id: i64,
    /// The episode, or the digest.
    pub episode_key: String,
    /// Which of its transitions.
    pub transition_seq: i32,
    /// What happened.
    pub transition: String,
    /// Whom to tell, as kind:address.
    pub recipient: String,
    /// Whose account sends it.
    pub customer_id: i64,
    /// The request, byte for byte; empty: it is to be made.
    pub payload: Vec<u8>,
    /// What it tells, as JSON.
    pub notice: String,
    /// The span it belongs under.
    pub traceparent: Option<String>,
    /// Attempts before this one.
    pub attempts: i32,
    /// How often it was made anew as a repeat.
    pub repeats: i32,
    /// The claim that it is held under.
    pub lease_owner: String,
    /// Time since it was written.
    pub age_ms: i64,
    /// Time since it may have arrived; none: it has not.
    pub uncertain_ms: Option<i64>,
}

impl Notification {
    /// What it tells, where that can be read.
    pub fn notice(&self) -> Option<Notice> {
        serde_json::from_str(&self.notice).ok()
    }

    /// Whether it tells of several others.
    pub fn is_digest(&self) -> bool {
        self.transition == DIGEST
    }

    /// Whether it tells of an end.
    pub fn is_end(&self) -> bool {
        [To::Resolved, To::Stale].iter().any(|end| self.transition == end.as_str())
    }

    /// The name under which the platform is to deliver it once, after so many repeats.
    pub fn client_msg_id(&self, repeats: i32) -> String {
        let repeats = u32::try_from(repeats).unwrap_or_default();
        let seq = i64::from(self.transition_seq);
        alert_rows::client_msg_id(&self.episode_key, seq, &self.recipient, repeats)
    }
}

/// What becomes of a claimed notification.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    /// The platform took it.
    Sent,
    /// It is tried again after this time.
    Later(Duration),
    /// It is not to be sent any more.
    Dropped,
    /// It can never be sent.
    Failed,
}

impl Fate {
    /// The word in the outbox.
    fn state(&self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Later(_) => "pending",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        }
    }

    /// Whether it is the end.
    fn is_final(&self) -> bool {
        !matches!(self, Self::Later(_))
    }
}

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// What becomes of the notification.
    pub fate: Fate,
    /// Whether anybody was asked to deliver it.
    pub asked: bool,
    /// Whether this attempt may have arrived all the same; where nobody was asked, what was open
    /// before stays so.
    pub uncertain: bool,
    /// What the platform answered.
    pub errcode: Option<i64>,
    /// Why it was not sent; one of a few words where nobody was asked.
    pub reason: Option<Cow<'static, str>>,
}

impl Attempt {
    /// The platform took it.
    pub fn sent(errcode: Option<i64>) -> Self {
        Self { fate: Fate::Sent, asked: true, uncertain: false, errcode, reason: None }
    }

    /// Nobody was asked, for a reason that is one of a few words.
    pub fn unasked(fate: Fate, reason: &'static str) -> Self {
        let reason = Some(reason.into());
        Self { fate, asked: false, uncertain: false, errcode: None, reason }
    }

    /// Nobody was asked yet.
    pub fn later(wait: Duration, reason: &'static str) -> Self {
        Self::unasked(Fate::Later(wait), reason)
    }
}

/// The outbox as its senders see it.
#[derive(Debug, Clone)]
pub struct Outbox {
    pool: MySqlPool,
}

impl Outbox {
    /// The outbox in this database.
    pub fn new(pool: MySqlPool) -> Self {
        Self { pool }
    }
}

/// Adds a notification; one that is there already stays as it is.
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

/// The form a notice is stored in: characters that a column may lack are written as JSON escapes, so
/// that what is to be told never depends on a character set.
fn stored(notice: &Notice) -> String {
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

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Adds `IN (…)` with these numbers.
fn push_in(query: &mut QueryBuilder<MySql>, ids: &[i64]) {
    query.push(" IN ").push_tuples(ids, |mut row, id| {
        row.push_bind(id);
    });
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
