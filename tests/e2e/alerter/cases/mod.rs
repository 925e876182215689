//! Worked examples, up to the messages that people receive.

mod form;
pub mod messages;
pub mod rules;
