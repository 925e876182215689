//! Finds every faulty setting of a command line, although clap stops at the first.
//!
//! Removes each faulty setting and parses again. The caller checks combinations of settings.

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;

use clap::builder::{Resettable, ValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command};

use super::problems::Problems;
use super::secret;

/// Collects all faulty settings: adds a problem for each, removes the setting and parses again.
pub(super) struct ErrorCollector {
    command: Command,
    arguments: Vec<OsString>,
    /// Variables of the secret settings, by long name.
    secrets: BTreeMap<String, String>,
    /// Long names of the removed settings.
    faulty: Vec<String>,
    /// Whether a placeholder was not accepted either. No configuration can result then.
    guessing: bool,
}

impl ErrorCollector {
    /// Starts with all settings of `command` and no faulty one.
    pub(super) fn new(command: Command, arguments: Vec<OsString>) -> Self {
        let secrets = secret::secrets(&command, &arguments);
        Self { command, arguments, secrets, faulty: Vec::new(), guessing: false }
    }

    /// Whether `problem` is about a setting that is faulty by itself.
    pub(super) fn found_faulty(&self, problem: &str) -> bool {
        self.faulty.iter().any(|name| mentions(problem, name))
    }

    /// Returns the command, with the secrets of files as defaults, and the variables of the secrets by
    /// long name.
    pub(super) fn into_parts(self) -> (Command, BTreeMap<String, String>) {
        (self.command, self.secrets)
    }

    /// Reads the secrets that are in files, and names the variables of these files in `--help`.
    pub(super) fn read_files(&mut self, problems: &mut Problems) {
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
                    // clap holds a default for the lifetime of the process, so the secret is
                    // leaked.
                    let secret: &'static str = secret.leak();
                    self.change(&name, &|argument| {
                        let argument = argument.env(Resettable::Reset).required(false);
                        argument.default_value(secret).hide_default_value(true)
                    });
                }
                Err(problem) => {
                    problems.add(problem);
                    self.remove_setting(&name);
                    self.faulty.push(name);
                }
            }
        }
    }

    fn change(&mut self, name: &str, how: &dyn Fn(Arg) -> Arg) {
        let command = std::mem::replace(&mut self.command, Command::new("search"));
        self.command = change(command, name, how);
    }

    /// Describes the error, without the value of a secret.
    fn problem(&self, error: &clap::Error, names: &[String]) -> String {
        match (names.iter().find(|name| self.secrets.contains_key(*name)), error.source()) {
            (Some(name), Some(cause)) => format!("--{name}: {cause}"),
            _ => first_line(error),
        }
    }

    /// Parses until no setting is faulty and returns the arguments. Returns `None` if a placeholder
    /// was not accepted, or if parsing cannot continue.
    pub(super) fn go_on(
        &mut self,
        problems: &mut Problems,
    ) -> Result<Option<ArgMatches>, clap::Error> {
        for _ in 0..PROBLEMS_MAX {
            let error = match self.command.clone().try_get_matches_from(&self.arguments) {
                Ok(matches) => return Ok((!self.guessing).then_some(matches)),
                Err(error) => error,
            };
            let Some(names) = settings_at_fault(&error) else {
                return if problems.list().is_empty() { Err(error) } else { Ok(None) };
            };
            if names.iter().all(|name| self.faulty.contains(name)) {
                // The placeholder is not accepted either. Accept any text and search for further
                // faults only.
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
                self.remove_setting(&name);
                self.faulty.push(name);
            }
        }
        Ok(None)
    }

    fn remove_setting(&mut self, name: &str) {
        let flag = format!("--{name}");
        let mut rest = std::mem::take(&mut self.arguments).into_iter();
        while let Some(argument) = rest.next() {
            if argument == flag.as_str() {
                rest.next();
            } else if !is_flag(&argument, &flag) {
                self.arguments.push(argument);
            }
        }
        // The placeholder is the default of the setting, or a word if there is no default.
        self.change(name, &|argument| {
            let without_default = argument.get_default_values().is_empty();
            let argument = argument.required(false).env(Resettable::Reset);
            if without_default { argument.default_value("missing") } else { argument }
        });
    }
}

/// Whether a problem names `--name` itself, not a longer name with the same beginning.
fn mentions(problem: &str, name: &str) -> bool {
    let flag = format!("--{name}");
    problem.split([' ', ',', ':']).any(|word| word == flag)
}

/// Whether an argument is `--name`, alone or with its value.
fn is_flag(argument: &OsString, flag: &str) -> bool {
    let argument = argument.to_string_lossy();
    argument.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

/// Bound of the search: more settings than any service has.
const PROBLEMS_MAX: usize = 100;

/// Returns the long names of the settings that an error is about, if parsing can continue without
/// them.
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
    // clap prints the argument as `--name <VALUE>`.
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
