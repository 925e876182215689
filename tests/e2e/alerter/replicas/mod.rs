//! What happens to the alerters themselves: they die, freeze, or get another time.

pub mod commits;
pub mod crash;
