//! Plays worked examples of one person's queue for [`crate::worked_cases`]: what goes in which minute,
//! and what becomes a digest. The minutes are a model. `alerter::waiting` of the end-to-end tests plays
//! the same examples against the table.

use std::cmp::Reverse;
use std::collections::HashSet;

use serde_json::{Value, json};

use super::digest::{choose, notice};
use crate::engine::episode::TransitionKind;
use crate::notify::limits::rate_limit::RecentSends;
use crate::notify::notice::Notice;
use crate::notify::outbox::digest_rows::WaitingRow;
use crate::rules::Severity;
use crate::test_support;

/// Minutes after which nothing waits.
const MINUTES: u64 = 5;

/// What one person waits for.
#[derive(Debug)]
struct Queue {
    limit: u32,
    rows: Vec<WaitingRow>,
    digests: Vec<Message>,
    /// Episodes of which the person has received something.
    notified: HashSet<String>,
    /// Whether something found no room in the last minute.
    was_full: bool,
}

/// A message that is due.
#[derive(Debug)]
struct Message {
    severity: i8,
    rows: Vec<i64>,
    is_digest: bool,
}

impl Queue {
    fn of(case: &Value) -> Option<Self> {
        let limit = u32::try_from(case["limit"].as_u64()?).ok()?;
        let rows = case["waiting"].as_array()?.iter().map(row).collect::<Option<Vec<_>>>()?;
        // The opening of an episode that only ends here was sent before.
        let begins = |key: &str| {
            let first = rows.iter().find(|row| row.episode_key == key);
            first.is_some_and(|row| row.transition == TransitionKind::Opened.as_str())
        };
        let keys = rows.iter().map(|row| row.episode_key.clone());
        let notified = keys.filter(|key| !begins(key)).collect();
        Some(Self { limit, rows: raised(rows), digests: Vec::new(), notified, was_full: false })
    }

    /// Gathers the backlog.
    fn gather(&mut self) {
        let choice = choose(&self.rows, &HashSet::new(), &self.notified);
        let lines = notice(&choice.members).map(|notice| lines(&notice.text)).unwrap_or_default();
        let severity = choice.members.iter().map(|member| member.row.severity).max();
        let left: HashSet<i64> =
            choice.members.iter().map(|member| member.row.id).chain(choice.over).collect();
        self.rows.retain(|row| !left.contains(&row.id));
        let digest = severity.map(|severity| Message { severity, rows: lines, is_digest: true });
        self.digests.extend(digest);
    }

    /// Returns the messages of one minute, in their order.
    fn minute(&mut self) -> Vec<Message> {
        if self.was_full {
            self.gather();
        }
        let single = |row: &WaitingRow| Message {
            severity: row.severity,
            rows: vec![row.id],
            is_digest: false,
        };
        let mut due: Vec<Message> = self.rows.iter().map(single).collect();
        due.append(&mut self.digests);
        due.sort_by_key(|message| Reverse(message.severity));
        let mut recent = RecentSends::default();
        let is_sent = |message: &Message| {
            let is_critical = message.severity >= Severity::Critical.number();
            let is_sent = recent.wait(self.limit, is_critical).is_none();
            recent.sent += i64::from(is_sent);
            is_sent
        };
        let (sent, waiting): (Vec<_>, Vec<_>) = due.into_iter().partition(is_sent);
        let is_gone = |row: &WaitingRow| sent.iter().any(|message| message.rows == [row.id]);
        let gone = self.rows.iter().filter(|row| is_gone(row));
        self.notified.extend(gone.map(|row| row.episode_key.clone()));
        self.rows.retain(|row| !is_gone(row));
        self.was_full = !waiting.is_empty();
        self.digests = waiting.into_iter().filter(|message| message.is_digest).collect();
        sent
    }
}

/// Returns a row whose notice shows its number as the patient.
fn row(row: &Value) -> Option<WaitingRow> {
    let id = row["id"].as_i64()?;
    let severity = Severity::from_word(row["severity"].as_str()?)?;
    let transition: TransitionKind = serde_json::from_value(row["what"].clone()).ok()?;
    let notice = Notice { transition, severity, user: id.to_string(), ..test_support::notice() };
    Some(WaitingRow {
        id,
        message: id,
        episode_key: row["episode"].as_str()?.to_owned(),
        transition_seq: i32::try_from(id).ok()?,
        transition: transition.as_str().to_owned(),
        severity: severity.number(),
        notice: serde_json::to_string(&notice).ok()?,
        age_ms: 0,
        free: true,
    })
}

/// Gives rows the severity of the rise behind them, as the outbox does.
fn raised(mut rows: Vec<WaitingRow>) -> Vec<WaitingRow> {
    for behind in 0..rows.len() {
        let (earlier, later) = rows.split_at_mut(behind);
        let rise = &later[0];
        if rise.transition == TransitionKind::Escalated.as_str() {
            let of_episode = earlier.iter_mut().filter(|row| row.episode_key == rise.episode_key);
            of_episode.for_each(|row| row.severity = row.severity.max(rise.severity));
        }
    }
    for row in &mut rows {
        row.free = row.severity < Severity::Critical.number();
    }
    rows
}

/// Returns the patients of a digest's lines, which begin with a line of counts.
fn lines(text: &str) -> Vec<i64> {
    let patients = text.lines().skip(1).filter_map(|line| line.rsplit(' ').nth(1));
    patients.filter_map(|patient| patient.parse().ok()).collect()
}

/// Plays an example, and compares what goes in which minute.
pub(crate) fn play(case: &Value) -> Result<(), String> {
    let mut queue = Queue::of(case).ok_or("the example cannot be read")?;
    let mut goes = Vec::new();
    for minute in 0..MINUTES {
        goes.extend(queue.minute().into_iter().map(|Message { rows, is_digest, .. }| {
            if is_digest {
                json!({"minute": minute, "rows": rows, "as": "digest"})
            } else {
                json!({"minute": minute, "rows": rows})
            }
        }));
    }
    let goes = Value::Array(goes);
    if goes == case["goes"] { Ok(()) } else { Err(format!("goes {goes}")) }
}
