//! Episodes that owe a notification: which they are, and trying them without readings.
//!
//! Pure. [`crate::engine::episode`] decides what an episode owes.

pub mod index;
mod look;

#[cfg(test)]
mod tests;
