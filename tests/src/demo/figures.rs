//! The figures on the screen, read anew each time from their sources.

use std::time::Duration;

use crate::clients::kafka;
use crate::clients::mysql;

use super::probe::Marker;
use super::stage::Stage;

/// The present figures. A figure that could not be read is missing.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) accepted: Option<i64>,
    pub(super) rejected: Option<i64>,
    pub(super) stored: Option<i64>,
    pub(super) merged: Option<i64>,
    pub(super) dead_lettered: Option<i64>,
    pub(super) lag: Option<i64>,
    pub(super) p50: Option<Duration>,
    pub(super) p95: Option<Duration>,
    pub(super) alerts_lag: Option<i64>,
    pub(super) alerts_open: Option<i64>,
    pub(super) sent: u64,
}

impl Figures {
    /// Reads the figures from the gateway, the ledger, Kafka, the alerts and the fake WeChat.
    pub(super) async fn gather(stage: &Stage, marker: &Marker) -> Self {
        let (accepted, rejected, ledger, ends, evaluated, alerts_open) = tokio::join!(
            readings(stage, "accepted"),
            readings(stage, "rejected"),
            stage.world.database.ledger(&stage.world.worker_group),
            kafka::watermarks(&stage.world.stack.kafka_brokers, &stage.world.readings_topic),
            stage.world.database.ledger(&stage.world.alerter_group),
            stage
                .world
                .database
                .number("SELECT COUNT(*) FROM t_alert_info WHERE recover_at IS NULL"),
        );
        let (ledger, ends) = (ledger.ok(), ends.ok());
        let sum = |count: fn(&mysql::LedgerRow) -> i64| {
            ledger.as_ref().map(|rows| rows.iter().map(count).sum::<i64>())
        };
        Self {
            accepted,
            rejected,
            stored: sum(|row| row.stored),
            merged: sum(|row| row.merged),
            dead_lettered: sum(|row| row.dead_lettered),
            lag: ledger.as_ref().zip(ends.as_ref()).map(|(ledger, ends)| mysql::lag(ledger, ends)),
            alerts_lag: evaluated
                .ok()
                .zip(ends)
                .map(|(evaluated, ends)| mysql::lag(&evaluated, &ends)),
            p50: marker.at(50),
            p95: marker.at(95),
            alerts_open: alerts_open.ok(),
            sent: stage.wechat.delivered(),
        }
    }
}

async fn readings(stage: &Stage, outcome: &str) -> Option<i64> {
    let label = format!("outcome=\"{outcome}\"");
    let count = stage.gateway.metric("gateway_readings_total", &label).await.ok()?;
    Some(count as i64)
}
