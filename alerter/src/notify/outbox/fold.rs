//! Folds the notifications of one moment into one message for each recipient.
//!
//! Each stays a row. One row leads: its message reports the others, and they are sent with it. If it
//! is not sent, they go by themselves. A row that leads has no bytes at first, because its request
//! depends on the others.

use std::collections::{BTreeMap, BTreeSet};

use ljwx_ledger::mysql::MySqlConnection;
use sqlx::{FromRow, MySql, QueryBuilder};

use super::settle::dissolve;
use crate::engine::episode::EpisodeKey;
use crate::notify::outbox::notification::NewNotification;
use crate::notify::outbox::table::{NOW_MS, Outbox, addresses, push_in, with_ids};
use crate::rules::Channel;

/// Leading rows whose others are freed at a time.
const LEADERS_MAX: usize = 100;

/// The transitions of a device that are notified together, because they arise from one reading or
/// one look: their episodes and numbers, in the order of their notices' places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment(Vec<(EpisodeKey, u32)>);

impl Moment {
    /// Returns the moments of notifications that were added together. A single transition of a
    /// device is no moment.
    pub fn of(notifications: &[NewNotification]) -> Vec<Self> {
        // By wearer too: a message about one patient must not name what concerns another.
        let mut devices: BTreeMap<(&str, Option<i64>), Vec<&NewNotification>> = BTreeMap::new();
        for one in notifications {
            let wearer = one.notice.routing.and_then(|routing| routing.user_id);
            let device = (one.notice.device_sn.as_str(), wearer);
            let transitions = devices.entry(device).or_default();
            // Only the first of an episode. If the second led, each would wait for the other.
            if !transitions.iter().any(|other| other.key == one.key) {
                transitions.push(one);
            }
        }
        let several = devices.into_values().filter(|transitions| transitions.len() > 1);
        let moment = |mut transitions: Vec<&NewNotification>| {
            transitions.sort_by_key(|one| one.notice.place());
            Self(transitions.iter().map(|one| (one.key.clone(), one.transition_seq)).collect())
        };
        several.map(moment).collect()
    }
}

/// A new row of a moment, and an unsent message that must go out before it. A row that waits for
/// several messages comes several times.
#[derive(Debug, Clone, FromRow)]
struct NewRow {
    id: i64,
    episode_key: String,
    customer_id: i64,
    recipient: String,
    /// An earlier unsent row of the episode and recipient, or the row that leads that row.
    earlier: Option<i64>,
}

/// Folds the rows of a moment. Messages on the watch stay single, because the watch lists them.
pub async fn fold(connection: &mut MySqlConnection, moment: &Moment) -> sqlx::Result<()> {
    // The rows that no sender has had.
    let mut query: QueryBuilder<MySql> = QueryBuilder::new(format!(
        "SELECT part.id, part.episode_key, part.customer_id, part.recipient, \
         CAST(COALESCE(earlier.digest_id, earlier.id) AS SIGNED) AS earlier \
         FROM t_alert_outbox AS part LEFT JOIN t_alert_outbox AS earlier \
         ON earlier.episode_key = part.episode_key AND earlier.recipient = part.recipient \
         AND earlier.transition_seq < part.transition_seq \
         AND earlier.state IN ('pending', 'in_digest') \
         WHERE part.state = 'pending' AND part.uncertain_since IS NULL \
         AND part.lease_until <= {NOW_MS} AND part.recipient NOT LIKE '{}' \
         AND (part.episode_key, part.transition_seq) IN ",
        addresses(Channel::Message)
    ));
    query.push_tuples(&moment.0, |mut row, (key, seq)| {
        row.push_bind(key.as_str()).push_bind(*seq);
    });
    let rows: Vec<NewRow> = query.build_query_as().fetch_all(&mut *connection).await?;
    let chosen = choose(moment, &rows);
    if chosen.is_empty() {
        return Ok(());
    }
    for (leader, others) in &chosen {
        put_in(connection, *leader, "state = 'pending' AND id", others).await?;
    }
    // Leading rows become as severe as the rows that are folded into them: the order of the messages,
    // and what may wait, follow from the severity.
    let mut query = with_ids(
        "UPDATE t_alert_outbox AS leader JOIN ( \
             SELECT digest_id, MAX(severity) AS severity FROM t_alert_outbox WHERE digest_id",
        chosen.iter().map(|(leader, _)| leader),
    );
    query.push(
        " GROUP BY digest_id) AS folded ON folded.digest_id = leader.id \
         SET leader.severity = GREATEST(leader.severity, folded.severity)",
    );
    query.build().execute(connection).await.map(drop)
}

/// Makes the message of `leader` report rows: `rows` ends before the `IN (…)` of their ids. Returns
/// the number of rows.
pub(super) async fn put_in(
    connection: &mut MySqlConnection,
    leader: i64,
    rows: &'static str,
    ids: &[i64],
) -> sqlx::Result<u64> {
    let mut query =
        QueryBuilder::<MySql>::new("UPDATE t_alert_outbox SET state = 'in_digest', digest_id = ");
    query.push_bind(leader).push(" WHERE ").push(rows);
    push_in(&mut query, ids);
    Ok(query.build().execute(connection).await?.rows_affected())
}

/// Chooses the rows that lead, each with the others that are folded into it. All of them wait for
/// the same messages. Otherwise one would overtake a message, or wait for one of other episodes.
fn choose(moment: &Moment, rows: &[NewRow]) -> Vec<(i64, Vec<i64>)> {
    let mut awaited: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
    for row in rows {
        awaited.entry(row.id).or_default().extend(row.earlier);
    }
    // The rows of each message are in the order of the moment.
    let mut messages: BTreeMap<_, Vec<i64>> = BTreeMap::new();
    for (key, _) in &moment.0 {
        for row in rows.iter().filter(|row| row.episode_key == key.as_str()) {
            let together = (row.customer_id, row.recipient.as_str(), awaited.get(&row.id));
            let message = messages.entry(together).or_default();
            if !message.contains(&row.id) {
                message.push(row.id);
            }
        }
    }
    let several = messages.into_values().filter(|message| message.len() > 1);
    several.map(|mut message| (message.remove(0), message)).collect()
}

impl Outbox {
    /// Makes folded rows due by themselves whose leading row ended without them. A sender of an
    /// older version, which may run beside this one, ends it alone.
    pub async fn free_others(&self) -> sqlx::Result<()> {
        let query = format!(
            "SELECT DISTINCT leader.id FROM t_alert_outbox AS part \
             JOIN t_alert_outbox AS leader ON leader.id = part.digest_id \
             WHERE part.state = 'in_digest' AND leader.state NOT IN ('pending', 'in_digest') \
             LIMIT {LEADERS_MAX}"
        );
        let leaders: Vec<i64> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_all(&self.pool).await?;
        if leaders.is_empty() {
            return Ok(());
        }
        let mut transaction = self.pool.begin().await?;
        dissolve(&mut transaction, &leaders, "pending").await?;
        transaction.commit().await
    }
}

#[cfg(test)]
mod tests {
    use ljwx_reading::DeviceSn;

    use super::*;
    use crate::engine::episode::TransitionKind;
    use crate::notify::notice::Notice;
    use crate::notify::outbox::notification::Whom;
    use crate::rules::severity::Severity::{self, Critical, Major, Minor};
    use crate::test_support;

    fn key(rule_id: i64) -> EpisodeKey {
        EpisodeKey::new(rule_id, 1, &DeviceSn::new("A1").unwrap(), 0)
    }

    /// A notification of a rule's episode on a device.
    fn notified(device_sn: &str, rule_id: i64, seq: u32, severity: Severity) -> NewNotification {
        NewNotification {
            key: key(rule_id),
            transition_seq: seq,
            whom: Whom::Notified { on_watch: true },
            follow_up: false,
            event_ms: 0,
            customer_id: 7,
            notice: Notice { device_sn: device_sn.into(), severity, ..test_support::notice() },
            traceparent: None,
        }
    }

    #[test]
    fn a_moment_has_the_transitions_of_one_device_ends_last_and_the_most_severe_first() {
        let ended = |mut one: NewNotification, goes_on| {
            one.notice.transition = TransitionKind::Resolved;
            one.notice.goes_on = goes_on;
            one
        };
        let added = [
            notified("A1", 1, 0, Minor),
            ended(notified("A1", 2, 1, Major), None),
            notified("B2", 3, 0, Major),
            notified("A1", 4, 0, Major),
            notified("A1", 4, 0, Major),
            notified("A1", 4, 1, Critical),
            notified("C3", 5, 0, Major),
            ended(notified("C3", 6, 2, Critical), Some(Minor)),
            notified("C3", 7, 0, Minor),
        ];
        let moment = |transitions: &[(i64, u32)]| {
            Moment(transitions.iter().map(|(rule_id, seq)| (key(*rule_id), *seq)).collect())
        };
        let expected = [moment(&[(4, 0), (1, 0), (2, 1)]), moment(&[(5, 0), (6, 2), (7, 0)])];
        assert_eq!(Moment::of(&added), expected);
        assert!(Moment::of(&added[2..5]).is_empty(), "two recipients of one transition");
    }

    /// What is folded of a moment of three episodes. A row has the number of its episode, a
    /// recipient, and what it waits for.
    fn folded(rows: &[(i64, i64, &str, &[i64])]) -> Vec<(i64, Vec<i64>)> {
        let moment = Moment([1, 2, 3].map(|rule_id| (key(rule_id), 4)).into());
        let mut found = Vec::new();
        for (id, rule_id, recipient, awaited) in rows {
            let row = |earlier| NewRow {
                id: *id,
                episode_key: key(*rule_id).as_str().to_owned(),
                customer_id: 7,
                recipient: (*recipient).to_owned(),
                earlier,
            };
            match awaited {
                [] => found.push(row(None)),
                several => found.extend(several.iter().map(|one| row(Some(*one)))),
            }
        }
        choose(&moment, &found)
    }

    #[test]
    fn each_recipient_gets_one_message_that_the_most_severe_row_leads() {
        let rows: [(i64, i64, &str, &[i64]); 6] = [
            (10, 3, "openid:o1", &[]),
            (11, 1, "openid:o1", &[]),
            (12, 2, "openid:o1", &[]),
            (13, 3, "openid:o2", &[]),
            (14, 2, "openid:o2", &[]),
            (15, 1, "openid:o3", &[]),
        ];
        assert_eq!(folded(&rows), [(11, vec![12, 10]), (14, vec![13])]);
        assert!(folded(&rows[5..]).is_empty());
    }

    #[test]
    fn a_row_overtakes_no_earlier_message_of_its_episode_and_waits_for_no_other() {
        assert!(folded(&[(10, 1, "o", &[5]), (11, 2, "o", &[])]).is_empty());
        assert!(folded(&[(10, 1, "o", &[]), (11, 2, "o", &[5])]).is_empty());
        assert!(folded(&[(10, 1, "o", &[5]), (11, 2, "o", &[6])]).is_empty());
        assert_eq!(folded(&[(10, 1, "o", &[5, 6]), (11, 2, "o", &[6, 5])]), [(10, vec![11])]);
        // What cannot follow the first may follow the second.
        let rows: [(i64, i64, &str, &[i64]); 3] =
            [(10, 1, "o", &[]), (11, 2, "o", &[5]), (12, 3, "o", &[5])];
        assert_eq!(folded(&rows), [(11, vec![12])]);
    }
}
