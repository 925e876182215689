//! Reading the command line and the environment so that every problem is reported at once.
//!
//! Clap stops at the first wrong value; an operator who fixes settings one restart at a time is an
//! operator awake at night. [`parse`] goes on after each problem and lists them all.

mod secret;
mod values;

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::time::Duration;

use clap::builder::{Resettable, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command, CommandFactory, FromArgMatches};
use jiff::SignedDuration;
use jiff::tz::TimeZone;

pub use values::When;

/// Exit code for a configuration that is refused.
pub const EXIT_CONFIG: i32 = 2;

/// Longest name of a consumer group; as long as the ledger's column.
const GROUP_BYTES_MAX: usize = 64;

/// What named the group of workers and alerters alike. A shared environment then put both into one
/// group, where each kind passed what only the other had dealt with.
const FORMER_GROUP: &str = "CONSUMER_GROUP";

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

    /// Notes what is wrong with a consumer group, which `variable` sets; a problem that is known is not
    /// noted twice.
    pub fn check_group(&mut self, group: &str, variable: &str) {
        self.require(!group.trim().is_empty() && group.len() <= GROUP_BYTES_MAX, || {
            format!("--group must have 1 to {GROUP_BYTES_MAX} characters")
        });
        let former = format!(
            "{FORMER_GROUP} is set: one name for workers and alerters loses readings, so set {variable} \
             in its place"
        );
        if std::env::var_os(FORMER_GROUP).is_some() && !self.0.contains(&former) {
            self.add(former);
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
    let command = T::command();
    let secrets = secret::secrets(&command, &arguments);
    let mut search = Search { command, arguments, secrets, faulty: Vec::new(), guessing: false };
    let mut problems = Problems::default();
    search.read_files(&mut problems);
    let matches = search.go_on(&mut problems).map_err(Refusal::Clap)?;
    let Some(matches) = matches else { return Err(Refusal::Problems(problems)) };
    let config = T::from_arg_matches(&matches).map_err(Refusal::Clap)?;
    let mut combined = Problems::default();
    config.validate(&mut combined);
    // A setting that is wrong by itself stands at a stand-in's value: no more is to be said of it.
    let faulty = |problem: &String| search.faulty.iter().any(|name| mentions(problem, name));
    combined.0.into_iter().filter(|problem| !faulty(problem)).for_each(|found| problems.add(found));
    if problems.list().is_empty() { Ok(config) } else { Err(Refusal::Problems(problems)) }
}

/// Whether a problem is about `--name` and not merely about one that begins alike.
fn mentions(problem: &str, name: &str) -> bool {
    let flag = format!("--{name}");
    problem.split([' ', ',', ':']).any(|word| word == flag)
}

/// The way through all faulty settings: each is noted, taken away, and parsing tried again.
struct Search {
    command: Command,
    arguments: Vec<OsString>,
    /// Variables of the secret settings, by long name.
    secrets: BTreeMap<String, String>,
    /// Long names of the settings that were taken away.
    faulty: Vec<String>,
    /// Whether some setting's value means nothing any more.
    guessing: bool,
}

impl Search {
    /// Takes the secrets that are in files, and names those files in `--help`.
    fn read_files(&mut self, problems: &mut Problems) {
        for (name, variable) in self.secrets.clone() {
            self.change(&name, &|argument| {
                let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
                argument.help(format!("{help} [file: {variable}_FILE]"))
            });
            let flag = format!("--{name}");
            let given = std::env::var_os(&variable).is_some_and(|value| !value.is_empty())
                || self.arguments.iter().any(|argument| is_flag(argument, &flag));
            match secret::from_file(&variable, given) {
                Ok(None) => {}
                Ok(Some(secret)) => {
                    // For as long as the process: clap holds defaults that way.
                    let secret: &'static str = secret.leak();
                    self.change(&name, &|argument| {
                        let argument = argument.env(Resettable::Reset).required(false);
                        argument.default_value(secret).hide_default_value(true)
                    });
                }
                Err(problem) => {
                    problems.add(problem);
                    self.take_away(&name);
                    self.faulty.push(name);
                }
            }
        }
    }

    fn change(&mut self, name: &str, how: &dyn Fn(Arg) -> Arg) {
        let command = std::mem::replace(&mut self.command, Command::new("search"));
        self.command = change(command, name, how);
    }

    /// What is wrong, without the value of a secret.
    fn problem(&self, error: &clap::Error, names: &[String]) -> String {
        match (names.iter().find(|name| self.secrets.contains_key(*name)), error.source()) {
            (Some(name), Some(cause)) => format!("--{name}: {cause}"),
            _ => first_line(error),
        }
    }

    /// What remains once the faulty settings are away; `None` where nothing can stand in for them.
    fn go_on(&mut self, problems: &mut Problems) -> Result<Option<ArgMatches>, clap::Error> {
        for _ in 0..PROBLEMS_MAX {
            let error = match self.command.clone().try_get_matches_from(&self.arguments) {
                Ok(matches) => return Ok((!self.guessing).then_some(matches)),
                Err(error) => error,
            };
            let Some(names) = settings_at_fault(&error) else {
                return if problems.list().is_empty() { Err(error) } else { Ok(None) };
            };
            if names.iter().all(|name| self.faulty.contains(name)) {
                // The stand-in does not do either; from here on only further faults are looked for.
                self.guessing = true;
                for name in names {
                    self.change(&name, &|argument| {
                        argument.value_parser(Resettable::Value(ValueParser::os_string()))
                    });
                }
                continue;
            }
            problems.add(self.problem(&error, &names));
            for name in names {
                self.take_away(&name);
                self.faulty.push(name);
            }
        }
        Ok(None)
    }

    fn take_away(&mut self, name: &str) {
        let flag = format!("--{name}");
        let mut rest = std::mem::take(&mut self.arguments).into_iter();
        while let Some(argument) = rest.next() {
            if argument == flag.as_str() {
                rest.next();
            } else if !is_flag(&argument, &flag) {
                self.arguments.push(argument);
            }
        }
        // Its default stands in, or a word where it has none.
        self.change(name, &|argument| {
            let without_default = argument.get_default_values().is_empty();
            let argument = argument.required(false).env(Resettable::Reset);
            if without_default { argument.default_value("missing") } else { argument }
        });
    }
}

/// Whether an argument is `--name`, alone or with its value.
fn is_flag(argument: &OsString, flag: &str) -> bool {
    let argument = argument.to_string_lossy();
    argument.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

/// More settings than any service has.
const PROBLEMS_MAX: usize = 100;

/// The long names of the settings that an error is about, where going on without them helps.
fn settings_at_fault(error: &clap::Error) -> Option<Vec<String>> {
    let going_on_helps = matches!(
        error.kind(),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::MissingRequiredArgument
    );
    if !going_on_helps {
        return None;
    }
    let shown = match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(shown) => vec![shown.clone()],
        ContextValue::Strings(shown) => shown.clone(),
        _ => return None,
    };
    // Shown as `--name <VALUE>`.
    let long = |shown: &String| {
        shown.trim_start_matches('-').split([' ', '=']).next().unwrap_or_default().to_owned()
    };
    Some(shown.iter().map(long).collect())
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let end = text.find("\n\nUsage").or_else(|| text.find("\n\nFor more")).unwrap_or(text.len());
    text[..end].split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Changes the setting `--name` in a command and all its subcommands.
fn change(command: Command, name: &str, how: &dyn Fn(Arg) -> Arg) -> Command {
    let found = command.get_arguments().find(|argument| argument.get_long() == Some(name));
    let found = found.map(|argument| argument.get_id().clone());
    let subcommands: Vec<_> =
        command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let command = match found {
        Some(id) => command.mut_arg(id, how),
        None => command,
    };
    subcommands
        .into_iter()
        .fold(command, |command, sub| command.mut_subcommand(sub, |sub| change(sub, name, how)))
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
        let found = problems(&["--size", "0", "--age", "soon", "--url", "x"]);
        assert_eq!(found.len(), 2, "one value and one combination: {found:?}");
        assert_eq!(
            problems(&["--size", "0", "--age", "8s", "--url", "x"]),
            ["--size must be at least 1"]
        );
        assert!(problems(&["--size", "1", "--age", "8s", "--url", "x"]).is_empty());
    }
}
