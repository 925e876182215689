//! Writes the daily and the weekly table: one row per device and period, with the newest document
//! of each kind.

mod cache;
mod periods;
pub mod retention;
mod tables;

pub use cache::PeriodCache;
pub use periods::PeriodDocuments;
pub use tables::{PeriodStatements, PeriodUpsert};
