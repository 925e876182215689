//! `alerter accounts check`: checks the accounts of tenants without a message.
//!
//! Prints one line for each account. [`crate::notify::wechat`] asks the platforms.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Subcommand};
use ljwx_service::config::Problems;
use ljwx_service::text::one_line;

use super::DatabaseArgs;
use crate::notify::recipients::{self, TenantAccounts};
use crate::notify::wechat::{Account, Platforms, WechatArgs};

/// The commands of `alerter accounts`.
#[derive(Debug, Clone, Subcommand)]
pub enum AccountsCommand {
    /// Check that each account gets a token, that the template has the fields of its map, and that
    /// the application of WeCom is there; notifies no one. Exits 1 while there is a problem.
    Check(Box<AccountsCheckArgs>),
}

/// Settings of `accounts check`.
#[derive(Debug, Clone, Args)]
pub struct AccountsCheckArgs {
    /// Only accounts of this tenant.
    #[arg(long)]
    pub customer_id: Option<i64>,
    /// The tables.
    #[command(flatten)]
    pub tables: DatabaseArgs,
    /// The platforms, and the account of a single-tenant installation.
    #[command(flatten)]
    pub wechat: WechatArgs,
}

impl AccountsCommand {
    pub(crate) fn validate(&self, problems: &mut Problems) {
        let Self::Check(config) = self;
        config.tables.validate(problems);
        config.wechat.validate(problems);
    }
}

/// Runs the command. Prints the result on standard output.
pub async fn run(command: &AccountsCommand) -> anyhow::Result<ExitCode> {
    let AccountsCommand::Check(config) = command;
    let out = &mut io::stdout();
    let pool = config.tables.connect()?;
    let table = recipients::all_accounts(pool).await.context("cannot read the accounts")?;
    let (faults, accounts) = (faults(&table, config.customer_id), accounts(&table, config));
    let mut all_ok = faults.is_empty() && !accounts.is_empty();
    if faults.is_empty() && accounts.is_empty() {
        print("no account", &["enter one in t_wechat_alarm_config".to_owned()], None, out)?;
    }
    for (whose, text) in faults {
        print(&whose, &[text], None, out)?;
    }
    for (whose, account) in accounts {
        // A client for each account: a client keeps the tokens of accounts by their names, and the
        // token of one tenant would hide the wrong secret of another.
        let platforms = Platforms::new(&config.wechat, None);
        let platforms = platforms.context("cannot create the HTTP clients")?;
        let checked = platforms.check(&account).await;
        let found = checked.unwrap_or_else(|failure| vec![failure.advice()]);
        print(&format!("{whose}, {}", account.name), &found, hint(&account), out)?;
        all_ok &= found.is_empty();
    }
    Ok(if all_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the faults of rows, each with its tenant in words.
fn faults(table: &TenantAccounts, customer_id: Option<i64>) -> Vec<(String, String)> {
    let wanted = |of: Option<i64>| customer_id.is_none() || of == customer_id;
    let faults = table.faults.iter().filter(|fault| wanted(fault.customer_id));
    let in_words = faults.map(|fault| {
        let whose = fault.customer_id.map_or_else(|| "no tenant".to_owned(), tenant);
        (whose, fault.text.clone())
    });
    in_words.collect()
}

/// Returns the accounts to check, each with its tenant in words.
fn accounts(table: &TenantAccounts, config: &AccountsCheckArgs) -> Vec<(String, Arc<Account>)> {
    let wanted = |customer_id: i64| config.customer_id.is_none_or(|id| id == customer_id);
    let of_tenants = table.tenants.iter().filter(|(customer_id, _)| wanted(**customer_id));
    let of_tenants = of_tenants.map(|(customer_id, own)| (tenant(*customer_id), Arc::clone(own)));
    // As for notifications, the installation's account serves only while the table has no row.
    let single = || ("every tenant".to_owned(), Arc::new(config.wechat.accounts()));
    let all = of_tenants.chain(table.is_empty.then(single));
    all.flat_map(|(whose, accounts)| {
        let of = |account: &Arc<Account>| (whose.clone(), Arc::clone(account));
        accounts.usable().map(of).collect::<Vec<_>>()
    })
    .collect()
}

fn tenant(customer_id: i64) -> String {
    format!("tenant {customer_id}")
}

/// Returns what would make the account's messages clearer, though nothing is wrong.
fn hint(account: &Account) -> Option<&'static str> {
    (!account.template()?.shows_count())
        .then_some("no field shows the number of alerts, map count or event in template_fields")
}

/// Prints the result of one check.
fn print(of: &str, found: &[String], hint: Option<&str>, out: &mut impl Write) -> io::Result<()> {
    let hint = hint.map(|hint| format!("; hint: {hint}")).unwrap_or_default();
    if found.is_empty() {
        return writeln!(out, "{of}: ok{hint}");
    }
    writeln!(out, "{of}: problem: {}{hint}", one_line(&found.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_one_line_whatever_the_number_of_its_problems() {
        let problems = ["no field a".to_owned(), "no\nfield b".to_owned()];
        let mut out = Vec::new();
        print("tenant 7, official:wx7", &[], None, &mut out).unwrap();
        print("tenant 7, official:wx8", &[], Some("map count"), &mut out).unwrap();
        print("tenant 8, wecom:ww8:5", &problems, None, &mut out).unwrap();
        let expected = "tenant 7, official:wx7: ok\n\
                        tenant 7, official:wx8: ok; hint: map count\n\
                        tenant 8, wecom:ww8:5: problem: no field a; no field b\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
