//! The operators' view of the whole pipeline, with a Prometheus that scrapes it. The servers behind
//! the pipeline make no difference here, so these tests run on one database only.

mod canary;
mod commands;
mod dashboard;
mod deployment;
mod health;
mod logs;
mod metrics;
mod rules;
mod runbook;
mod scenarios;
mod status;
mod unnoticed;
mod walks;
mod watched;
