//! The rules in force: which ones there are, and which of them concern a reading.
//!
//! [`validation`] turns a row or a file's entry into a rule or a list of what is wrong with it;
//! [`loading::source`] and [`loading::source_file`] fetch the rows; [`loading::versions`] says which versions stand and
//! [`loading::last_good`] keeps them over a restart; [`loading::shrinkage`] says when a source is not believed; [`loading::reload`] does it all again and again, at once where
//! [`loading::change_listener`] hears of a change. [`index`] is what readings are judged by.

pub mod channel;
pub mod condition;
pub mod loading;
pub mod rule;
pub mod severity;
pub mod vital;

pub mod index;
pub mod validation;

pub use index::RuleSet;

/// The tenant whose rules are the template of all others.
pub const TEMPLATE_TENANT: i64 = 0;
