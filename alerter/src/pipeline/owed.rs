//! Tries to notify what is owed, by the wall clock, and shows what is owed.
//!
//! [`crate::engine`] decides what is tried. No reading is needed, and no partition has to be read to
//! its end: a device that fell silent must not keep what it owes.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;

use jiff::Timestamp;
use metrics::gauge;

use super::Pipeline;
use crate::engine::routing::OwedReason;
use crate::engine::{Engine, OwedEpisode};
use crate::metrics::NOTIFICATIONS_OWED;
use crate::mysql::retry::Stopping;
use crate::notify::recipients::router::PeopleRouter;
use crate::rules::severity::Severity;

/// What the episodes of this replica owe.
#[derive(Debug, Default)]
pub struct OwedMeasurement {
    /// Critical notifications that are owed for another reason than a silence.
    pub critical: u64,
    /// Major and critical alerts without a recipient or an account, by tenant.
    pub unreached: BTreeMap<i64, u64>,
}

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

    /// Exports what is owed.
    pub(super) fn measure_owed(&self) {
        let mut owed: BTreeMap<(OwedReason, Severity), u64> = OwedReason::ALL
            .into_iter()
            .flat_map(|reason| Severity::ALL.map(|severity| ((reason, severity), 0)))
            .collect();
        let mut measurement = OwedMeasurement::default();
        for OwedEpisode { customer_id, severity, reason } in self.engine.owed() {
            *owed.entry((reason, severity)).or_default() += 1;
            if severity == Severity::Critical && reason != OwedReason::Silenced {
                measurement.critical += 1;
            }
            let is_unreached = matches!(reason, OwedReason::NoRecipient | OwedReason::NoAccount);
            if severity >= Severity::Major && is_unreached {
                *measurement.unreached.entry(customer_id.unwrap_or_default()).or_default() += 1;
            }
        }
        self.parts.owed.send_replace(measurement);
        for ((reason, severity), count) in owed {
            let (reason, severity) = (reason.as_str(), severity.as_str());
            gauge!(NOTIFICATIONS_OWED, "reason" => reason, "severity" => severity)
                .set(count as f64);
        }
    }
}
