//! Finds the recipients of a transition, and handles transitions without any.
//!
//! [`crate::notify::recipients`] chooses the recipients, and [`crate::notify::silences`] mutes
//! alerts. [`crate::pipeline::transition_rows`] builds the rows.

use jiff::Timestamp;
use tracing::warn;

use super::{Parts, Pipeline};
use crate::engine::Change;
use crate::engine::episode::To;
use crate::mysql::retry::GaveUp;
use crate::mysql::suppressed_counts::SILENCED;
use crate::notify::recipients::Reach;
use crate::pipeline::alert_span::Cause;
use crate::pipeline::partition_batch::Stretch;
use crate::pipeline::transition_rows::Named;

impl Pipeline {
    /// Finds the recipients of a change, and adds the change to the partition's batch.
    pub(super) async fn record(
        &mut self,
        change: &Change,
        cause: &Cause<'_>,
        stretch: &mut Stretch,
    ) -> Result<(), GaveUp> {
        let Some(rule) = change.rule.as_deref() else { return Ok(()) };
        let reach = if !change.transition.notify {
            Reach::Nobody("not_due")
        } else if self.parts.silences.cover(Timestamp::now().as_millisecond(), change) {
            Reach::Nobody(SILENCED)
        } else {
            let Parts { hold, directory, .. } = &self.parts;
            hold.until_done("look up recipients", || directory.reach(change.ids, rule.channels))
                .await?
        };
        let silenced = matches!(reach, Reach::Nobody(SILENCED));
        let logged = rule.channels.log && change.transition.notify && !silenced;
        if logged {
            warn!(rule.id = rule.id, device.id = %change.device_sn, alert.to = change.transition.to.as_str(),
                alert.severity = change.transition.severity.as_str(), "alert notification");
        }
        if change.transition.notify && matches!(reach, Reach::Nobody(_)) && !logged {
            self.engine.untold(cause.partition, change);
            if change.transition.to == To::Notified {
                return Ok(());
            }
        }
        if !logged {
            stretch.suppress(change, &reach);
        }
        let named = self.named(change).await;
        stretch.add(change, rule, cause, &reach, &named);
        Ok(())
    }

    /// Returns the names of the wearer and the ward, if they are known.
    async fn named(&self, change: &Change) -> Named {
        let directory = &self.parts.directory;
        let customer_id = change.ids.customer_id.unwrap_or_default();
        let (mut wearer, mut ward) = (None, None);
        if let Some(user_id) = change.ids.user_id {
            wearer = directory.name(customer_id, user_id).await;
        }
        if let Some(org_id) = change.ids.org_id {
            ward = directory.ward(customer_id, org_id).await;
        }
        Named { wearer, ward }
    }
}
