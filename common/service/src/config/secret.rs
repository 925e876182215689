//! Secret settings: each may be in a file instead, which the variable `NAME_FILE` names, and no message
//! shows its value. A setting is secret where `--help` hides the value of its variable.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use clap::Command;

/// The variable of each secret setting, by its long name, of a command and those of its subcommands that
/// `arguments` may mean.
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

/// The secret that the file named by `{variable}_FILE` holds, without the end of its last line; `None` if
/// there is no such variable. The error names the variable and the remedy.
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
