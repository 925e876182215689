//! What operators see, on the whole pipeline with a Prometheus that watches it. The servers behind the
//! pipeline make no difference here, so these run on one database only.

mod dashboard;
mod health;
mod logs;
mod metrics;
mod rules;
mod runbook;
mod scenarios;
mod unnoticed;
mod walks;
mod watched;
