//! Counts suppressed notifications by day, rule, tenant and reason.
//!
//! Suppressed notifications leave no row to count later. The counts are written in the transaction
//! of their batch, so a batch that is processed again counts nothing twice.

use std::collections::BTreeMap;

use jiff::civil::Date;
use ljwx_ledger::mysql::removal::{self, ROWS_MAX};
use ljwx_ledger::mysql::{MySqlConnection, MySqlPool};
use tokio_util::sync::CancellationToken;

use crate::engine::episode::{Transition, TransitionKind};
use crate::engine::routing::Routed;

/// The reason if an operator's silence suppresses a notification.
pub const SILENCED: &str = "silenced";

/// The reason if an opening follows too soon after another notification.
pub const COOLDOWN: &str = "cooldown";

/// The reason if an opening is one of too many.
pub const FLAPPING: &str = "flapping";

/// The reason if a more severe alert of the same vital is open.
pub const INHIBITED: &str = "inhibited";

/// Days for which counts are kept.
const KEPT_DAYS: u32 = 400;

/// The reason if the rule names no channel that reaches people.
pub const NO_CHANNEL: &str = "no_channel";

/// Returns why a transition is not notified that would otherwise be notified.
///
/// If the notification is sent later, it counts once, when it was first suppressed. Later tries that
/// find it still suppressed count nothing, and neither do reminders.
pub fn reason(transition: Transition) -> Option<&'static str> {
    if !matches!(transition.to, TransitionKind::Opened | TransitionKind::Escalated) {
        return None;
    }
    match transition.routed {
        Some(Routed::Somebody) => None,
        Some(Routed::Nobody(reason)) => Some(reason.as_str()),
        Some(Routed::NoChannel) => Some(NO_CHANNEL),
        None if transition.inhibited => Some(INHIBITED),
        None => Some(if transition.flapping { FLAPPING } else { COOLDOWN }),
    }
}

/// A suppressed notification: day by the devices' wall clock, rule, tenant, reason.
pub type Suppressed = (Date, i64, i64, &'static str);

/// Counts the notifications, in the order of the table's key.
fn counts(suppressed: impl Iterator<Item = Suppressed>) -> BTreeMap<Suppressed, i64> {
    let mut counts: BTreeMap<Suppressed, i64> = BTreeMap::new();
    suppressed.for_each(|key| *counts.entry(key).or_default() += 1);
    counts
}

/// Adds notifications to the table's counts, inside the caller's transaction.
///
/// One statement per row: there are at most as many rows as transitions in the batch. The order of
/// the rows keeps two replicas from a deadlock.
pub async fn save(
    connection: &mut MySqlConnection,
    suppressed: impl Iterator<Item = Suppressed>,
) -> sqlx::Result<()> {
    for ((day, rule_id, customer_id, reason), count) in counts(suppressed) {
        sqlx::query(
            "INSERT INTO t_alert_suppressed (event_day, rule_id, customer_id, reason, suppressed) \
             VALUES (?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE suppressed = suppressed + ?",
        )
        .bind(day.to_string())
        .bind(rule_id)
        .bind(customer_id)
        .bind(reason)
        .bind(count)
        .bind(count)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Removes old counts at an interval, until `stop`.
pub async fn remove_old(pool: MySqlPool, stop: CancellationToken) {
    // The key begins with the day.
    let delete = format!(
        "DELETE FROM t_alert_suppressed WHERE event_day < CURRENT_DATE - INTERVAL {KEPT_DAYS} DAY \
         LIMIT {ROWS_MAX}"
    );
    removal::repeat("suppressed counts", stop, || removal::remove_all(&pool, &delete)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::routing::OwedReason;
    use crate::test_support::transition;

    #[test]
    fn what_people_would_have_been_notified_of_is_counted_by_why_they_were_not() {
        let silenced = Some(Routed::Nobody(OwedReason::Silenced));
        let nobody = Some(Routed::Nobody(OwedReason::NoRecipient));
        for (to, routed, flapping, expected) in [
            (TransitionKind::Opened, Some(Routed::Somebody), false, None),
            (TransitionKind::Opened, Some(Routed::Somebody), true, None),
            (TransitionKind::Opened, None, false, Some(COOLDOWN)),
            (TransitionKind::Opened, None, true, Some(FLAPPING)),
            (TransitionKind::Opened, silenced, false, Some(SILENCED)),
            (TransitionKind::Opened, nobody, false, Some("no_recipient")),
            (TransitionKind::Opened, Some(Routed::NoChannel), false, Some("no_channel")),
            (TransitionKind::Escalated, silenced, false, Some(SILENCED)),
            (TransitionKind::Escalated, Some(Routed::Somebody), false, None),
            (TransitionKind::Notified, Some(Routed::Somebody), false, None),
            (TransitionKind::Resolved, None, true, None),
            (TransitionKind::Superseded, None, false, None),
            (TransitionKind::Closed, None, false, None),
        ] {
            let transition = Transition { to, routed, flapping, ..transition() };
            assert_eq!(reason(transition), expected, "{transition:?}");
        }
        let inhibited = Transition { inhibited: true, flapping: true, ..transition() };
        assert_eq!(reason(inhibited), Some(INHIBITED));
    }

    #[test]
    fn counts_of_several_stretches_add_up_in_the_order_of_the_key() {
        let day = |day: &str| day.parse().unwrap();
        let one = [(day("2025-09-03"), 1, 7, COOLDOWN); 2];
        let other = [(day("2025-09-03"), 1, 7, COOLDOWN), (day("2025-09-02"), 9, 7, SILENCED)];
        let counts: Vec<_> = counts(one.into_iter().chain(other)).into_iter().collect();
        let expected =
            [((day("2025-09-02"), 9, 7, SILENCED), 1), ((day("2025-09-03"), 1, 7, COOLDOWN), 3)];
        assert_eq!(counts, expected);
    }
}
