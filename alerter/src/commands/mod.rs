//! Commands that look at what the service keeps, or change it by hand.

pub mod outbox;
