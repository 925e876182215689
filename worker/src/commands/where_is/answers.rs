//! The answers of the parts of the pipeline about one reading. Values only.

use serde::Serialize;

use crate::batch::row::PARTITION_SOURCES;

/// Most matches of a kind that are listed.
const MATCHES_MAX: usize = 100;

/// The identity of the reading to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoughtReading {
    pub device: String,
    /// Event time on the devices' wall clock, as stored.
    pub time: String,
    /// Event time in milliseconds since 1970.
    pub at_ms: i64,
}

/// A position in the readings topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Position {
    pub partition: i32,
    pub offset: i64,
}

impl Position {
    /// Returns the position of a source. `None` if another writer wrote the number.
    pub fn of_source(source: i64) -> Option<Self> {
        let partition = i32::try_from(source.div_euclid(PARTITION_SOURCES)).ok()?;
        let offset = source.rem_euclid(PARTITION_SOURCES);
        (partition >= 0).then_some(Self { partition, offset })
    }
}

/// The trace that a record names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordTraceId {
    pub trace_id: String,
    /// Whether the request was sampled. Otherwise only a few kinds of spans are recorded.
    pub sampled: bool,
}

/// A record of the readings topic with the reading's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundRecord {
    #[serde(flatten)]
    pub position: Position,
    pub received_at: String,
    /// Whether the device's clock was ahead: Redis, documents and alerts ignore such a reading.
    pub ahead_of_clock: bool,
    /// Field and code of each warning.
    pub warnings: Vec<String>,
    pub replay: Option<ReplayHeaders>,
    pub trace: Option<RecordTraceId>,
}

/// The headers of a replayed record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReplayHeaders {
    /// Position of the first record; `None` for a reject.
    pub first: Option<Position>,
    pub count: u32,
}

/// A searched part of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SearchedRange {
    pub partition: i32,
    pub from: i64,
    /// The offset after the last one.
    pub to: i64,
    /// Whether retention or a purge has deleted records just before `from`.
    pub cut: bool,
}

/// What the search of a topic found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicMatches<T> {
    pub searched: Vec<SearchedRange>,
    pub matches: Vec<T>,
    /// Further matches, which are not listed.
    pub omitted: u64,
    /// The reason why the search ended before the end of its ranges.
    pub stopped: Option<String>,
}

impl<T> TopicMatches<T> {
    /// Returns a search of these ranges that has found nothing.
    pub fn new(searched: Vec<SearchedRange>) -> Self {
        Self { searched, matches: Vec::new(), omitted: 0, stopped: None }
    }

    /// Lists a match, unless enough matches like it are listed.
    pub fn add(&mut self, found: T, is_like: impl Fn(&T) -> bool) {
        if self.matches.iter().filter(|other| is_like(other)).count() < MATCHES_MAX {
            self.matches.push(found);
        } else {
            self.omitted += 1;
        }
    }

    /// Whether an older record may have been deleted.
    pub fn is_cut(&self) -> bool {
        self.searched.iter().any(|range| range.cut)
    }
}

/// A reject or a dead letter of the device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptMatch {
    /// Position in the topic of rejects or dead letters.
    #[serde(flatten)]
    pub position: Position,
    /// Whether the record has the reading's identity. Otherwise its time cannot be read.
    pub certain: bool,
    pub kept_at: String,
    /// Class of a dead letter, code of a reject.
    pub class: String,
    /// The number and SQLSTATE of MySQL's error.
    pub code: Option<String>,
    pub message: String,
    /// Position of the dead-lettered delivery.
    pub source: Option<Position>,
    pub trace: Option<RecordTraceId>,
}

/// The row of the main table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredReading {
    pub id: i64,
    pub last_source: i64,
    /// Position of the first delivery; `None`: another program wrote the row.
    pub first: Option<Position>,
    /// Position of the latest delivery; `None` beside `first`: the row has only replayed rejects.
    pub latest: Option<Position>,
    pub deliveries: i64,
    pub user_id: Option<i64>,
    pub org_id: Option<i64>,
    pub customer_id: Option<i64>,
    pub create_time: String,
    pub update_time: String,
    /// Documents in the daily and weekly tables that this reading carried.
    pub documents: Vec<StoredDocument>,
}

/// A document of a day or a week.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredDocument {
    pub table: &'static str,
    pub column: &'static str,
    /// Position of the delivery that carried the document.
    pub source: Option<Position>,
}

/// The position of the group in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupProgress {
    pub partition: i32,
    /// The offset at which the group continues; `None`: no worker has claimed the partition yet.
    pub next_offset: Option<i64>,
    /// Offsets of records of the reading that the group has not processed.
    pub waiting: Vec<i64>,
}

/// What the device's hash in Redis shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "hash", rename_all = "snake_case")]
pub enum HashState {
    /// The hash shows this reading.
    This,
    /// The hash shows a newer reading, as it should.
    Newer { timestamp: String },
    /// The hash shows an older reading.
    Older { timestamp: String },
    /// The device has no hash.
    Missing,
    /// `REDIS_URL` is not set.
    NotAsked,
}

/// The alerts that the reading may have to do with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AlertSearch {
    pub alerts: Vec<FoundAlert>,
    /// Whether there are more alerts or notifications than were read.
    pub cut: bool,
}

/// How an alert and the reading belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertRelation {
    /// The episode opened at the reading's time.
    Opened,
    /// The episode resolved at the reading's time.
    Resolved,
    /// The episode was open at the reading's time.
    Open,
}

/// An episode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundAlert {
    pub id: i64,
    pub rule_id: i64,
    pub alert_type: String,
    pub severity: String,
    pub status: String,
    pub opened_at: String,
    pub recovered_at: Option<String>,
    pub relation: AlertRelation,
    pub notifications: Vec<FoundNotification>,
}

/// A notification of the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundNotification {
    pub id: i64,
    pub transition: String,
    /// Whether the transition happened at the reading's time.
    pub at_reading: bool,
    /// The channel's kind and the address.
    pub recipient: String,
    pub state: String,
    pub attempts: i32,
    /// Time at which the notification was sent, dropped or failed.
    pub finished_at: Option<String>,
    pub last_error: Option<String>,
    pub trace: Option<RecordTraceId>,
}

impl FoundAlert {
    /// Whether the reading opened or changed the episode, as far as the tables know.
    pub fn is_changed_by_reading(&self) -> bool {
        self.relation != AlertRelation::Open
            || self.notifications.iter().any(|notification| notification.at_reading)
    }
}
