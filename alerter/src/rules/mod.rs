//! The rules in force: which ones there are, and which of them concern a reading.
//!
//! [`validate`] turns a row or a file's entry into a rule or a list of what is wrong with it;
//! [`source_db`] and [`source_file`] fetch the rows; [`accepted`] says which versions stand and
//! [`good`] keeps them over a restart; [`shrinkage`] says when a source is not believed; [`reload`] does it all again and again, at once where
//! [`listen`] hears of a change. [`set`] is what readings are judged by.

pub mod accepted;
pub mod check;
mod doubts;
pub mod form;
pub mod good;
pub mod listen;
mod quiet;
pub mod reload;
pub mod set;
pub mod shrinkage;
pub mod snapshot;
pub mod source_db;
pub mod source_file;
pub mod validate;
mod watch;
mod windows;
pub mod words;

pub use set::RuleSet;

/// The tenant whose rules are the template of all others.
pub const TEMPLATE_TENANT: i64 = 0;
