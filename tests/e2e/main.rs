//! Tests the promises of the whole system, each against real servers and real processes. Run them
//! through `deploy/stack run -- cargo test --workspace --test e2e`, after `cargo build
//! --workspace`.
//!
//! All tests are one program, so that a test that stops a server can keep all other tests from
//! running.

mod adopt;
mod alerter;
mod drills;
mod faults;
mod gateway;
mod operators;
mod privacy;
mod runbook_blocks;
mod support;
mod worker;
