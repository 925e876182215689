//! `alerter rules`: checks rules and lists the active ones.

pub mod check;
pub mod checked;
pub mod describe;
pub mod list;
pub mod listing;
pub mod print;
