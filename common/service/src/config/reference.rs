//! Holds documents against the definitions of the commands: the tables of `docs/configuration.md`,
//! which are made from the definitions, and the table of exit codes in `docs/commands.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::{Arg, Command, CommandFactory};

/// Variable with which [`hold_settings`] writes the table.
const WRITE: &str = "WRITE_CONFIGURATION";

/// Heading above the table of exit codes.
const EXIT_CODES: &str = "## Exit codes\n";

/// Checks that the documents in `folder` have the settings and the exit codes of the program `T` as
/// its definitions have them. Writes the settings instead if `WRITE_CONFIGURATION` is set.
pub fn hold_documents<T: CommandFactory>(folder: &Path) -> Result<(), String> {
    hold_settings::<T>(&folder.join("configuration.md"))?;
    let commands = fs::read_to_string(folder.join("commands.md"));
    hold_exit_codes::<T>(&commands.map_err(|error| error.to_string())?)
}

/// Compares the table of the program `T` in a document with its definitions. Writes the table instead
/// if `WRITE_CONFIGURATION` is set. The error says what to do.
fn hold_settings<T: CommandFactory>(document: &Path) -> Result<(), String> {
    let mut command = T::command();
    command.build();
    let text = fs::read_to_string(document).map_err(|error| error.to_string())?;
    let begin = format!("<!-- {}, by `make configuration` -->\n", command.get_name());
    let end = "<!-- end -->";
    let lacks = |what: &str| format!("{} lacks {what}", document.display());
    let (before, rest) = text.split_once(&begin).ok_or_else(|| lacks(&begin))?;
    let (table, after) = rest.split_once(end).ok_or_else(|| lacks(end))?;
    let made = settings_table(&command);
    if table == made {
        return Ok(());
    }
    if std::env::var_os(WRITE).is_none() {
        let first = made.lines().find(|line| !table.contains(*line)).unwrap_or("other rows");
        return Err(lacks(&format!("{first}\nrun `make configuration`")));
    }
    let text = [before, &begin, &made, end, after].concat();
    fs::write(document, text).map_err(|error| error.to_string())
}

/// Checks that the table of exit codes names each command of the program `T`, and no other one of it.
fn hold_exit_codes<T: CommandFactory>(document: &str) -> Result<(), String> {
    let mut command = T::command();
    command.build();
    let program = command.get_name().to_owned();
    let (_, rest) = document.split_once(EXIT_CODES).ok_or("no table of exit codes")?;
    let section = rest.split("\n## ").next().unwrap_or_default();
    let first_cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split('|').next());
    let names = first_cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let own = |name: &&str| name.split(' ').next() == Some(&*program);
    let documented: BTreeSet<String> = names.filter(own).map(str::to_owned).collect();
    let defined: BTreeSet<String> = leaves(&command).into_iter().map(|leaf| leaf.name).collect();
    let differing: Vec<&String> = documented.symmetric_difference(&defined).collect();
    if differing.is_empty() { Ok(()) } else { Err(format!("in one of both only: {differing:?}")) }
}

/// A command without subcommands, with those above it.
struct Leaf<'a> {
    /// Its name with those above it, as it is called.
    name: String,
    /// The commands from the program down, whose arguments all hold.
    chain: Vec<&'a Command>,
}

/// Returns the commands that can be called.
fn leaves(command: &Command) -> Vec<Leaf<'_>> {
    let name = command.get_name().to_owned();
    let mut open = vec![Leaf { name, chain: vec![command] }];
    let mut found = Vec::new();
    while let Some(leaf) = open.pop() {
        let below = leaf.chain.last().into_iter().flat_map(|command| command.get_subcommands());
        let below: Vec<_> = below.filter(|command| command.get_name() != "help").collect();
        // The last is taken first.
        open.extend(below.iter().rev().map(|command| Leaf {
            name: format!("{} {}", leaf.name, command.get_name()),
            chain: leaf.chain.iter().copied().chain([*command]).collect(),
        }));
        if below.is_empty() {
            found.push(leaf);
        }
    }
    found
}

/// A setting of one command or of several.
#[derive(PartialEq, Eq)]
struct Row {
    setting: String,
    variable: String,
    default: String,
    meaning: String,
}

/// Returns the table of all settings of a program, a setting that several commands have once.
fn settings_table(program: &Command) -> String {
    let leaves = leaves(program);
    let mut rows: Vec<(Row, Vec<&str>)> = Vec::new();
    for leaf in &leaves {
        let name = leaf.name.split_once(' ').map_or("", |(_, rest)| rest);
        let arguments = leaf.chain.iter().flat_map(|command| command.get_arguments());
        for argument in arguments.filter(|argument| !is_of_clap(argument)) {
            let row = row(argument);
            match rows.iter_mut().find(|(known, _)| *known == row) {
                // A global setting is one of each command in the chain.
                Some((_, commands)) if commands.last() == Some(&name) => {}
                Some((_, commands)) => commands.push(name),
                None => rows.push((row, vec![name])),
            }
        }
    }
    let is_single = leaves.len() == 1;
    let of = |commands: &[&str]| match commands.len() == leaves.len() {
        true => "all".to_owned(),
        false => commands.join(", "),
    };
    let mut table = match is_single {
        true => "| setting | variable | default | meaning |\n|---|---|---|---|\n".to_owned(),
        false => {
            "| setting | variable | default | meaning | of |\n|---|---|---|---|---|\n".to_owned()
        }
    };
    for (row, commands) in &rows {
        let Row { setting, variable, default, meaning } = row;
        let of = if is_single { String::new() } else { format!(" {} |", of(commands)) };
        table.push_str(&format!("| {setting} | {variable} | {default} | {meaning} |{of}\n"));
    }
    table
}

/// Whether an argument is one that clap adds.
fn is_of_clap(argument: &Arg) -> bool {
    matches!(argument.get_id().as_str(), "help" | "version")
}

fn row(argument: &Arg) -> Row {
    let id = argument.get_id().as_str();
    let long = argument.get_long().map(|long| format!("--{long}"));
    let setting = long.unwrap_or_else(|| id.to_uppercase());
    let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned());
    let variable = variable.map(|name| match argument.is_hide_env_values_set() {
        true => format!("`{name}`, `{name}_FILE`"),
        false => format!("`{name}`"),
    });
    let defaults = argument.get_default_values().iter().map(|value| value.to_string_lossy());
    let defaults: Vec<_> = defaults.collect();
    let default = match (argument.is_required_set(), defaults.is_empty()) {
        (true, _) => "required".to_owned(),
        (false, true) => "unset".to_owned(),
        (false, false) if defaults.iter().all(|value| value.is_empty()) => "empty".to_owned(),
        (false, false) => format!("`{}`", defaults.join(",")),
    };
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let values = argument.get_possible_values();
    let values: Vec<_> = values.iter().map(|value| format!("`{}`", value.get_name())).collect();
    let choice = match values.is_empty() {
        true => String::new(),
        false => format!(": {}", values.join(", ")),
    };
    Row {
        setting: format!("`{setting}`"),
        variable: variable.unwrap_or_default(),
        default,
        meaning: format!("{help}{choice}").replace('|', "\\|"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    #[command(name = "example", version)]
    enum Example {
        Run(Shared),
        List {
            #[command(flatten)]
            shared: Shared,
            /// The kind.
            #[arg(long, value_parser = ["a", "b"], global = true)]
            kind: Option<String>,
            #[command(subcommand)]
            action: Action,
        },
    }

    #[derive(clap::Subcommand)]
    enum Action {
        All,
        One {
            /// Its number.
            number: u8,
        },
    }

    #[derive(clap::Args)]
    struct Shared {
        /// Place | time.
        #[arg(long, env = "EXAMPLE_PLACE", default_value = "here")]
        place: String,
        /// The key.
        #[arg(long, env = "EXAMPLE_KEY", hide_env_values = true)]
        key: String,
    }

    #[test]
    fn each_setting_has_a_row_with_the_commands_that_have_it() {
        let mut command = Example::command();
        command.build();
        let expected = "| setting | variable | default | meaning | of |\n|---|---|---|---|---|\n\
            | `--place` | `EXAMPLE_PLACE` | `here` | Place \\| time | all |\n\
            | `--key` | `EXAMPLE_KEY`, `EXAMPLE_KEY_FILE` | required | The key | all |\n\
            | `--kind` |  | unset | The kind: `a`, `b` | list all, list one |\n\
            | `NUMBER` |  | required | Its number | list one |\n";
        assert_eq!(settings_table(&command), expected);
    }

    #[test]
    fn a_command_without_exit_codes_and_codes_of_no_command_are_named() {
        let text =
            |rows: &str| format!("# A\n\n## Exit codes\n\n{rows}\n## Next\n| `example x` |\n");
        let all = "| `example run`, `example list all` | 0 |\n| `example list one` | 0 |\n\
                   | `other` | 0 |\n";
        assert_eq!(hold_exit_codes::<Example>(&text(all)), Ok(()));
        for (rows, named) in [
            (all.replace("`example run`, ", ""), "example run"),
            (all.replace("`other`", "`example fly`"), "example fly"),
        ] {
            let error = hold_exit_codes::<Example>(&text(&rows)).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
        assert!(hold_exit_codes::<Example>("").is_err());
    }
}
