//! Runs the services as programs against real servers, and compares the answers to clients with the
//! contents of Kafka, MySQL, Redis, Jaeger and the fake WeChat.
//!
//! The tests of the whole system are in `tests/e2e`. Each crate tests its own logic beside its
//! code.
//!
//! ```text
//! Stack (the real servers)
//!   └─ World (a database, topics and groups of its own)
//!        └─ Service (a real process) ◄── readings ── fleet ── answers ──► History
//!             └─ Kafka, MySQL, Redis, Jaeger, FakeWechat                     │
//!                  └─ clients ── records, rows, messages ──► Verdict ◄───────┘
//! ```
//!
//! `stack` starts servers, worlds and services; `clients` queries the servers; `fakes` has fakes of
//! servers that are not ours; `accounting` compares. `fleet`, `demo`, `bench`, `soak` and `cases`
//! are programs built on these, each with a binary. `repo` checks the repository itself.

pub mod accounting;
pub mod bench;
pub mod cases;
pub mod clients;
pub mod demo;
pub mod fakes;
pub mod fleet;
pub mod repo;
pub mod soak;
pub mod stack;
