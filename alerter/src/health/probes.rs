//! The probes of the alerter.

use std::sync::Arc;

use ljwx_service::heartbeat::Heartbeat;
use ljwx_service::http::admin::Probe;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::mysql::retry::MysqlRetry;
use crate::notify::silences::ActiveSilences;
use crate::pipeline::waiting_partitions::HoldReasons;
use crate::rules::index::RuleSet;

/// The active rules; `None` until they have been read.
pub type ActiveRules = watch::Receiver<Option<Arc<RuleSet>>>;

/// Returns the liveness probe: the loops run. The sender ends at `stop`, before the process.
pub fn alive([main, sender]: [Heartbeat; 2], stop: CancellationToken) -> Probe {
    Arc::new(move || {
        main.check()?;
        if stop.is_cancelled() { Ok(()) } else { sender.check() }
    })
}

/// Returns the readiness probe: the alerter evaluates and writes every partition of its group that it
/// owns.
pub fn ready(
    rules: ActiveRules,
    silences: ActiveSilences,
    mysql_retry: MysqlRetry,
    hold_reasons: HoldReasons,
    stop: CancellationToken,
) -> Probe {
    Arc::new(move || {
        if stop.is_cancelled() {
            return Err("draining".into());
        }
        if rules.borrow().is_none() {
            return Err("the rules could not be read yet".into());
        }
        if !silences.are_known() {
            return Err("the silences could not be read yet".into());
        }
        // A held batch is also being retried, and its reason names the partition.
        if let Some(reason) = hold_reasons.reason() {
            return Err(format!("held: {reason}"));
        }
        if mysql_retry.is_retrying() { Err("MySQL does not take alerts".into()) } else { Ok(()) }
    })
}
