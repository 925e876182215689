//! Groups what waits for one person into a digest: chooses the rows and writes the notice.
//!
//! Pure. [`super::backlog`] finds the rows and stores digests.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

use ljwx_reading::wall_text;

use super::decide::AGE_MAX;
use crate::engine::episode::TransitionKind;
use crate::notify::notice::Notice;
use crate::notify::outbox::digest_rows::WaitingRow;
use crate::notify::outbox::{from_milliseconds, is_end};
use crate::notify::wechat::escape::shortened;

/// Fewest alerts that a digest names. A single alert goes by itself.
pub const LINES_MIN: usize = 2;

/// Alerts that a digest names. Further alerts are only counted.
const LINES_MAX: usize = 20;

/// Characters of a name that stands for several people, the mark of a cut included. An official
/// account's field has 20 in all.
const NAME_CHARS_MAX: usize = 13;

/// A row that goes into a digest.
#[derive(Debug, Clone)]
pub struct DigestMember<'a> {
    /// The row.
    pub row: &'a WaitingRow,
    /// The row's notice.
    pub notice: Notice,
}

/// What becomes of the rows that wait for a person. The others go by themselves.
#[derive(Debug, Default)]
pub struct DigestChoice<'a> {
    /// The rows that go into a digest, each episode's in their order. Empty: there is no digest.
    pub members: Vec<DigestMember<'a>>,
    /// The rows of episodes that are over and of which the person has received nothing.
    pub over: Vec<i64>,
}

/// Chooses among rows that hold each episode's in their order. `over` are the episodes that are
/// over, and `notified` those of which the person has received something.
///
/// A row that cannot go in holds back the later rows of its episode. So no end is read before its
/// opening. A message goes in with all rows that it reports, or not at all.
pub fn choose<'a>(
    waiting: &'a [WaitingRow],
    over: &HashSet<String>,
    notified: &HashSet<String>,
) -> DigestChoice<'a> {
    let mut episodes: BTreeMap<&str, Vec<&WaitingRow>> = BTreeMap::new();
    for row in waiting {
        episodes.entry(&row.episode_key).or_default().push(row);
    }
    // The messages that go by themselves.
    let mut barred: HashSet<i64> = HashSet::new();
    loop {
        let mut choice = DigestChoice::default();
        for (key, rows) in &episodes {
            let ends = rows.iter().any(|row| is_end(&row.transition));
            let is_over = ends || over.contains(*key);
            if is_over && !notified.contains(*key) {
                // A row that is being sent may be received. Then the others matter.
                if rows.iter().all(|row| row.free) {
                    choice.over.extend(rows.iter().map(|row| row.id));
                }
                continue;
            }
            // Without an end, an old row of an episode that is over has nothing more to say.
            let may_join = |row: &&WaitingRow| {
                let says_something = !is_over || ends || !is_old(row);
                row.free && says_something && !barred.contains(&row.message)
            };
            let rows = rows.iter().copied();
            choice.members.extend(rows.take_while(may_join).map_while(member));
        }
        let members: HashSet<i64> = choice.members.iter().map(|member| member.row.id).collect();
        let dropped: HashSet<i64> = choice.over.iter().copied().collect();
        let is_left = |row: &&WaitingRow| {
            // A message goes on without a row that is folded into it and dropped.
            let is_dropped = row.message != row.id && dropped.contains(&row.id);
            !members.contains(&row.id) && !is_dropped
        };
        let known = barred.len();
        barred.extend(waiting.iter().filter(is_left).map(|row| row.message));
        if barred.len() > known {
            continue;
        }
        let episodes = choice.members.iter().map(|member| &member.row.episode_key);
        if episodes.collect::<HashSet<_>>().len() < LINES_MIN {
            choice.members.clear();
        }
        return choice;
    }
}

/// Returns the member that a row becomes. `None`: the row's notice cannot be read.
fn member(row: &WaitingRow) -> Option<DigestMember<'_>> {
    Some(DigestMember { row, notice: serde_json::from_str(&row.notice).ok()? })
}

/// Whether a row is as old as a delayed notification.
fn is_old(row: &WaitingRow) -> bool {
    from_milliseconds(row.age_ms) >= AGE_MAX
}

/// Returns the digest's notice: number of alerts, severity, and the worst alerts by name in their
/// latest state. The notice is marked as delayed if all rows are old. `None` if `members` is empty.
pub fn notice(members: &[DigestMember<'_>]) -> Option<Notice> {
    // The last notification of an episode holds the episode's present state.
    let mut latest: BTreeMap<&str, &DigestMember<'_>> = BTreeMap::new();
    for member in members {
        latest.insert(&member.row.episode_key, member);
    }
    let mut alerts: Vec<&DigestMember<'_>> = latest.into_values().collect();
    alerts.sort_by_key(|member| {
        let Notice { transition, wall, .. } = member.notice;
        let (is_over, severity) = member.notice.place();
        // A digest whose worst end says 已恢复 must not hide a device that fell silent.
        let has_resolved = is_over && transition == TransitionKind::Resolved;
        (is_over, has_resolved, severity, wall, member.row.id)
    });
    let worst = &alerts.first()?.notice;
    // A step down goes on, so the digest does not say that all is over.
    let (is_over, Reverse(severity)) = worst.place();
    let patients: HashSet<_> = alerts.iter().map(|member| patient(&member.notice)).collect();
    let user = match patients.len() {
        1 => worst.user.clone(),
        several => format!("{}等{several}人", shortened(&worst.user, NAME_CHARS_MAX)),
    };
    let transition = if is_over { worst.transition } else { TransitionKind::Opened };
    let wall = alerts.iter().map(|member| member.notice.wall).max()?;
    Some(Notice {
        user,
        text: text(&alerts),
        delayed: members.iter().all(|member| is_old(member.row)),
        digest_of: Some(alerts.len()),
        ..Notice::new(transition, severity, worst.vital, wall)
    })
}

/// Returns what tells the patient from others, who may have the same name: the user if it is known,
/// else the device.
fn patient(notice: &Notice) -> (Option<i64>, &str) {
    match notice.routing.and_then(|routing| routing.user_id) {
        Some(user_id) => (Some(user_id), ""),
        None => (None, &notice.device_sn),
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
