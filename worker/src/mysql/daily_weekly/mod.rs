//! Writes the daily and the weekly table: one row per device and period, with the newest document
//! of each kind.

mod cache;
mod periods;
mod tables;

pub use cache::Remembered;
pub use periods::Calendar;
pub use tables::{PeriodStatements, PeriodUpsert};
