//! `alerter outbox`: lists, retries and drops notifications.
//!
//! Prints neither the message text nor any measured value.

mod args;
mod run;

#[cfg(test)]
mod tests;

pub use args::OutboxArgs;
pub use run::run;
