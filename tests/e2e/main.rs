//! The promises of the whole system, each a test against real servers and real processes. Run it
//! through `deploy/stack run -- cargo test --workspace --test e2e`, after `cargo build --workspace`.
//!
//! One program, so that tests which take a server away can keep all others out meanwhile.

mod account;
mod alert_cases;
mod alert_crash;
mod alert_faults;
mod alert_no_data;
mod alert_outbox;
mod alert_people;
mod alert_refused;
mod alerts;
mod audit;
mod bindings;
mod cases;
mod codecs;
mod commits;
mod config;
mod disk;
mod dlq;
mod faults;
mod gateway;
mod judge;
mod links;
mod lost_parts;
mod merges;
mod modes;
mod offsets;
mod operators;
mod pipeline;
mod public_port;
mod rebalance;
mod records;
mod redis;
mod remedies;
mod rules;
mod sentinel;
mod servers;
mod sharing;
mod sigterm;
mod silences;
mod silent;
mod tables;
mod takeover;
mod tls;
mod traces;
mod transactions;
