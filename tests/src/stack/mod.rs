//! Starts the services in a world with its own database and topics on the real servers, and stops a
//! server for a while.
//!
//! Querying the servers belongs to [`crate::clients`].

pub mod accounts;
pub mod certificates;
mod environment;
pub mod launch;
pub mod moved_clock;
mod outage;
pub mod own_server;
pub mod process;
pub mod reverse_proxy;
pub mod tls_stack;
pub mod wait;
pub mod world;

pub use environment::Stack;
pub(crate) use environment::root;
pub use outage::{Frozen, Outage, Server};
