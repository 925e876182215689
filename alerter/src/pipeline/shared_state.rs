//! The state that the loops of one alerter share, and the probes that it answers.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ljwx_ledger::device_bindings::DeviceBindings;
use ljwx_ledger::ledger::Ledger;
use ljwx_service::lifecycle::Deadline;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::engine::no_data::counted_time::CountedTime;
use crate::mysql::retry::MysqlRetry;
use crate::notify::limits::AccountLimits;
use crate::notify::operator_events::OperatorEvents;
use crate::notify::recipients::Directory;
use crate::notify::silences::ActiveSilences;
use crate::pipeline::owed::OwedMeasurement;
use crate::pipeline::waiting_partitions::HoldReasons;
use crate::rules::index::RuleSet;

/// The shared state. Clones share it too.
#[derive(Clone)]
pub struct SharedState {
    /// The group's ledger, which knows the database.
    pub ledger: Ledger,
    /// The active rules; `None` until they have been read.
    pub rules: watch::Receiver<Option<Arc<RuleSet>>>,
    /// Whether Redis rejects the subscription to rule changes.
    pub subscription_refused: Arc<AtomicBool>,
    /// The silences in effect.
    pub silences: ActiveSilences,
    /// The bindings, for devices whose readings carry no ids.
    pub bindings: DeviceBindings,
    /// Finds the recipients.
    pub directory: Arc<Directory>,
    /// The limits of the accounts.
    pub accounts: Arc<AccountLimits>,
    /// The channel to the operators.
    pub operators: OperatorEvents,
    /// The main loop's retry during an outage of MySQL, with the loop's heartbeat.
    pub mysql_retry: MysqlRetry,
    /// The sender's retry, with the sender's heartbeat.
    pub sender_retry: MysqlRetry,
    /// Why MySQL does not take held batches, and Kafka dead letters.
    pub hold_reasons: HoldReasons,
    /// What this replica's episodes owe.
    pub owed: watch::Sender<OwedMeasurement>,
    /// The wall time that counts for missing data.
    pub counted_time: watch::Sender<CountedTime>,
    /// Wakes the sender when there is something to send.
    pub wake: Arc<Notify>,
    /// Cancelled when the process has to end.
    pub stop: CancellationToken,
    /// The time until which the process has to end.
    pub deadline: Deadline,
}

impl SharedState {
    /// Checks that the loops run. The sender ends at `stop`, before the process.
    pub fn live(&self) -> Result<(), String> {
        self.mysql_retry.heartbeat().check()?;
        if self.stop.is_cancelled() { Ok(()) } else { self.sender_retry.heartbeat().check() }
    }

    /// Checks that the alerter evaluates and writes every partition of its group that it owns.
    pub fn ready(&self) -> Result<(), String> {
        if self.stop.is_cancelled() {
            return Err("draining".into());
        }
        if self.rules.borrow().is_none() {
            return Err("the rules could not be read yet".into());
        }
        if !self.silences.are_known() {
            return Err("the silences could not be read yet".into());
        }
        // A held batch is also being retried, and its reason names the partition.
        if let Some(reason) = self.hold_reasons.reason() {
            return Err(format!("held: {reason}"));
        }
        let is_retrying = self.mysql_retry.is_retrying();
        if is_retrying { Err("MySQL does not take alerts".into()) } else { Ok(()) }
    }
}
