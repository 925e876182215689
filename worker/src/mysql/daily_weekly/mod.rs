//! Writes the daily and the weekly table: one row per device and period, with the newest document
//! of each kind.

mod cache;
mod periods;
pub mod retention;
mod tables;

pub use cache::PeriodCache;
pub use periods::{
    DocumentContent, GuardedDocument, Period, PeriodDocuments, PeriodKey, Periods, monday,
};
pub use tables::{PeriodStatements, PeriodUpsert};
