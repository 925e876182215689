//! Whom a notification reaches, and in which message.

pub mod one_message;
pub mod refused_by_all;
pub mod rerouted;
pub mod routed_again;
