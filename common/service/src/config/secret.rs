//! Reads secret settings, also from a file that the variable `NAME_FILE` names. No message shows a
//! secret.
//!
//! A setting is secret if `--help` hides the value of its variable.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use clap::Command;

/// Returns the variables of the secret settings by long name: those of a command, and those of the
/// subcommands that `arguments` may mean.
pub(super) fn secrets(command: &Command, arguments: &[OsString]) -> BTreeMap<String, String> {
    let variable = |argument: &clap::Arg| {
        let hidden = argument.is_hide_env_values_set();
        let variable = argument.get_env().filter(|_| hidden)?.to_str()?;
        Some((argument.get_long()?.to_owned(), variable.to_owned()))
    };
    let meant = |sub: &&Command| arguments.iter().any(|argument| argument == sub.get_name());
    let deeper = command.get_subcommands().filter(meant);
    let deeper = deeper.flat_map(|sub| secrets(sub, arguments));
    command.get_arguments().filter_map(variable).chain(deeper).collect()
}

/// Reads the secret from the file that `{variable}_FILE` names, without trailing line ends. Returns
/// `None` if this variable is not set. The error names the variable and the remedy.
pub(super) fn from_file(variable: &str, given: bool) -> Result<Option<String>, String> {
    let of_file = format!("{variable}_FILE");
    let Some(path) = std::env::var_os(&of_file).filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    if given {
        return Err(format!("{of_file} and {variable} are both given: keep one of them"));
    }
    let path = Path::new(&path);
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned())),
        Err(error) => Err(format!("{of_file}: {} cannot be read: {error}", path.display())),
    }
}
