//! Settings of `alerter recipients`.

use anyhow::Context;
use clap::{Args, Subcommand};
use ljwx_ledger::mysql::MySqlArgs;
use ljwx_ledger::mysql::MySqlPool;
use ljwx_service::config::{Problems, ZoneArgs};

use crate::notify::address::{self, DEFAULT_USER, EVERYBODY};
use crate::rules::channel::Channel;

/// The commands of `alerter recipients`.
#[derive(Debug, Clone, Subcommand)]
pub enum RecipientsCommand {
    /// Add an address of a user; a disabled address is tried again.
    Add(AddressArgs),
    /// List addresses, disabled ones with the platform's reason.
    List(AddressListArgs),
    /// Remove an address; exits 1 if the address does not exist.
    Remove(AddressArgs),
}

/// One address of one user.
#[derive(Debug, Clone, Args)]
pub struct AddressArgs {
    /// Tenant.
    #[arg(long)]
    pub customer_id: i64,
    /// User; 0 for every user of the tenant without an own address that serves the rule's word; -1
    /// for the default address of the account, which `add` only enables again.
    #[arg(long, allow_negative_numbers = true)]
    pub user_id: i64,
    /// Kind of the address: openid (of a follower of the official account) or wecom (a member's
    /// user id).
    #[arg(long, value_parser = kind)]
    pub kind: Channel,
    /// Address.
    #[arg(long)]
    pub address: String,
    /// The connection to MySQL.
    #[command(flatten)]
    pub mysql: MySqlArgs,
    /// The devices' zone.
    #[command(flatten)]
    pub zone: ZoneArgs,
}

/// Selects addresses, and the form of the output.
#[derive(Debug, Clone, Args)]
pub struct AddressListArgs {
    /// Only addresses of this tenant.
    #[arg(long)]
    pub customer_id: Option<i64>,
    /// Only addresses of this user.
    #[arg(long)]
    pub user_id: Option<i64>,
    /// Only addresses of this kind: openid or wecom.
    #[arg(long, value_parser = kind)]
    pub kind: Option<Channel>,
    /// Print JSON, for programs.
    #[arg(long)]
    pub json: bool,
    /// The connection to MySQL.
    #[command(flatten)]
    pub mysql: MySqlArgs,
    /// The devices' zone.
    #[command(flatten)]
    pub zone: ZoneArgs,
}

/// Parses the kind of an address that an operator may enter.
pub(in crate::commands) fn kind(text: &str) -> Result<Channel, String> {
    Channel::from_kind(text)
        .filter(|channel| *channel != Channel::Message)
        .ok_or_else(|| "write openid or wecom".to_owned())
}

impl RecipientsCommand {
    /// Adds what is wrong with the settings to `problems`.
    pub fn validate(&self, problems: &mut Problems) {
        let (customer_id, user_id, mysql) = match self {
            Self::Add(entry) | Self::Remove(entry) => {
                (Some(entry.customer_id), Some(entry.user_id), &entry.mysql)
            }
            Self::List(list) => (list.customer_id, list.user_id, &list.mysql),
        };
        mysql.validate(problems);
        problems.require(customer_id.is_none_or(|id| id >= 0), || {
            "--customer-id must not be negative".into()
        });
        problems.require(user_id.is_none_or(|id| id >= DEFAULT_USER), || {
            "--user-id must not be negative; 0 is everybody without an own address, -1 a default \
             address"
                .into()
        });
        // `remove` accepts an invalid address too: the table may hold one.
        if let Self::Add(entry) = self
            && let Err(problem) = address::check(entry.kind, &entry.address)
        {
            problems.add(format!("--address: {problem}"));
        }
    }

    pub(super) fn connect(&self) -> anyhow::Result<MySqlPool> {
        let (mysql, zone) = match self {
            Self::Add(entry) | Self::Remove(entry) => (&entry.mysql, &entry.zone),
            Self::List(list) => (&list.mysql, &list.zone),
        };
        mysql.connect(&zone.zone).context("--mysql-url")
    }
}

impl AddressArgs {
    /// Names the address in words.
    pub(super) fn name(&self) -> String {
        let Self { customer_id, user_id, kind, address, .. } = self;
        let whose = match user_id {
            &EVERYBODY => "everybody without an own one".to_owned(),
            &DEFAULT_USER => "the account's default".to_owned(),
            user_id => format!("user {user_id}"),
        };
        format!("{} address {address} of {whose} in tenant {customer_id}", kind.kind())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Example {
        #[command(subcommand)]
        command: RecipientsCommand,
    }

    fn parse(text: &str) -> Result<RecipientsCommand, clap::Error> {
        let url = ["--mysql-url", "mysql://u@h/d"];
        let words = std::iter::once("example").chain(text.split(' ')).chain(url);
        Example::try_parse_from(words).map(|example| example.command)
    }

    fn problems(text: &str) -> Vec<String> {
        let mut problems = Problems::default();
        parse(text).unwrap().validate(&mut problems);
        problems.list().to_vec()
    }

    #[test]
    fn what_cannot_be_one_person_s_address_is_refused() {
        let add = |rest: &str| problems(&format!("add --customer-id 7 {rest}"));
        assert_eq!(add("--user-id 0 --kind openid --address o1"), [""; 0]);
        assert_eq!(add("--user-id 3 --kind wecom --address zhang.san"), [""; 0]);
        assert_eq!(add("--user-id -1 --kind openid --address o1"), [""; 0]);
        let found = add("--user-id=-2 --kind wecom --address @all");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().any(|problem| problem.starts_with("--address: @all")), "{found:?}");
        for kind in ["message", "fax"] {
            let text = format!("add --customer-id 7 --user-id 3 --kind {kind} --address 1");
            assert!(parse(&text).unwrap_err().to_string().contains("write openid or wecom"));
        }
        // The table may hold the address, written by hand.
        let remove = "remove --customer-id 7 --user-id 3 --kind wecom --address @all";
        assert_eq!(problems(remove), [""; 0]);
    }

    #[test]
    fn nobody_becomes_the_default_by_leaving_the_user_out() {
        let error = parse("add --customer-id 7 --kind openid --address o1").unwrap_err();
        assert!(error.to_string().contains("--user-id"), "{error}");
    }
}
