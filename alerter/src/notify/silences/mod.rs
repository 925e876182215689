//! The silences in effect, known to every replica within seconds.
//!
//! [`table`] reads and writes them, and [`index`] finds the silence that covers a notification.
//! [`crate::pipeline`] decides what follows.

pub mod index;
pub mod table;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use ljwx_ledger::mysql::MySqlPool;
use ljwx_reading::DeviceSn;
use ljwx_service::lifecycle::EssentialTasks;
use metrics::gauge;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::SILENCES;
use crate::notify::row_bound::RowBound;
use index::{Silence, SilenceIndex};

/// Interval between two reads of the table, give or take a tenth. With [`READ_TIMEOUT`], a change
/// is in effect on every replica within 10 s.
const READ_INTERVAL: Duration = Duration::from_secs(5);

/// Time limit of one read of the table.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// Fraction by which [`READ_INTERVAL`] varies, so that replicas do not all query at once.
const JITTER: f64 = 0.1;

/// The silences as last read from the table.
#[derive(Debug)]
struct SilenceSnapshot {
    index: SilenceIndex,
    /// The server's clock minus this process's clock: silences end by the server's clock.
    server_ahead_ms: i64,
}

impl SilenceSnapshot {
    fn new(silences: Vec<Silence>, server_ahead_ms: i64) -> Self {
        Self { index: SilenceIndex::new(silences), server_ahead_ms }
    }

    fn matching(
        &self,
        now_ms: i64,
        customer_id: i64,
        device_sn: &DeviceSn,
        rule_id: i64,
    ) -> Option<i64> {
        self.index.matching(now_ms + self.server_ahead_ms, customer_id, device_sn, rule_id)
    }
}

/// The silences in effect or planned.
#[derive(Debug, Clone)]
pub struct ActiveSilences(watch::Receiver<Option<Arc<SilenceSnapshot>>>);

impl ActiveSilences {
    /// Starts to follow the table until `stop`. If the table cannot be read, the last known
    /// silences stay until they end.
    pub fn start(pool: MySqlPool, essential: &EssentialTasks, stop: &CancellationToken) -> Self {
        let (sender, receiver) = watch::channel(None);
        essential.spawn("the reader of silences", stop, follow(pool, sender, stop.clone()));
        Self(receiver)
    }

    /// No silences, of a table that was not read.
    #[cfg(test)]
    pub fn unread() -> Self {
        Self(watch::channel(None).1)
    }

    /// These silences, by a server whose clock is this process's.
    #[cfg(test)]
    pub fn known_as(silences: Vec<Silence>) -> Self {
        Self(watch::channel(Some(Arc::new(SilenceSnapshot::new(silences, 0)))).1)
    }

    /// Waits until the table was read once. Before the first read, silenced alerts would be
    /// notified.
    pub async fn known(&mut self) {
        // An error means that the process is stopping.
        drop(self.0.wait_for(Option::is_some).await);
    }

    /// Whether the table was read once.
    pub fn are_known(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// Returns the id of a silence that covers a notification now. `now_ms` is this process's
    /// clock.
    pub fn matching(
        &self,
        now_ms: i64,
        customer_id: i64,
        device_sn: &DeviceSn,
        rule_id: i64,
    ) -> Option<i64> {
        self.0.borrow().as_ref()?.matching(now_ms, customer_id, device_sn, rule_id)
    }

    /// Whether a silence covers every notification now. `now_ms` is this process's clock.
    pub fn cover_all(&self, now_ms: i64) -> bool {
        let covers =
            |known: &Arc<SilenceSnapshot>| known.index.covers_all(now_ms + known.server_ahead_ms);
        self.0.borrow().as_ref().is_some_and(covers)
    }
}

async fn follow(
    pool: MySqlPool,
    sender: watch::Sender<Option<Arc<SilenceSnapshot>>>,
    stop: CancellationToken,
) {
    let bound = RowBound::default();
    loop {
        let reading = tokio::time::timeout(READ_TIMEOUT, read(&pool, &bound));
        match reading.await.context("MySQL does not answer").flatten() {
            Ok(known) => {
                let count = known.index.len();
                gauge!(SILENCES).set(count as f64);
                let before = sender.send_replace(Some(Arc::new(known)));
                if before.map_or(0, |before| before.index.len()) != count {
                    info!(silences = count, "silences changed");
                }
            }
            Err(error) => {
                warn!(
                    error = format!("{error:#}"),
                    "cannot read silences, keeping the known ones until they end"
                );
            }
        }
        let factor = 1.0 - JITTER + 2.0 * JITTER * rand::random::<f64>();
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(READ_INTERVAL.mul_f64(factor)) => {}
        }
    }
}

async fn read(pool: &MySqlPool, bound: &RowBound) -> anyhow::Result<SilenceSnapshot> {
    let mut connection = pool.acquire().await?;
    let asked_at = Timestamp::now().as_millisecond();
    let server_now = table::now_ms(&mut connection).await?;
    let answered_at = Timestamp::now().as_millisecond();
    // The server read its clock between the two: assume the middle.
    let server_ahead_ms = server_now - (asked_at + answered_at) / 2;
    let silences = table::unfinished(&mut connection, bound);
    let silences = silences.await.context("cannot read t_alert_silence")?;
    Ok(SilenceSnapshot::new(silences, server_ahead_ms))
}

#[cfg(test)]
mod tests {
    use ljwx_reading::Ids;
    use serde_json::json;

    use super::*;
    use crate::engine::Engine;
    use crate::engine::episode::TransitionKind;
    use crate::engine::routing::{OwedReason, Routed, Router};
    use crate::rules::index::RuleSet;
    use crate::rules::rule::Rule;
    use crate::test_support::{heart_rate, rule};

    fn known(starts_at: i64, ends_at: i64, server_ahead_ms: i64) -> ActiveSilences {
        let silence = Silence {
            id: 1,
            customer_id: None,
            device_sn: None,
            rule_id: None,
            starts_at,
            ends_at,
        };
        let known = Arc::new(SilenceSnapshot::new(vec![silence], server_ahead_ms));
        ActiveSilences(watch::channel(Some(known)).1)
    }

    #[test]
    fn a_silence_ends_by_the_server_s_clock_and_without_being_read_again() {
        let device = DeviceSn::new("A1").unwrap();
        for (server_ahead_ms, now_ms, covered) in [
            (0, 1_999, true),
            (0, 2_000, false),
            (500, 1_499, true),
            (500, 1_500, false),
            (500, 499, false),
            (500, 500, true),
            (-500, 2_499, true),
            (-500, 2_500, false),
        ] {
            let silences = known(1_000, 2_000, server_ahead_ms);
            let found = silences.matching(now_ms, 7, &device, 3);
            assert_eq!(found.is_some(), covered, "{server_ahead_ms} {now_ms}");
            assert_eq!(silences.cover_all(now_ms), covered, "{server_ahead_ms} {now_ms}");
        }
    }

    #[test]
    fn a_silenced_episode_is_told_once_the_silence_ends_and_its_end_always() {
        struct Silenced(ActiveSilences, i64);
        impl Router for Silenced {
            fn route(&self, _: Ids, device_sn: &DeviceSn, rule: &Rule) -> Option<Routed> {
                let silence = self.0.matching(self.1, 7, device_sn, rule.id);
                let silenced = Routed::Nobody(OwedReason::Silenced);
                Some(if silence.is_some() { silenced } else { Routed::Somebody })
            }
        }
        let mut engine = Engine::default();
        engine.set_rules(Arc::new(RuleSet::new(vec![rule(json!({}))])));
        engine.load(3, crate::engine::StoredPartition::default());
        let mut told = Vec::new();
        for (now_ms, second, value) in
            [(0, 0, 110), (500, 10, 111), (1_000, 20, 112), (500, 30, 113), (500, 40, 90)]
        {
            let silences = Silenced(known(0, 1_000, 0), now_ms);
            for change in engine.evaluate(3, &heart_rate(second, value), &silences).changes {
                told.push((second, change.transition.to, change.transition.notify));
            }
        }
        let expected = [
            (0, TransitionKind::Opened, false),
            (20, TransitionKind::Notified, true),
            (40, TransitionKind::Resolved, true),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn nothing_is_silenced_before_the_table_was_read() {
        let silences = ActiveSilences::unread();
        assert!(!silences.are_known());
        assert_eq!(silences.matching(0, 7, &DeviceSn::new("A1").unwrap(), 3), None);
        assert!(!silences.cover_all(0));
    }
}
