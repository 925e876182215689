//! Notifications that stand in MySQL until they are sent, and who sends them.
//!
//! Rows are written in the transaction of what they tell about. A sender claims rows under a lease;
//! one that dies leaves rows that another claims when the lease is over. Leases and attempts are
//! timed by the server's clock, because replicas' clocks differ. What to do with a row is for
//! [`crate::notify::sender`] to decide.

mod action_log;
mod add;
mod attempt;
mod claim;
pub mod digest_rows;
mod notification;
mod operate;
mod queries;
mod settle;
mod table;

pub use add::add;
pub use attempt::{Attempt, Fate};
pub use claim::Rendered;
pub use notification::{DIGEST, NewNotification, Notification};
pub use operate::{Filter, Listed};
pub use queries::Recent;
pub(crate) use settle::KEPT_DAYS;
pub(crate) use table::NOW_MS;
pub use table::Outbox;
