//! Reads the settings of a process: values, secrets, and all problems of a configuration at once.

mod all_errors;
mod completions;
mod in_force;
mod parse;
mod problems;
pub mod reference;
mod secret;
mod values;

pub use completions::CompletionsArgs;
pub use in_force::in_force;
pub use parse::{ConfigError, EXIT_CONFIG, parse, parse_or_exit};
pub use problems::{Problems, Validate};
pub use values::{TimeArg, ZoneArgs, duration, flag, time_zone};
