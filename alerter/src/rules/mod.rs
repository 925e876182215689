//! Rules: what a rule is, what makes one valid, which rules a reading meets, and how they are loaded.
//!
//! [`validation`] turns a row or a file's entry into a rule or a list of what is wrong with it;
//! [`loading`] fetches the rows and keeps the last good versions; [`index`] is what readings are judged
//! by. All but [`loading`] is pure.

pub mod channel;
pub mod condition;
pub mod index;
pub mod loading;
pub mod policy;
pub mod rule;
pub mod severity;
pub mod template;
pub mod validation;
pub mod verdict;
pub mod vital;
