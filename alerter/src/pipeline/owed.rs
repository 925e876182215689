//! Shows what is owed. [`crate::engine`] decides what is owed.

use std::collections::BTreeMap;

use metrics::gauge;

use crate::engine::OwedEpisode;
use crate::engine::routing::OwedReason;
use crate::metrics::NOTIFICATIONS_OWED;
use crate::rules::severity::Severity;

/// What the episodes of this replica owe.
#[derive(Debug, Default)]
pub struct OwedMeasurement {
    /// Critical notifications that are owed for another reason than a silence.
    pub critical: u64,
    /// Major and critical alerts without a recipient or an account, by tenant.
    pub unreached: BTreeMap<i64, u64>,
}

/// Measures and exports what these episodes owe.
pub(super) fn measure(episodes: impl Iterator<Item = OwedEpisode>) -> OwedMeasurement {
    let mut owed: BTreeMap<(OwedReason, Severity), u64> = OwedReason::ALL
        .into_iter()
        .flat_map(|reason| Severity::ALL.map(|severity| ((reason, severity), 0)))
        .collect();
    let mut measurement = OwedMeasurement::default();
    for OwedEpisode { customer_id, severity, reason } in episodes {
        *owed.entry((reason, severity)).or_default() += 1;
        let is_critical = severity == Severity::Critical && reason != OwedReason::Silenced;
        measurement.critical += u64::from(is_critical);
        let is_unreached = matches!(reason, OwedReason::NoRecipient | OwedReason::NoAccount);
        if severity >= Severity::Major && is_unreached {
            *measurement.unreached.entry(customer_id.unwrap_or_default()).or_default() += 1;
        }
    }
    for ((reason, severity), count) in owed {
        let (reason, severity) = (reason.as_str(), severity.as_str());
        gauge!(NOTIFICATIONS_OWED, "reason" => reason, "severity" => severity).set(count as f64);
    }
    measurement
}
