//! Brings a transition to a person: notices, recipients, silences, the outbox, the sender and the
//! platforms.

pub mod address;
pub mod device_message;
pub mod limits;
pub mod notice;
pub mod notice_fields;
pub mod operator_events;
pub mod outbox;
pub mod recipients;
pub mod row_bound;
pub mod sender;
pub mod silences;
pub mod wechat;
