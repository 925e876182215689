//! Missing data: rules of category `NO_DATA` open episodes, and episodes of other rules close as
//! stale.
//!
//! Every time is a Kafka record time. Whether and when an episode opens follows from the records
//! alone. The wall clock only shows earlier what the next record would show.

pub mod counted_time;
pub(super) mod deadlines;
pub(super) mod episodes;
pub mod partition_clock;

#[cfg(test)]
mod tests;
