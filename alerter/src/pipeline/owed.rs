//! Shows what is owed. [`crate::engine`] decides what is owed.

use std::collections::BTreeMap;

use metrics::gauge;

use crate::engine::OwedEpisode;
use crate::engine::routing::OwedReason;
use crate::metrics::NOTIFICATIONS_OWED;
use crate::rules::Severity;

/// What the episodes of this replica owe.
#[derive(Debug, Default)]
pub struct OwedMeasurement {
    /// Critical notifications that are owed for another reason than a silence.
    pub critical: u64,
    /// Major and critical alerts that reach no recipient, by tenant.
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
        if severity >= Severity::Major && reason.is_unreachable() {
            *measurement.unreached.entry(customer_id.unwrap_or_default()).or_default() += 1;
        }
    }
    for ((reason, severity), count) in owed {
        let (reason, severity) = (reason.as_str(), severity.as_str());
        gauge!(NOTIFICATIONS_OWED, "reason" => reason, "severity" => severity).set(count as f64);
    }
    measurement
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_severe_alert_that_is_neither_silenced_nor_late_reaches_no_recipient() {
        for (reason, unreached) in [
            (OwedReason::NoRecipient, 1),
            (OwedReason::NoAccount, 1),
            (OwedReason::Refused, 1),
            (OwedReason::Silenced, 0),
            (OwedReason::Late, 0),
        ] {
            let owed = |severity| OwedEpisode { customer_id: Some(7), severity, reason };
            let found = measure([owed(Severity::Major), owed(Severity::Minor)].into_iter());
            assert_eq!(found.unreached.values().sum::<u64>(), unreached, "{reason:?}");
        }
    }
}
