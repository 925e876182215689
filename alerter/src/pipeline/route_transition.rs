//! Finds the recipients of a transition, and handles transitions without any.
//!
//! [`crate::notify::recipients`] chooses the recipients, and [`crate::notify::silences`] mutes
//! alerts. [`crate::pipeline::transition_rows`] builds the rows.

use jiff::Timestamp;
use tracing::warn;

use super::{Pipeline, PipelineParts};
use crate::engine::Change;
use crate::engine::episode::TransitionKind;
use crate::mysql::retry::Stopping;
use crate::mysql::suppressed_counts::SILENCED;
use crate::notify::recipients::Recipients;
use crate::pipeline::alert_span::Cause;
use crate::pipeline::partition_batch::PartitionBatch;
use crate::pipeline::transition_rows::DisplayNames;

impl Pipeline {
    /// Finds the recipients of a change, and adds the change to the partition's batch.
    pub(super) async fn record(
        &mut self,
        change: &Change,
        cause: &Cause<'_>,
        partition_batch: &mut PartitionBatch,
    ) -> Result<(), Stopping> {
        let Some(rule) = change.rule.as_deref() else { return Ok(()) };
        let recipients = if !change.transition.notify {
            Recipients::NotNotified("not_due")
        } else if self.parts.silences.cover(Timestamp::now().as_millisecond(), change) {
            Recipients::NotNotified(SILENCED)
        } else {
            let PipelineParts { mysql_retry, directory, .. } = &self.parts;
            mysql_retry
                .until_done("look up recipients", || {
                    directory.recipients(change.ids, rule.channels)
                })
                .await?
        };
        let silenced = matches!(recipients, Recipients::NotNotified(SILENCED));
        let logged = rule.channels.log && change.transition.notify && !silenced;
        if logged {
            warn!(rule.id = rule.id, device.id = %change.device_sn, alert.transition = change.transition.to.as_str(),
                alert.severity = change.transition.severity.as_str(), "alert notification");
        }
        if change.transition.notify && matches!(recipients, Recipients::NotNotified(_)) && !logged {
            self.engine.undo_notification(cause.partition, change);
            if change.transition.to == TransitionKind::Notified {
                return Ok(());
            }
        }
        if !logged {
            partition_batch.suppress(change, &recipients);
        }
        let named = self.named(change).await;
        partition_batch.add(change, rule, cause, &recipients, &named);
        Ok(())
    }

    /// Returns the names of the wearer and the ward, if they are known.
    async fn named(&self, change: &Change) -> DisplayNames {
        let directory = &self.parts.directory;
        let customer_id = change.ids.customer_id.unwrap_or_default();
        let (mut wearer, mut ward) = (None, None);
        if let Some(user_id) = change.ids.user_id {
            wearer = directory.name(customer_id, user_id).await;
        }
        if let Some(org_id) = change.ids.org_id {
            ward = directory.ward(customer_id, org_id).await;
        }
        DisplayNames { wearer, ward }
    }
}
