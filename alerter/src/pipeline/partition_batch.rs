//! The part of a batch that comes from one partition, with everything to write about it in one
//! transaction.
//!
//! [`crate::pipeline::transition_rows`] adds the rows of a transition. [`crate::pipeline::commit`]
//! writes them.

use ljwx_ledger::ledger::Advance;
use metrics::counter;
use tracing::info;

use crate::engine::episode::EpisodeKey;
use crate::engine::{Change, StateChanges};
use crate::metrics::TRANSITIONS;
use crate::mysql::alert_rows::{AlertChange, NewAlert, SUPERSEDED};
use crate::mysql::suppressed_counts::{self, Suppressed};
use crate::notify::outbox::{Moment, NewNotification, Whom};

/// The results of consecutive offsets of one partition.
#[derive(Debug, Default)]
pub struct PartitionBatch {
    /// The advance of the partition's ledger position.
    pub advance: Advance,
    /// State to write.
    pub state: StateChanges,
    /// Alerts to add.
    pub opened: Vec<NewAlert>,
    /// Alerts to change, after the additions.
    pub changed: Vec<(EpisodeKey, AlertChange)>,
    /// Notifications to add to the outbox, in their order.
    pub notifications: Vec<NewNotification>,
    /// Those of them that reach a person as one message, after the additions.
    pub moments: Vec<Moment>,
    /// Suppressed notifications, to be counted.
    pub suppressed: Vec<Suppressed>,
}

impl PartitionBatch {
    /// An empty batch of `partition` under `epoch`, which advances nothing yet.
    pub fn new(partition: i32, epoch: i64, from: i64) -> Self {
        let advance = Advance { partition, epoch, from, to: from, ..Advance::default() };
        Self { advance, ..Self::default() }
    }

    /// Accounts for one delivery, and for the offsets before it that hold no record.
    pub fn pass(&mut self, offset: i64) {
        self.advance.counts.skipped_gap += offset - self.advance.to;
        self.advance.counts.processed += 1;
        self.advance.to = offset + 1;
    }

    /// Returns how many statements the batch has for itself. Those for the other rows are few.
    pub fn statements(&self) -> usize {
        self.changed.len() + self.notifications.len()
    }

    /// Whether there is nothing to write, not even an advance.
    pub fn is_empty(&self) -> bool {
        self.advance.from == self.advance.to
            && self.state == StateChanges::default()
            && self.opened.is_empty()
            && self.changed.is_empty()
    }

    /// Adds a change to the counts if its notification is suppressed.
    pub fn suppress(&mut self, change: &Change) {
        if let Some(reason) = suppressed_counts::reason(change.transition) {
            let day = change.at.wall.date();
            let customer_id = change.ids.customer_id.unwrap_or_default();
            self.suppressed.push((day, change.rule_id, customer_id, reason));
        }
    }

    /// Takes over the state to write, and the alerts that concern other people than before.
    pub fn take_state(&mut self, mut state: StateChanges) {
        let people = state.people.drain(..);
        self.changed.extend(people.map(|(key, ids)| (key, AlertChange::People(ids))));
        self.state = state;
    }

    /// Folds the notifications from index `from` on: each device and recipient gets one message.
    pub fn fold(&mut self, from: usize) {
        let moments = Moment::of(&self.notifications[from..]);
        if !moments.is_empty() {
            // The requests are built when they are sent: they do not report the others.
            for notification in &mut self.notifications[from..] {
                if let Whom::Recipient(_, request) = &mut notification.whom {
                    request.clear();
                }
            }
        }
        self.moments.extend(moments);
    }

    /// Adds that an episode was closed because its rule changed.
    pub fn supersede(&mut self, change: &Change) {
        self.changed.push((change.key(), AlertChange::Closed(SUPERSEDED)));
        counter!(TRANSITIONS, "transition" => change.transition.to.as_str()).increment(1);
        info!(rule.id = change.rule_id, device.id = %change.device_sn, "alert superseded, its rule changed");
    }
}
