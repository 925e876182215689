//! Defines rules, validates them, finds the rules that concern a reading, and loads them.
//!
//! [`validation`] turns a row or an entry of a file into a rule or a list of its problems.
//! [`loading`] fetches the rows and keeps the last good versions. [`index`] finds the rules that
//! evaluate a reading. Everything except [`loading`] is pure.

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

pub use self::channel::{Channel, Channels};
pub use self::condition::{Composite, Condition, Operator};
pub use self::policy::{Escalation, FlapLimits, Policy};
pub use self::rule::{ActiveHours, Rule, Slot, TEMPLATE_TENANT, Trigger};
pub use self::severity::Severity;
pub use self::verdict::{Bounds, Deviation, Measurement, Range, Verdict};
pub use self::vital::{Vital, VitalSet};
