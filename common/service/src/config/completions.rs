//! Prints the completions of a program for a shell.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::{Shell, generate};

/// Settings of the commands `completions`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct CompletionsArgs {
    /// Shell that reads the completions.
    pub shell: Shell,
}

impl CompletionsArgs {
    /// Prints the completions of the program `T` to standard output.
    pub fn print<T: CommandFactory>(self) -> ExitCode {
        match io::stdout().write_all(&self.completions::<T>()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: cannot print the completions: {error}");
                ExitCode::FAILURE
            }
        }
    }

    /// Returns the completions. The generator itself would panic at a closed output.
    fn completions<T: CommandFactory>(self) -> Vec<u8> {
        let mut command = T::command();
        let (name, mut text) = (command.get_name().to_owned(), Vec::new());
        generate(self.shell, &mut command, name, &mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    #[command(name = "example")]
    enum Example {
        Run {
            #[arg(long)]
            size: u8,
        },
    }

    #[test]
    fn a_shell_learns_the_commands_and_their_settings() {
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let text = CompletionsArgs { shell }.completions::<Example>();
            let text = String::from_utf8(text).unwrap();
            assert!(text.contains("run") && text.contains("size"), "{shell}: {text}");
        }
    }
}
