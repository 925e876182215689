//! Groups many pending notifications of one recipient into a digest: chooses the rows and writes
//! the notice.
//!
//! Pure. [`super::storm`] detects storms and stores digests.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt::Write;

use ljwx_reading::wall_text;

use crate::engine::Silence;
use crate::engine::episode::TransitionKind;
use crate::notify::notice::Notice;
use crate::notify::outbox::digest_rows::WaitingRow;

/// Alerts that a digest names. Further alerts are only counted.
const LINES_MAX: usize = 20;

/// Characters of a name that stands for several people. An official account's field has 20 in all.
const NAME_CHARS_MAX: usize = 12;

/// A row that goes into a digest.
#[derive(Debug, Clone, PartialEq)]
pub struct DigestMember<'a> {
    /// The row's id.
    pub id: i64,
    /// The row's episode.
    pub episode_key: &'a str,
    /// The row's notice.
    pub notice: Notice,
}

/// Returns the episodes whose end is in `waiting` and whose opening is not, in the order of their
/// rows. The outbox must say whether the recipient received those openings.
pub fn unpaired_ends(waiting: &[WaitingRow]) -> Vec<&str> {
    let mut begun = HashSet::new();
    let mut alone = Vec::new();
    for row in waiting {
        if is_end(row) && !begun.contains(row.episode_key.as_str()) {
            alone.push(row.episode_key.as_str());
        }
        begun.insert(row.episode_key.as_str());
    }
    alone
}

/// Returns the rows that go into the digest, in their order. A row that cannot go in holds back
/// later rows of the same device. So no end is read before its opening. `told` holds the episodes
/// of [`unpaired_ends`] that the recipient was notified of.
pub fn choose<'a>(waiting: &'a [WaitingRow], notified: &HashSet<String>) -> Vec<DigestMember<'a>> {
    let mut members: Vec<DigestMember<'a>> = Vec::new();
    let (mut kept_back, mut chosen) = (HashSet::new(), HashSet::new());
    for row in waiting {
        let key = row.episode_key.as_str();
        let untold = is_end(row) && !chosen.contains(key) && !notified.contains(key);
        let barred = !row.free || untold || kept_back.contains(row.device_sn.as_str());
        let notice = serde_json::from_str(&row.notice).ok();
        let Some(notice) = notice.filter(|_| !barred) else {
            kept_back.insert(row.device_sn.as_str());
            continue;
        };
        chosen.insert(key);
        members.push(DigestMember { id: row.id, episode_key: key, notice });
    }
    // A single row becomes a digest too: otherwise a storm whose alerts come singly would have no
    // digest.
    members
}

fn is_end(row: &WaitingRow) -> bool {
    [TransitionKind::Resolved, TransitionKind::Stale, TransitionKind::Closed]
        .iter()
        .any(|end| row.transition == end.as_str())
}

/// Returns the digest's notice: number of alerts, severity, and the worst alerts by name in their
/// latest state. `None` if `members` is empty.
pub fn notice(members: &[DigestMember<'_>]) -> Option<Notice> {
    // The last notification of an episode holds the episode's present state.
    let mut latest: BTreeMap<&str, &DigestMember<'_>> = BTreeMap::new();
    for member in members {
        latest.insert(member.episode_key, member);
    }
    let mut alerts: Vec<&DigestMember<'_>> = latest.into_values().collect();
    // Open alerts come before ended ones, whatever the severity.
    alerts.sort_by_key(|member| {
        let Notice { severity, wall, .. } = member.notice;
        (member.notice.is_over(), Reverse(severity), wall, member.id)
    });
    let worst = &alerts.first()?.notice;
    let users: HashSet<_> = alerts.iter().map(|member| &member.notice.user).collect();
    let user = match users.len() {
        1 => worst.user.clone(),
        several => format!("{}等{several}人", shortened(&worst.user)),
    };
    Some(Notice {
        transition: if worst.is_over() { worst.transition } else { TransitionKind::Opened },
        severity: worst.severity,
        flapping: false,
        vital: worst.vital,
        value: None,
        bound: None,
        eased: false,
        goes_on: None,
        silence: Silence::default(),
        device_sn: String::new(),
        user,
        ward: None,
        wall: alerts.iter().map(|member| member.notice.wall).max()?,
        text: text(&alerts),
        delayed: false,
        repeat: false,
        test: false,
        since: None,
        plain_fields: BTreeSet::new(),
        digest_of: Some(alerts.len()),
        beside: Vec::new(),
        routing: None,
    })
}

/// Shortens a name to leave room for the number of people that it stands for.
fn shortened(user: &str) -> String {
    match user.char_indices().nth(NAME_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &user[..end]),
        None => user.to_owned(),
    }
}

/// Writes the digest's text. `alerts` is sorted by level.
fn text(alerts: &[&DigestMember<'_>]) -> String {
    let levels: Vec<_> = alerts.iter().map(|alert| alert.notice.level()).collect();
    let counts: Vec<_> = levels
        .chunk_by(|one, next| one == next)
        .map(|same| format!("{} {}", same[0], same.len()))
        .collect();
    let mut text = format!("共 {} 条：{}", alerts.len(), counts.join("、"));
    for alert in alerts.iter().take(LINES_MAX) {
        let Notice { user, wall, .. } = &alert.notice;
        let wall = wall_text(*wall);
        let time = wall.get("yyyy-MM-dd ".len()..).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{} {user} {time}", alert.notice.headline_text());
    }
    if alerts.len() > LINES_MAX {
        let _ = write!(text, "\n…共 {} 条", alerts.len());
    }
    text
}

#[cfg(test)]
#[path = "digest_tests.rs"]
mod tests;
