//! Writes and reads the worker's data in MySQL.

pub mod batch_writer;
pub mod bisect;
pub mod counted_rows;
pub mod daily_weekly;
pub mod device_ids;
pub mod erased_rows;
pub mod error;
mod expired_months;
pub mod group_control;
pub mod main_table;
pub mod monthly_partitions;
pub mod newest_rows;
pub mod packet_limit;
pub mod purged_letters;
pub mod row_count;

pub use batch_writer::BatchWriter;
pub use error::WriteError;
