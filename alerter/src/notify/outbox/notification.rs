//! A notification, as it is written and as a sender claims it.
//!
//! Pure. The statements belong to `add` and `claim`.

use std::time::Duration;

use sqlx::FromRow;

use crate::engine::episode::{EpisodeKey, TransitionKind, episode_key};
use crate::notify::address::{Address, Recipient};
use crate::notify::notice::Notice;
use crate::notify::outbox::table::from_milliseconds;
use crate::rules::{Channel, Severity};

/// The transition of a digest's row.
pub const DIGEST: &str = "digest";

/// The transitions that end an episode and of which people are notified.
pub(super) const ENDS: [TransitionKind; 3] =
    [TransitionKind::Resolved, TransitionKind::Stale, TransitionKind::Closed];

/// Whether a row's transition ends the episode.
pub fn is_end(transition: &str) -> bool {
    ENDS.iter().any(|end| transition == end.as_str())
}

/// Whom a new notification is for.
#[derive(Debug)]
pub enum Whom {
    /// One recipient, with the request byte for byte. Empty: the request is built when it is sent.
    Recipient(Recipient, Vec<u8>),
    /// All who were notified of the episode before.
    Notified {
        /// Whether messages on the watch count among them.
        on_watch: bool,
    },
}

/// A notification to add.
#[derive(Debug)]
pub struct NewNotification {
    /// The episode.
    pub key: EpisodeKey,
    /// The number of the transition within its episode.
    pub transition_seq: u32,
    /// Whom the notification is for.
    pub whom: Whom,
    /// Whether those who were notified follow the episode. One recipient then gets the notification
    /// only if nobody was.
    pub follow_up: bool,
    /// Time of the event, from which the age counts.
    pub event_ms: i64,
    /// The tenant whose account sends the notification.
    pub customer_id: i64,
    /// The notice, from which the request can be rebuilt.
    pub notice: Notice,
    /// The trace context of the parent span.
    pub traceparent: Option<String>,
}

/// A claimed notification.
#[derive(Debug, Clone, FromRow)]
pub struct Notification {
    /// The row's id.
    pub id: i64,
    /// The episode, or the digest.
    pub episode_key: String,
    /// The number of the transition within its episode.
    pub transition_seq: i32,
    /// The transition, or the word for a digest.
    pub transition: String,
    /// The recipient, as kind:address.
    pub recipient: String,
    /// The user whose address it is. `None`: an older version wrote the row.
    pub user_id: Option<i64>,
    /// The tenant whose account sends the notification.
    pub customer_id: i64,
    /// The severity, from 1 (info) to 5 (critical), or that of a notification which waits behind
    /// it.
    pub severity: i8,
    /// The request, byte for byte. Empty: the request has to be built.
    pub payload: Vec<u8>,
    /// The notice, as JSON.
    pub notice: String,
    /// The trace context of the parent span.
    pub traceparent: Option<String>,
    /// Attempts before this one.
    pub attempts: i32,
    /// Number of times the request was rebuilt as a repeat.
    pub resends: i32,
    /// The claim under which a sender holds the row.
    pub lease_owner: String,
    /// Time since the event. A device's clock may be ahead.
    pub age_ms: i64,
    /// Time since the notification may have arrived. `None`: it has not arrived.
    pub uncertain_ms: Option<i64>,
    /// Number of other rows that the message reports.
    pub members: i64,
}

impl Notification {
    /// Returns the time since the event.
    pub fn age(&self) -> Duration {
        from_milliseconds(self.age_ms)
    }

    /// Returns the notice, if it can be read.
    pub fn notice(&self) -> Option<Notice> {
        serde_json::from_str(&self.notice).ok()
    }

    /// Whether the message notifies someone. A message on the watch only does if no other channel
    /// of its rule counts.
    pub fn counts(&self) -> bool {
        let address = Address::parse(&self.recipient);
        if address.is_none_or(|address| address.channel != Channel::Message) {
            return true;
        }
        let routing = self.notice().and_then(|notice| notice.routing);
        routing.is_none_or(|routing| routing.watch_counts)
    }

    /// Whether the notification is critical, or a critical one waits behind it.
    pub fn is_critical(&self) -> bool {
        self.severity >= Severity::Critical.number()
    }

    /// Whether the notification is a digest.
    pub fn is_digest(&self) -> bool {
        self.transition == DIGEST
    }

    /// Whether the message reports other rows: those of a digest, or those folded into this row.
    pub fn has_members(&self) -> bool {
        self.members > 0
    }

    /// Whether other rows are folded into this row.
    pub fn leads(&self) -> bool {
        self.has_members() && !self.is_digest()
    }

    /// Whether the notification reports an end.
    pub fn is_end(&self) -> bool {
        is_end(&self.transition)
    }

    /// Returns the name by which the platform delivers the notification only once, after `resends`
    /// resends.
    pub fn client_msg_id(&self, resends: i32) -> String {
        let resends = u32::try_from(resends).unwrap_or_default();
        let seq = i64::from(self.transition_seq);
        episode_key::client_msg_id(&self.episode_key, seq, &self.recipient, resends)
    }
}
