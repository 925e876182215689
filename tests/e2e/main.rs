//! The promises of the whole system, each a test against real servers and real processes. Run it
//! through `deploy/stack run -- cargo test --workspace --test e2e`, after `cargo build --workspace`.
//!
//! One program, so that tests which take a server away can keep all others out meanwhile.

mod alerter;
mod faults;
mod gateway;
mod operators;
mod support;
mod worker;
