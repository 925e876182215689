//! Reads the settings of a process: values, secrets, and all problems of a configuration at once.

mod all_errors;
mod parse;
mod problems;
mod secret;
mod values;

pub use parse::{EXIT_CONFIG, Refusal, parse, parse_or_exit};
pub use problems::{Problems, Validate};
pub use values::{When, ZoneArgs, duration, time_zone};
