//! The soak run: the whole pipeline under load for a long time, with a random fault every few
//! minutes, and an account of every reading and notification at the end.
//!
//! ```text
//! schedule ── planned fault ──► strike ──► stage (servers, links, services, fake WeChat)
//!  (seed)                          └─────► recovery: ready, no lag, footprints as before
//! fleet, patients ── answers, episodes ──► account ──► summary
//! ```
//!
//! The load belongs to [`crate::fleet`], the comparison of readings to [`crate::accounting`].
#![expect(clippy::print_stdout, reason = "the progress of a run is for whoever watches")]

mod account;
mod arguments;
mod fault;
mod footprint;
mod notifications;
mod patients;
mod recovery;
mod run;
mod schedule;
mod stage;
mod strike;
mod summary;

pub use arguments::Arguments;
pub use run::run;
