//! Delivers notifications to the watch. They are rows of a table of this database, so no platform
//! can lose, limit or repeat them.

use ljwx_ledger::mysql::errors;
use opentelemetry::trace::{Status, TraceContextExt};
use tracing::{debug, info, warn};

use super::Sender;
use super::retry_policy::{FIX_WAIT, RETRY_MIN, failure_action};
use super::routes::start_span;
use crate::notify::address::Address;
use crate::notify::device_message::{self, DeviceMessage};
use crate::notify::notice::Notice;
use crate::notify::outbox::{Attempt, Notification, Settlement};
use crate::notify::wechat::error::ErrcodeRemedy;
use crate::rules::channel::Channel;

/// Data errors outside SQLSTATE classes 22 and 23: a column without a default, a value of a wrong
/// type.
const DATA_ERROR_CODES: [u16; 2] = [1364, 1366];

impl Sender {
    /// Writes a notification for the watch. `None`: the row is no longer pending.
    pub(super) async fn write_for_watch(
        &self,
        notification: &Notification,
        address: &Address,
        notice: Option<Notice>,
        delayed: bool,
    ) -> Option<Attempt> {
        let Some(mut notice) = notice else {
            return Some(Attempt::not_sent(Settlement::Failed, "no_content"));
        };
        // The transition may have been delayed before it was written.
        notice.delayed |= delayed;
        let Ok(user_id) = address.name.parse() else {
            return Some(Attempt::not_sent(Settlement::Failed, "no_user"));
        };
        let facts = futures_util::future::try_join(
            self.device_messages.columns(),
            self.device_messages.wearer(&notification.episode_key),
        );
        let (columns, wearer) = match facts.await {
            Ok((Some(columns), wearer)) => (columns, wearer),
            Ok((None, _)) => return Some(Attempt::later(FIX_WAIT, "no_table")),
            Err(error) => {
                debug!(%error, "cannot look up wearer, retrying");
                return Some(Attempt::later(RETRY_MIN, "database"));
            }
        };
        let is_wearer = wearer.user_id == Some(user_id);
        let message = DeviceMessage {
            device_sn: &notice.device_sn,
            text: device_message::text(&notice, is_wearer),
            user_id,
            is_wearer,
            org_id: wearer.org_id,
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
        let attempts = u32::try_from(notification.attempts).unwrap_or_default() + 1;
        // MySQL will keep rejecting a value that it has rejected a few times. Other errors may
        // pass.
        let remedy = if is_data_error(error) {
            ErrcodeRemedy::RetryThenPermanent
        } else {
            ErrcodeRemedy::Retry
        };
        let error = errors::message(error);
        warn!(error, attempts, "cannot write notification for the watch");
        Attempt {
            settlement: failure_action(remedy, attempts, rand::random()).settlement,
            requested: true,
            uncertain: false,
            errcode: None,
            reason: Some("t_device_message does not take it".into()),
            ..Attempt::sent(None)
        }
    }
}

/// Whether MySQL rejects the values, so that a retry cannot succeed.
fn is_data_error(error: &sqlx::Error) -> bool {
    let state = error.as_database_error().and_then(|error| error.code());
    // Classes 22 (data that does not fit) and 23 (constraints).
    let class = state.is_some_and(|state| state.starts_with("22") || state.starts_with("23"));
    class || errors::number(error).is_some_and(|number| DATA_ERROR_CODES.contains(&number))
}
