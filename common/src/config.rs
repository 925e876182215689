//! Reading the command line and the environment so that every problem is reported at once.
//!
//! Clap stops at the first wrong value; an operator who fixes settings one restart at a time is an
//! operator awake at night. [`parse`] goes on after each problem and lists them all.

use std::ffi::OsString;
use std::time::Duration;

use clap::builder::{Resettable, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, FromArgMatches};
use jiff::SignedDuration;
use jiff::tz::TimeZone;

/// Exit code for a configuration that is refused.
pub const EXIT_CONFIG: i32 = 2;

/// What is wrong with a configuration; each entry names the setting and the remedy.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<String>);

impl Problems {
    /// Notes a problem.
    pub fn add(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    /// Notes a problem where `holds` is false.
    pub fn require(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.0.push(problem());
        }
    }

    /// The problems so far.
    pub fn list(&self) -> &[String] {
        &self.0
    }
}

/// A configuration that can say what is wrong with itself beyond single values.
pub trait Validate {
    /// Notes every combination that is unsafe or cannot work.
    fn validate(&self, problems: &mut Problems);
}

/// Parses the process's arguments and environment, or prints what is wrong and exits with
/// [`EXIT_CONFIG`] (0 for `--help` and `--version`).
pub fn parse_or_exit<T: CommandFactory + FromArgMatches + Validate>() -> T {
    match parse(std::env::args_os().collect()) {
        Ok(config) => config,
        Err(Refusal::Clap(error)) => error.exit(),
        Err(Refusal::Problems(problems)) => {
            eprintln!("error: the configuration has {} problem(s):", problems.list().len());
            problems.list().iter().for_each(|problem| eprintln!("  - {problem}"));
            eprintln!("see --help for every setting");
            std::process::exit(EXIT_CONFIG)
        }
    }
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum Refusal {
    /// Help, version, or a usage error that leaves nothing to go on with.
    Clap(clap::Error),
    /// Settings that are missing, wrong or unsafe.
    Problems(Problems),
}

/// Parses `arguments` (the first is the program's name) and the environment.
pub fn parse<T: CommandFactory + FromArgMatches + Validate>(
    arguments: Vec<OsString>,
) -> Result<T, Refusal> {
    let mut problems = Problems::default();
    match T::command().try_get_matches_from(arguments.clone()) {
        Ok(matches) => {
            let config = T::from_arg_matches(&matches).map_err(Refusal::Clap)?;
            config.validate(&mut problems);
            if problems.list().is_empty() { Ok(config) } else { Err(Refusal::Problems(problems)) }
        }
        Err(error) => {
            collect(T::command(), &arguments, error, &mut problems).map_err(Refusal::Clap)?;
            Err(Refusal::Problems(problems))
        }
    }
}

/// Goes on after each wrong value by letting that one setting take anything.
fn collect(
    mut command: Command,
    arguments: &[OsString],
    first: clap::Error,
    problems: &mut Problems,
) -> Result<(), clap::Error> {
    let mut error = first;
    for _ in 0..PROBLEMS_MAX {
        let Some(names) = settings_at_fault(&error) else {
            return if problems.list().is_empty() { Err(error) } else { Ok(()) };
        };
        problems.add(first_line(&error));
        for name in &names {
            command = relax(command, name);
        }
        match command.clone().try_get_matches_from(arguments) {
            Ok(_) => return Ok(()),
            Err(next) => error = next,
        }
    }
    Ok(())
}

/// More settings than any service has.
const PROBLEMS_MAX: usize = 100;

fn settings_at_fault(error: &clap::Error) -> Option<Vec<String>> {
    let going_on_helps = matches!(
        error.kind(),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::MissingRequiredArgument
    );
    if !going_on_helps {
        return None;
    }
    match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(name) => Some(vec![name.clone()]),
        ContextValue::Strings(names) => Some(names.clone()),
        _ => None,
    }
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let end = text.find("\n\nUsage").or_else(|| text.find("\n\nFor more")).unwrap_or(text.len());
    text[..end].split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Lets the setting shown as `--name <VALUE>` take anything, or be missing, in every subcommand.
fn relax(command: Command, shown: &str) -> Command {
    let long = shown.trim_start_matches('-').split([' ', '=']).next().unwrap_or(shown).to_owned();
    let ids: Vec<_> = command
        .get_arguments()
        .filter(|argument| argument.get_long() == Some(long.as_str()))
        .map(|argument| argument.get_id().clone())
        .collect();
    let subcommands: Vec<_> =
        command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let command = ids.into_iter().fold(command, |command, id| {
        command.mut_arg(id, |argument| {
            argument
                .required(false)
                .value_parser(Resettable::Value(ValueParser::os_string()))
                .default_value(Resettable::Reset)
        })
    });
    subcommands
        .into_iter()
        .fold(command, |command, name| command.mut_subcommand(name, |sub| relax(sub, shown)))
}

/// Reads a duration such as `250ms`, `8s` or `5m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    text.parse::<SignedDuration>()
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "write a duration with its unit, such as 250ms, 8s or 5m".to_owned())
}

/// Reads the name of a time zone.
pub fn time_zone(text: &str) -> Result<TimeZone, String> {
    TimeZone::get(text).map_err(|_| "write an IANA zone name, such as Asia/Shanghai".to_owned())
}

/// The zone of the devices' wall clocks; all services must agree on it.
#[derive(Debug, Clone, clap::Args)]
pub struct ZoneArgs {
    /// Zone of the devices' wall clocks and of every stored time; the same for all services.
    #[arg(long = "time-zone", env = "TIME_ZONE", default_value = "Asia/Shanghai", value_parser = time_zone)]
    pub zone: TimeZone,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Example {
        #[arg(long)]
        size: u8,
        #[arg(long, value_parser = duration)]
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
            Err(Refusal::Problems(problems)) => problems.0,
            Err(Refusal::Clap(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let found = problems(&["--size", "many", "--age", "8"]);
        assert_eq!(found.len(), 3, "{found:#?}");
        for setting in ["--size", "--age", "--url"] {
            assert!(found.iter().any(|problem| problem.contains(setting)), "{setting}: {found:?}");
        }
        assert_eq!(
            problems(&["--size", "0", "--age", "8s", "--url", "x"]),
            ["--size must be at least 1"]
        );
        assert!(problems(&["--size", "1", "--age", "8s", "--url", "x"]).is_empty());
    }
}
