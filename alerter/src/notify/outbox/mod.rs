//! The outbox: notifications that stay in MySQL until they are sent.
//!
//! A row is written in the transaction of its transition. A sender claims rows under a lease. If
//! the sender dies, another claims its rows when the lease is over. The server's clock times leases
//! and attempts, because replicas' clocks differ. [`crate::notify::sender`] decides what to do with
//! a row.

mod add;
mod claim;
mod depth;
pub mod digest_rows;
mod fold;
mod notification;
mod operate;
mod queries;
pub mod reroute_rows;
mod retention;
mod settle;
mod table;

pub use add::{add, raise};
pub use claim::{DUE_MAX, DueRow, RebuiltRequest};
pub use depth::{MeasuredOutbox, OutboxMeasurement, monitor};
pub use fold::{Moment, fold};
pub use notification::{DIGEST, NewNotification, Notification, Whom, is_end};
pub use operate::{OutboxFilter, OutboxRow};
pub use queries::{notified_episodes, over_episodes};
pub(crate) use retention::KEPT_DAYS;
pub use retention::remove_old;
pub use settle::{Attempt, Settlement, end_rows, settle};
pub(crate) use table::NOW_MS;
pub use table::{Outbox, RECIPIENT_LIMIT, from_milliseconds, milliseconds};
