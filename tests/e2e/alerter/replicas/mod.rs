//! What happens to the alerters themselves: they die, freeze, or get another time.

pub mod clock;
pub mod commits;
pub mod crash;
