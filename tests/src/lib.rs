//! The harness of the end-to-end tests, the simulated fleet and the demo.
//!
//! ```text
//! Stack (real servers)                 fleet ── History (what each client was told)
//!   └─ World (own database, topics)      │                       │
//!        └─ Service (a real process) ◄───┘                       ▼
//!             └─ MySQL, Redis, Kafka, Jaeger, FakeWechat ──► Verdict
//! ```
//!
//! The services are black boxes here: started as programs from the target directory, spoken to
//! over HTTP, judged by Kafka, MySQL, Redis, Jaeger and what WeChat received.

pub mod accounting;
pub mod bench;
pub mod cases;
pub mod clients;
pub mod demo;
pub mod fakes;
pub mod fleet;
pub mod repo;
pub mod stack;
