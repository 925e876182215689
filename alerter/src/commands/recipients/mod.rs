//! `alerter recipients`: the addresses of users, as operators entered them.
//!
//! Changes and prints `t_alert_recipient_address`. A running alerter notices within seconds.

mod args;
mod rows;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use ljwx_service::text::{Align, table_of};

use super::block_on;
pub(super) use args::kind;
pub use args::{AddressArgs, AddressListArgs, RecipientsCommand};
use rows::{AddressRow, LISTED_MAX, add, find, remove};

/// Runs the command to its end. Prints the result on standard output.
pub fn run(command: &RecipientsCommand) -> ExitCode {
    let done = block_on(run_command(command, &mut std::io::stdout()));
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run_command(
    command: &RecipientsCommand,
    out: &mut impl Write,
) -> anyhow::Result<ExitCode> {
    const TABLE: &str = "cannot use t_alert_recipient_address, which `worker migrate` creates";
    let pool = command.connect()?;
    match command {
        RecipientsCommand::Add(entry) => {
            writeln!(out, "{}", add(&pool, entry).await.context(TABLE)?)?;
        }
        RecipientsCommand::List(list) => {
            let found = find(&pool, list).await.context(TABLE)?;
            let shown = &found[..found.len().min(LISTED_MAX)];
            if list.json {
                as_json(shown, out)?
            } else {
                as_table(shown, out)?
            }
            if found.len() > shown.len() {
                eprintln!("there are more: ask for one --customer-id, --user-id or --kind");
            }
        }
        RecipientsCommand::Remove(entry) if remove(&pool, entry).await.context(TABLE)? => {
            writeln!(out, "removed {}", entry.name())?;
        }
        RecipientsCommand::Remove(entry) => {
            eprintln!("error: there is no {}", entry.name());
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(found: &[AddressRow], out: &mut impl Write) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, found)?;
    Ok(writeln!(out)?)
}

fn as_table(found: &[AddressRow], out: &mut impl Write) -> anyhow::Result<()> {
    let head = ["TENANT", "USER", "KIND", "ADDRESS", "ADDED", "REFUSED", "ERRCODE"];
    let none = || "-".to_owned();
    let row = |one: &AddressRow| {
        [
            one.customer_id.to_string(),
            one.user_id.to_string(),
            one.kind.clone(),
            one.address.clone(),
            one.added_at.clone().unwrap_or_else(none),
            one.disabled_at.clone().unwrap_or_else(none),
            one.disabled_errcode.map_or_else(none, |code| code.to_string()),
        ]
    };
    let rows: Vec<_> =
        std::iter::once(head.map(str::to_owned)).chain(found.iter().map(row)).collect();
    Ok(table_of([Align::Left; 7], &rows, out)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed() -> [AddressRow; 2] {
        let told = AddressRow {
            customer_id: 7,
            user_id: 0,
            kind: "openid".into(),
            address: "o1".into(),
            added_at: Some("2025-09-02 12:00:00".into()),
            disabled_at: None,
            disabled_errcode: None,
        };
        let refused = AddressRow {
            user_id: 1001,
            disabled_at: Some("2025-09-03 12:00:00".into()),
            disabled_errcode: Some(43004),
            ..told.clone()
        };
        [told, refused]
    }

    #[test]
    fn a_table_shows_who_is_refused_and_why() {
        let mut out = Vec::new();
        as_table(&listed(), &mut out).unwrap();
        let expected = "\
TENANT  USER  KIND    ADDRESS  ADDED                REFUSED              ERRCODE
7       0     openid  o1       2025-09-02 12:00:00  -                    -
7       1001  openid  o1       2025-09-02 12:00:00  2025-09-03 12:00:00  43004
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn json_holds_the_same() {
        let mut out = Vec::new();
        as_json(&listed(), &mut out).unwrap();
        let found: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(found[0]["disabled_at"], serde_json::Value::Null);
        assert_eq!(found[1]["disabled_errcode"], 43004);
    }
}
