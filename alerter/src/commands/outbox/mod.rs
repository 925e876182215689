//! `alerter outbox`: what waits to be sent, and doing something about it.
//!
//! Shows neither what a notification says nor any measured value.

mod args;
mod run;

#[cfg(test)]
mod tests;

pub use args::OutboxConfig;
pub use run::run;
