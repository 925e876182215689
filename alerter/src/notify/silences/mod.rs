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
use ljwx_service::lifecycle::EssentialTasks;
use metrics::gauge;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::SILENCES;
use index::{AlertPlace, SilenceIndex};

/// Interval between two reads of the table, give or take a tenth. With [`READ_TIMEOUT`], a change
/// is in effect on every replica within 10 s.
const READ_INTERVAL: Duration = Duration::from_secs(5);

/// Time limit of one read of the table.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// Fraction by which [`READ_INTERVAL`] varies, so that replicas do not all query at once.
const JITTER: f64 = 0.1;

/// The silences in effect or planned.
#[derive(Debug, Clone)]
pub struct ActiveSilences(watch::Receiver<Option<Arc<SilenceIndex>>>);

impl ActiveSilences {
    /// Starts to follow the table until `stop`. If the table cannot be read, the last known
    /// silences stay until they end.
    pub fn start(pool: MySqlPool, essential: &EssentialTasks, stop: &CancellationToken) -> Self {
        let (sender, receiver) = watch::channel(None);
        essential.spawn("the reader of silences", stop, follow(pool, sender, stop.clone()));
        Self(receiver)
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

    /// Whether a silence covers a notification at `now_ms` of this process's clock.
    pub fn covers(&self, now_ms: i64, alert: AlertPlace<'_>) -> bool {
        self.0.borrow().as_ref().is_some_and(|known| known.covers(now_ms, alert))
    }

    /// Whether a silence covers every notification at `now_ms` of this process's clock.
    pub fn covers_all(&self, now_ms: i64) -> bool {
        self.0.borrow().as_ref().is_some_and(|known| known.covers_all(now_ms))
    }
}

async fn follow(
    pool: MySqlPool,
    sender: watch::Sender<Option<Arc<SilenceIndex>>>,
    stop: CancellationToken,
) {
    loop {
        let reading = tokio::time::timeout(READ_TIMEOUT, read(&pool));
        match reading.await.context("MySQL does not answer").flatten() {
            Ok(known) => {
                let count = known.count;
                gauge!(SILENCES).set(count as f64);
                let before = sender.send_replace(Some(Arc::new(known)));
                if before.map_or(0, |before| before.count) != count {
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

async fn read(pool: &MySqlPool) -> anyhow::Result<SilenceIndex> {
    let mut connection = pool.acquire().await?;
    let asked_at = Timestamp::now().as_millisecond();
    let server_now = table::now_ms(&mut connection).await?;
    let answered_at = Timestamp::now().as_millisecond();
    // Silences end by the server's clock. The server read it between the two: assume the middle.
    let server_ahead_ms = server_now - (asked_at + answered_at) / 2;
    let silences = table::unfinished(&mut connection).await;
    let silences = silences.context("cannot read t_alert_silence")?;
    Ok(SilenceIndex::new(silences, server_ahead_ms))
}

#[cfg(test)]
mod tests {
    use ljwx_reading::{DeviceSn, Ids};
    use serde_json::json;

    use super::index::Silence;
    use super::*;
    use crate::engine::Engine;
    use crate::engine::episode::TransitionKind;
    use crate::engine::routing::{OwedReason, Routed, Router};
    use crate::rules::Rule;
    use crate::rules::index::RuleSet;
    use crate::test_support::{heart_rate, rule};

    impl ActiveSilences {
        /// Silences that stay as they are. `None`: the table was not read.
        pub(crate) fn fixed(known: Option<SilenceIndex>) -> Self {
            Self(watch::channel(known.map(Arc::new)).1)
        }
    }

    fn known(starts_at: i64, ends_at: i64, server_ahead_ms: i64) -> ActiveSilences {
        let silence =
            Silence { customer_id: None, device_sn: None, rule_id: None, starts_at, ends_at };
        ActiveSilences::fixed(Some(SilenceIndex::new(vec![silence], server_ahead_ms)))
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
            let found = silences.covers(now_ms, (7, &device, 3));
            assert_eq!(found, covered, "{server_ahead_ms} {now_ms}");
            assert_eq!(silences.covers_all(now_ms), covered, "{server_ahead_ms} {now_ms}");
        }
    }

    #[test]
    fn a_silenced_episode_is_notified_once_the_silence_ends_and_its_end_always() {
        struct Silenced(ActiveSilences, i64);
        impl Router for Silenced {
            fn route(&self, _: Ids, device_sn: &DeviceSn, rule: &Rule) -> Option<Routed> {
                let is_silenced = self.0.covers(self.1, (7, device_sn, rule.id));
                let silenced = Routed::Nobody(OwedReason::Silenced);
                Some(if is_silenced { silenced } else { Routed::Somebody })
            }
        }
        let mut engine = Engine::default();
        engine.set_rules(Arc::new(RuleSet::new(vec![rule(json!({}))])));
        engine.load(3, crate::engine::StoredPartition::default());
        let mut notified = Vec::new();
        for (now_ms, second, value) in
            [(0, 0, 110), (500, 10, 111), (1_000, 20, 112), (500, 30, 113), (500, 40, 90)]
        {
            let silences = Silenced(known(0, 1_000, 0), now_ms);
            for change in engine.evaluate(3, &heart_rate(second, value), &silences).changes {
                notified.push((second, change.transition.to, change.transition.notify));
            }
        }
        let expected = [
            (0, TransitionKind::Opened, false),
            (20, TransitionKind::Notified, true),
            (40, TransitionKind::Resolved, true),
        ];
        assert_eq!(notified, expected);
    }

    #[test]
    fn nothing_is_silenced_before_the_table_was_read() {
        let silences = ActiveSilences::fixed(None);
        assert!(!silences.are_known());
        assert!(!silences.covers(0, (7, &DeviceSn::new("A1").unwrap(), 3)));
        assert!(!silences.covers_all(0));
    }
}
