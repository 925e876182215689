//! `alerter rules check`: the validation of the service, before the service meets the rules.

use std::io;
use std::process::ExitCode;

use crate::commands::rule_source::{SourceArgs, block_on};
use crate::commands::rules::checked;

/// Lists every problem; fails where there is one, or where the rules cannot be read.
pub fn rules_check(config: &SourceArgs) -> ExitCode {
    let checks = block_on(async {
        let pool = config.pool()?;
        Ok(config.source(pool.as_ref())?.load().await?)
    });
    match checks.and_then(|checks| Ok(checked::report(&checks, &mut io::stdout())?)) {
        Ok(summary) if summary.refused == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
