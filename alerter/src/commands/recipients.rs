//! `alerter recipients`: the addresses of users, as operators entered them.
//!
//! Changes and prints `t_alert_recipient_address`. A running alerter notices within seconds.

use std::io::{self, Write};

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use ljwx_ledger::mysql::MySqlPool;
use ljwx_service::config::Problems;
use ljwx_service::text::Align::Left;
use ljwx_service::text::{Column, print_found, table};
use serde::Serialize;
use sqlx::{FromRow, MySql, QueryBuilder};

use super::DatabaseArgs;
use crate::notify::address::{self, DEFAULT_USER, EVERYBODY};
use crate::rules::Channel;

/// Most addresses that are listed.
const LISTED_MAX: usize = 10_000;

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
    /// The tables.
    #[command(flatten)]
    pub tables: DatabaseArgs,
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
    /// The tables.
    #[command(flatten)]
    pub tables: DatabaseArgs,
}

/// Parses the kind of an address that an operator may enter.
pub(super) fn kind(text: &str) -> Result<Channel, String> {
    Channel::from_kind(text)
        .filter(|channel| *channel != Channel::Message)
        .ok_or_else(|| "write openid or wecom".to_owned())
}

impl RecipientsCommand {
    fn tables(&self) -> &DatabaseArgs {
        match self {
            Self::Add(entry) | Self::Remove(entry) => &entry.tables,
            Self::List(list) => &list.tables,
        }
    }

    /// Adds what is wrong with the settings to `problems`.
    pub fn validate(&self, problems: &mut Problems) {
        let (customer_id, user_id) = match self {
            Self::Add(entry) | Self::Remove(entry) => {
                (Some(entry.customer_id), Some(entry.user_id))
            }
            Self::List(list) => (list.customer_id, list.user_id),
        };
        self.tables().validate(problems);
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

    /// Runs the command. Prints the result on standard output.
    pub async fn run(&self) -> anyhow::Result<()> {
        const TABLE: &str = "cannot use t_alert_recipient_address, which `worker migrate` creates";
        let pool = self.tables().connect()?;
        let out = &mut io::stdout();
        match self {
            Self::Add(entry) => writeln!(out, "{}", add(&pool, entry).await.context(TABLE)?)?,
            Self::List(list) => {
                let found = find(&pool, list).await.context(TABLE)?;
                let shown = &found[..found.len().min(LISTED_MAX)];
                print_found(list.json, &shown, out, |shown, out| print(shown, out))?;
                if found.len() > shown.len() {
                    eprintln!("there are more: ask for one --customer-id, --user-id or --kind");
                }
            }
            Self::Remove(entry) => {
                let mut query = query_of_one("DELETE", entry);
                let removed = query.build().execute(&pool).await.context(TABLE)?;
                ensure!(removed.rows_affected() > 0, "there is no {}", entry.name());
                writeln!(out, "removed {}", entry.name())?;
            }
        }
        Ok(())
    }
}

impl AddressArgs {
    /// Names the address in words.
    fn name(&self) -> String {
        let Self { customer_id, user_id, kind, address, .. } = self;
        let whose = match user_id {
            &EVERYBODY => "everybody without an own one".to_owned(),
            &DEFAULT_USER => "the account's default".to_owned(),
            user_id => format!("user {user_id}"),
        };
        format!("{} address {address} of {whose} in tenant {customer_id}", kind.kind())
    }
}

/// An address in the list.
#[derive(Debug, Clone, PartialEq, FromRow, Serialize)]
struct AddressRow {
    customer_id: i64,
    user_id: i64,
    kind: String,
    address: String,
    added_at: Option<String>,
    /// Time since which the address is disabled.
    disabled_at: Option<String>,
    /// The platform's reason.
    disabled_errcode: Option<i64>,
}

/// Selects addresses.
const SELECT: &str = "SELECT customer_id, user_id, kind, address, \
    CAST(create_time AS CHAR) AS added_at, CAST(disabled_at AS CHAR) AS disabled_at, \
    CAST(disabled_errcode AS SIGNED) AS disabled_errcode";

/// Begins a query of the addresses of a tenant, a user and a kind. `None`: any.
fn query_of(
    begin: &str,
    customer_id: Option<i64>,
    user_id: Option<i64>,
    kind: Option<Channel>,
) -> QueryBuilder<MySql> {
    let mut query =
        QueryBuilder::new(format!("{begin} FROM t_alert_recipient_address WHERE 1 = 1"));
    for (column, id) in [("customer_id", customer_id), ("user_id", user_id)] {
        if let Some(id) = id {
            query.push(format!(" AND {column} = ")).push_bind(id);
        }
    }
    if let Some(kind) = kind {
        query.push(" AND kind = ").push_bind(kind.kind());
    }
    query
}

/// Begins a query of one address.
fn query_of_one(begin: &str, entry: &AddressArgs) -> QueryBuilder<MySql> {
    let AddressArgs { customer_id, user_id, kind, address, .. } = entry;
    let mut query = query_of(begin, Some(*customer_id), Some(*user_id), Some(*kind));
    query.push(" AND address = ").push_bind(address);
    query
}

/// Adds an address, or enables it again. Returns the result in words.
async fn add(pool: &MySqlPool, entry: &AddressArgs) -> sqlx::Result<String> {
    let there: Option<AddressRow> =
        query_of_one(SELECT, entry).build_query_as().fetch_optional(pool).await?;
    sqlx::query(
        "INSERT INTO t_alert_recipient_address (customer_id, user_id, kind, address) \
         VALUES (?, ?, ?, ?) ON DUPLICATE KEY UPDATE disabled_at = NULL, disabled_errcode = NULL",
    )
    .bind(entry.customer_id)
    .bind(entry.user_id)
    .bind(entry.kind.kind())
    .bind(&entry.address)
    .execute(pool)
    .await?;
    Ok(match there {
        None => format!("added {}", entry.name()),
        Some(AddressRow { disabled_at: None, .. }) => format!("there was already {}", entry.name()),
        Some(AddressRow { disabled_at: Some(since), disabled_errcode, .. }) => {
            let code = disabled_errcode.map_or_else(|| "?".into(), |code| code.to_string());
            format!("trying again {}, refused since {since} (errcode {code})", entry.name())
        }
    })
}

/// Returns the selected addresses, at most one more than [`LISTED_MAX`].
async fn find(pool: &MySqlPool, list: &AddressListArgs) -> sqlx::Result<Vec<AddressRow>> {
    let mut query = query_of(SELECT, list.customer_id, list.user_id, list.kind);
    query.push(format!(" ORDER BY customer_id, user_id, kind, address LIMIT {}", LISTED_MAX + 1));
    query.build_query_as().fetch_all(pool).await
}

fn print(found: &[AddressRow], out: &mut impl Write) -> io::Result<()> {
    let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let columns: [Column<'_, AddressRow>; 7] = [
        ("TENANT", Left, &|one| one.customer_id.to_string()),
        ("USER", Left, &|one| one.user_id.to_string()),
        ("KIND", Left, &|one| one.kind.clone()),
        ("ADDRESS", Left, &|one| one.address.clone()),
        ("ADDED", Left, &|one| or_none(&one.added_at)),
        ("REFUSED", Left, &|one| or_none(&one.disabled_at)),
        ("ERRCODE", Left, &|one| or_none(&one.disabled_errcode.map(|code| code.to_string()))),
    ];
    table(found, columns, out)
}

#[cfg(test)]
#[path = "recipients_tests.rs"]
mod tests;
