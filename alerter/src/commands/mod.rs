//! What operators do from a shell. Each command reads, works out an answer without asking anybody, and
//! prints it.

pub mod backtest;
mod layout;
pub mod rules_check;
pub mod rules_list;
mod rules_print;
mod rules_report;
pub mod source;
