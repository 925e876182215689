//! Notifications that go to others than those for whom they were written.

pub mod rerouted;
pub mod routed_again;
