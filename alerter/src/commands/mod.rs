//! What operators can ask the alerter to do beside running.

pub mod recipients;
