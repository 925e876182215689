//! Delivers notifications to the watch. They are rows of a table of this database, so no platform
//! can lose, limit or repeat them.

use ljwx_ledger::mysql::errors::{self, Remedy};
use opentelemetry::trace::{Status, TraceContextExt};
use tracing::{info, warn};

use super::Sender;
use super::attempt::{start_span, without_database};
use super::decide::{SendJob, is_old};
use super::retry_policy::{FIX_WAIT, after_failure};
use crate::notify::device_message::{self, DeviceMessage};
use crate::notify::outbox::{Attempt, Notification, Settlement};
use crate::notify::wechat::error::ErrcodeRemedy;
use crate::rules::Channel;

impl Sender {
    /// Writes a notification for the watch. `None`: the row is no longer pending.
    pub(super) async fn write_for_watch(&self, job: SendJob<'_>) -> Option<Attempt> {
        let SendJob { notification, address, notice } = job;
        let Some(mut notice) = notice else {
            return Some(Attempt::not_sent(Settlement::Failed, "no_content"));
        };
        // The transition may have been delayed before it was written.
        notice.delayed |= is_old(notification);
        let Ok(user_id) = address.name.parse() else {
            return Some(Attempt::not_sent(Settlement::Failed, "no_user"));
        };
        let facts = futures_util::future::try_join(
            self.device_messages.columns(),
            device_message::wearer(&self.device_messages.pool, &notification.episode_key),
        );
        let (columns, (wearer, org_id)) = match facts.await {
            Ok((Some(columns), wearer)) => (columns, wearer),
            Ok((None, _)) => return Some(Attempt::later(FIX_WAIT, "no_table")),
            Err(error) => return Some(without_database(&error, "look up wearer")),
        };
        let is_wearer = wearer == Some(user_id);
        let message = DeviceMessage {
            device_sn: &notice.device_sn,
            text: device_message::text(&notice, is_wearer),
            user_id,
            is_wearer,
            org_id,
            customer_id: notification.customer_id,
        };
        let span = start_span(notification, Channel::Message);
        let delivered = self.outbox.deliver(notification, &columns, &message).await;
        if delivered.is_err() {
            span.span().set_status(Status::error("not written"));
        }
        span.span().end();
        match delivered {
            Ok(true) => {
                info!(
                    alert.transition = notification.transition,
                    alert.episode_key = notification.episode_key,
                    "notification written for the watch"
                );
                Some(Attempt::sent(None))
            }
            Ok(false) => None,
            Err(error) => Some(self.not_written(notification, &error).await),
        }
    }

    async fn not_written(&self, notification: &Notification, error: &sqlx::Error) -> Attempt {
        // The platform may have changed its table: read the columns again.
        self.device_messages.forget().await;
        let attempts = notification.attempts + 1;
        // MySQL will keep rejecting a value that it has rejected a few times. Other errors may
        // pass.
        let remedy = match errors::remedy(error) {
            Remedy::Data => ErrcodeRemedy::RetryThenPermanent,
            _ => ErrcodeRemedy::Retry,
        };
        let (settlement, _) = after_failure(remedy, attempts, false, rand::random());
        let error = errors::message(error);
        warn!(error, attempts, "cannot write notification for the watch");
        let reason = Some("t_device_message does not take it".into());
        Attempt { settlement, reason, ..Attempt::sent(None) }
    }
}
