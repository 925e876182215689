//! A notification, as it is written and as a sender claims it.
//!
//! Pure. The statements belong to `add` and `claim`.

use sqlx::FromRow;

use crate::engine::episode::To;
use crate::mysql::alert_rows::{self, EpisodeKey};
use crate::notify::notice::Notice;

/// What a digest's row has in the place of a transition.
pub const DIGEST: &str = "digest";

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
