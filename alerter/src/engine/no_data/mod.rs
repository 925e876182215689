//! What absence leads to: rules of category `NO_DATA` open, episodes of other rules close as stale.
//!
//! Every time is a Kafka record time. Whether an episode opens, and when, follows from the records
//! alone: what is noticed early, by the wall clock, is what the next record would have shown.

pub(super) mod deadlines;
pub(super) mod episodes;
pub mod partition_clock;

#[cfg(test)]
mod tests;
