//! Tries to notify what is owed, by the wall clock, and shows what is owed.
//!
//! [`crate::engine`] decides what is tried. No reading is needed, and no partition has to be read to
//! its end: a device that fell silent must not keep what it owes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Instant;

use jiff::Timestamp;
use metrics::gauge;

use super::Pipeline;
use crate::engine::Engine;
use crate::engine::routing::OwedReason;
use crate::metrics::NOTIFICATIONS_OWED;
use crate::mysql::retry::Stopping;
use crate::notify::operator_events::LastingEvent;
use crate::notify::recipients::router::PeopleRouter;
use crate::pipeline::route_transition::is_unreached;
use crate::rules::severity::Severity;

impl Pipeline {
    /// Tries what is owed and was not tried for a while.
    pub(super) async fn on_owed_look(&mut self) -> anyhow::Result<ControlFlow<()>> {
        let begun = Instant::now();
        let now_ms = Timestamp::now().as_millisecond();
        let mut batch = Vec::new();
        for partition in self.engine.owing() {
            let Some(mut partition_batch) = self.partition_batch(partition) else { continue };
            let step =
                |engine: &mut Engine, router: &PeopleRouter| engine.look(partition, now_ms, router);
            let next = partition_batch.advance.to;
            if self.step_without_reading(next, step, &mut partition_batch).await == Err(Stopping) {
                return Ok(ControlFlow::Break(()));
            }
            batch.push(partition_batch);
        }
        self.commit(batch, begun).await
    }

    /// Exports what is owed. Notifies operators of tenants whose severe alerts can notify no one.
    pub(super) fn measure_owed(&mut self) {
        let mut owed: BTreeMap<(OwedReason, Severity), u64> = OwedReason::ALL
            .into_iter()
            .flat_map(|reason| Severity::ALL.map(|severity| ((reason, severity), 0)))
            .collect();
        // A tenant without any more is reported once more, as over.
        let mut tenants: BTreeMap<Option<i64>, u64> =
            self.unreached.iter().map(|customer_id| (*customer_id, 0)).collect();
        let mut critical = 0;
        for episode in self.engine.owed() {
            *owed.entry((episode.reason, episode.severity)).or_default() += 1;
            let is_urgent = episode.severity == Severity::Critical;
            critical += u64::from(is_urgent && episode.reason != OwedReason::Silenced);
            if is_unreached(episode.reason, episode.severity) {
                *tenants.entry(episode.customer_id).or_default() += 1;
            }
        }
        self.parts.owed_critical.store(critical, Ordering::Relaxed);
        for ((reason, severity), count) in owed {
            let (reason, severity) = (reason.as_str(), severity.as_str());
            gauge!(NOTIFICATIONS_OWED, "reason" => reason, "severity" => severity)
                .set(count as f64);
        }
        for (customer_id, count) in &tenants {
            let event = LastingEvent::NoRecipientReached;
            self.parts.operators.lasting(event, *customer_id, *count);
        }
        tenants.retain(|_, count| *count > 0);
        self.unreached = tenants.into_keys().collect();
    }
}
