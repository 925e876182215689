//! Tells the settings in force, for `GET /config`. The values of secrets are masked.
//!
//! A setting is secret if `--help` hides the value of its variable.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::OnceLock;

use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use crate::text::one_line;

/// Text in the place of a secret.
const MASK: &str = "***";

/// The settings of this process, which has one configuration.
static IN_FORCE: OnceLock<String> = OnceLock::new();

/// Returns the settings in force, one a line, as `NAME=value  # source`. Empty before they are
/// parsed.
pub fn in_force() -> &'static str {
    IN_FORCE.get().map_or("", String::as_str)
}

/// Keeps the settings for [`in_force`].
pub(super) fn keep(settings: String) {
    // A process parses its settings once.
    let _ = IN_FORCE.set(settings);
}

/// Returns the settings that `matches` of a command hold, those of its subcommands included.
/// `secrets` are the variables of the secret settings, by long name.
pub(super) fn settings(
    mut command: Command,
    secrets: &BTreeMap<String, String>,
    matches: &ArgMatches,
) -> String {
    command.build();
    let mut lines = String::new();
    let (mut command, mut matches) = (&command, matches);
    loop {
        for argument in command.get_arguments().filter(|argument| is_setting(argument)) {
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "{}", line(argument, secrets, matches));
        }
        let Some((name, inner)) = matches.subcommand() else { return lines };
        let Some(found) = command.find_subcommand(name) else { return lines };
        (command, matches) = (found, inner);
    }
}

/// Whether an argument has a value: `--help` and `--version` have none.
fn is_setting(argument: &Arg) -> bool {
    !matches!(argument.get_id().as_str(), "help" | "version")
}

fn line(argument: &Arg, secrets: &BTreeMap<String, String>, matches: &ArgMatches) -> String {
    let id = argument.get_id().as_str();
    let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned());
    // A secret from a file is its setting's default, and has lost its variable.
    let is_of_file = argument.is_hide_default_value_set();
    let of_secret = argument.get_long().and_then(|long| secrets.get(long)).cloned();
    let flag = || argument.get_long().map_or_else(|| id.to_owned(), |long| format!("--{long}"));
    let name = variable.or(of_secret).unwrap_or_else(flag);
    let source = match matches.value_source(id) {
        Some(ValueSource::DefaultValue) if is_of_file => "file",
        Some(ValueSource::DefaultValue) => "default",
        Some(ValueSource::EnvVariable) => "environment",
        Some(_) => "command line",
        None => return format!("{name}=  # unset"),
    };
    let values = matches.get_raw(id).into_iter().flatten();
    let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
    let value = match argument.is_hide_env_values_set() {
        true => MASK.to_owned(),
        false => one_line(&values.join(",")),
    };
    format!("{name}={value}  # {source}")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::builder::Resettable;

    use super::*;

    #[derive(clap::Parser)]
    #[command(name = "example", version)]
    enum Example {
        Run(Settings),
    }

    #[derive(clap::Args)]
    struct Settings {
        #[arg(long, env = "EXAMPLE_SIZE", default_value_t = 7)]
        size: u8,
        #[arg(long)]
        names: Vec<String>,
        #[arg(long)]
        quiet: bool,
        #[arg(long, env = "EXAMPLE_KEY", hide_env_values = true)]
        key: Option<String>,
        #[arg(long, env = "EXAMPLE_OTHER_KEY", hide_env_values = true)]
        other_key: Option<String>,
    }

    #[test]
    fn every_setting_is_shown_with_its_source_and_no_secret_is() {
        let arguments =
            ["example", "run", "--names", "a", "--names", "b\nc", "--key", "hush", "--size", "9"];
        let matches = Example::command().try_get_matches_from(arguments).unwrap();
        let shown = settings(Example::command(), &BTreeMap::new(), &matches);
        let expected = "EXAMPLE_SIZE=9  # command line\n--names=a,b c  # command line\n\
                        --quiet=false  # default\nEXAMPLE_KEY=***  # command line\n\
                        EXAMPLE_OTHER_KEY=  # unset\n";
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_secret_from_a_file_has_the_name_of_its_variable() {
        // As `ErrorCollector::read_files` leaves a setting whose file it has read.
        let of_file =
            |key: Arg| key.env(Resettable::Reset).default_value("hush").hide_default_value(true);
        let command = Example::command();
        let command = command.mut_subcommand("run", |run| run.mut_arg("other_key", of_file));
        let matches = command.clone().try_get_matches_from(["example", "run"]).unwrap();
        let names = [("other-key".to_owned(), "EXAMPLE_OTHER_KEY".to_owned())];
        let shown = settings(command, &BTreeMap::from(names), &matches);
        assert!(shown.contains("\nEXAMPLE_OTHER_KEY=***  # file\n"), "{shown}");
    }
}
