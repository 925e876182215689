//! Reads the command line and the environment, and reports every problem at once.
//!
//! Leaves the search for faulty values to `all_errors`, and the check of combinations to
//! [`Validate`].

use std::ffi::OsString;

use clap::{CommandFactory, FromArgMatches};

use super::all_errors::ErrorCollector;
use super::in_force;
use super::problems::{Problems, Validate};

/// Exit code for an invalid configuration.
pub const EXIT_CONFIG: i32 = 2;

/// Parses the process's arguments and environment. If they are invalid, prints all problems and
/// exits with [`EXIT_CONFIG`] (0 for `--help` and `--version`). Else `in_force` tells them.
pub fn parse_or_exit<T: CommandFactory + FromArgMatches + Validate>() -> T {
    match parse_with_text(std::env::args_os().collect()) {
        Ok((config, settings)) => {
            in_force::keep(settings);
            config
        }
        Err(ConfigError::Clap(error)) => error.exit(),
        Err(ConfigError::Problems(problems)) => {
            eprintln!("error: the configuration has {} problem(s):", problems.list().len());
            problems.list().iter().for_each(|problem| eprintln!("  - {problem}"));
            eprintln!("see --help for every setting");
            std::process::exit(EXIT_CONFIG)
        }
    }
}

/// The reason why there is no configuration.
#[derive(Debug)]
pub enum ConfigError {
    /// Help, version, or a usage error after which parsing cannot continue.
    Clap(clap::Error),
    /// Settings that are missing, wrong or unsafe.
    Problems(Problems),
}

/// Parses `arguments` and the environment. The first argument is the name of the program.
pub fn parse<T: CommandFactory + FromArgMatches + Validate>(
    arguments: Vec<OsString>,
) -> Result<T, ConfigError> {
    parse_with_text(arguments).map(|(config, _)| config)
}

/// Like [`parse`], and returns the settings as text.
fn parse_with_text<T: CommandFactory + FromArgMatches + Validate>(
    arguments: Vec<OsString>,
) -> Result<(T, String), ConfigError> {
    let mut search = ErrorCollector::new(T::command(), arguments);
    let mut problems = Problems::default();
    search.read_files(&mut problems);
    let matches = search.go_on(&mut problems).map_err(ConfigError::Clap)?;
    let Some(matches) = matches else { return Err(ConfigError::Problems(problems)) };
    let config = T::from_arg_matches(&matches).map_err(ConfigError::Clap)?;
    let mut combined = Problems::default();
    config.validate(&mut combined);
    // A faulty setting has a placeholder value: skip cross-field checks on it.
    let found = combined.0.into_iter().filter(|problem| !search.found_faulty(problem));
    found.for_each(|problem| problems.add(problem));
    if !problems.list().is_empty() {
        return Err(ConfigError::Problems(problems));
    }
    let (command, secrets) = search.into_parts();
    Ok((config, in_force::settings(command, &secrets, &matches)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::values::duration;

    #[derive(Debug, clap::Parser)]
    struct Example {
        #[arg(long)]
        size: u8,
        #[arg(long, default_value = "1s", value_parser = duration)]
        age: Duration,
        #[arg(long)]
        url: String,
    }

    impl Validate for Example {
        fn validate(&self, problems: &mut Problems) {
            problems.require(self.size > 0, || "--size must be at least 1".into());
        }
    }

    fn problems(arguments: &[&str]) -> Vec<String> {
        let arguments = [&["example"], arguments].concat();
        match parse::<Example>(arguments.into_iter().map(Into::into).collect()) {
            Ok(_) => Vec::new(),
            Err(ConfigError::Problems(problems)) => problems.0,
            Err(ConfigError::Clap(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let found = problems(&["--size", "many", "--age", "8"]);
        assert_eq!(found.len(), 3, "{found:#?}");
        for setting in ["--size", "--age", "--url"] {
            assert!(found.iter().any(|problem| problem.contains(setting)), "{setting}: {found:?}");
        }
        let found = problems(&["--size", "0", "--age", "soon", "--url", "x"]);
        assert_eq!(found.len(), 2, "one value and one combination: {found:?}");
        assert_eq!(
            problems(&["--size", "0", "--age", "8s", "--url", "x"]),
            ["--size must be at least 1"]
        );
        assert!(problems(&["--size", "1", "--age", "8s", "--url", "x"]).is_empty());
    }
}
