//! The real servers and the services that tests and demo run: a world with its own database and topics,
//! the processes in it, and taking a server away for a while. Asking the servers belongs to
//! [`crate::clients`].

pub mod certificates;
mod environment;
pub mod launch;
mod outage;
pub mod own_server;
pub mod process;
pub mod tls_stack;
pub mod wait;
pub mod world;

pub use environment::Stack;
pub(crate) use environment::root;
pub use outage::{Frozen, Outage, Server};
