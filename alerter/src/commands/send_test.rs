//! `alerter send-test`: sends a person a message about no alert, as an alert's message is sent.
//!
//! Prints what the person sees and what the platform answers. Writes no row.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use jiff::civil::DateTime;
use ljwx_service::config::Problems;
use ljwx_service::text::{Align, one_line, table_of};
use serde_json::Value;
use uuid::Uuid;

use super::DatabaseArgs;
use super::recipients::kind;
use crate::engine::episode::TransitionKind;
use crate::notify::address::{self, Address};
use crate::notify::notice::Notice;
use crate::notify::recipients::Directory;
use crate::notify::wechat::{self, Platforms, WechatArgs};
use crate::rules::{Channel, Severity, Vital};

/// Stands for the wearer. A template without marks shows the wearer or the device.
const WEARER: &str = "测试";

/// Stands for the serial number.
const DEVICE: &str = "TEST";

/// Stands for the rule's text.
const TEXT: &str = "测试消息，没有告警";

/// Settings of `send-test`.
#[derive(Debug, Clone, Args)]
pub struct SendTestArgs {
    /// Tenant whose account sends.
    #[arg(long)]
    pub customer_id: i64,
    /// User, who gets the message at the address that an alert would find; 0 for the address of
    /// users without an own one. Either this, or --kind and --address.
    #[arg(long)]
    pub user_id: Option<i64>,
    /// Kind of the address: openid (of a follower of the official account) or wecom (a member's
    /// user id).
    #[arg(long, value_parser = kind)]
    pub kind: Option<Channel>,
    /// Address.
    #[arg(long)]
    pub address: Option<String>,
    /// Severity of the message: info, minor, moderate, major or critical.
    #[arg(long, value_parser = severity, default_value = "critical")]
    pub severity: Severity,
    /// Kind of the message.
    #[arg(long, value_enum, default_value = "opened")]
    pub what: TestMessage,
    /// Only print the message.
    #[arg(long)]
    pub dry_run: bool,
    /// The tables.
    #[command(flatten)]
    pub tables: DatabaseArgs,
    /// The platforms, and the account of a single-tenant installation.
    #[command(flatten)]
    pub wechat: WechatArgs,
}

/// The kinds of messages to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TestMessage {
    /// An alert opened.
    Opened,
    /// An alert ended.
    Resolved,
    /// Several alerts in one message.
    Digest,
}

fn severity(text: &str) -> Result<Severity, String> {
    let word = "write info, minor, moderate, major or critical";
    Severity::from_word(text).ok_or_else(|| word.to_owned())
}

impl SendTestArgs {
    pub(crate) fn validate(&self, problems: &mut Problems) {
        self.tables.validate(problems);
        self.wechat.validate(problems);
        match (self.user_id, self.kind, &self.address) {
            (Some(user_id), None, None) => problems.require(user_id >= 0, || {
                "--user-id must not be negative; 0 is everybody without an own address".into()
            }),
            (None, Some(kind), Some(address)) => {
                if let Err(problem) = address::check(kind, address) {
                    problems.add(format!("--address: {problem}"));
                }
            }
            _ => problems.add("name the person: either --user-id, or --kind and --address"),
        }
    }

    async fn addresses(&self, directory: &Directory) -> anyhow::Result<Vec<Address>> {
        if let (Some(channel), Some(name)) = (self.kind, self.address.clone()) {
            return Ok(vec![Address { channel, name }]);
        }
        let (user_id, customer_id) = (self.user_id.context("--user-id")?, self.customer_id);
        let own = directory.own_addresses(customer_id, user_id).await?;
        ensure!(
            !own.is_empty(),
            "user {user_id} of tenant {customer_id} has no address of a kind for which the tenant \
             has an account: see `alerter recipients list` and `alerter accounts check`"
        );
        Ok(own)
    }
}

/// Runs the command. Prints the result on standard output.
pub async fn run(config: &SendTestArgs) -> anyhow::Result<ExitCode> {
    let out = &mut io::stdout();
    let SendTestArgs { customer_id, what, severity, .. } = *config;
    let pool = config.tables.connect()?;
    let directory = Directory::new(pool, config.wechat.accounts());
    let accounts = directory.accounts(customer_id).await?;
    let addresses = config.addresses(&directory).await?;
    // Without Redis: both platforms give every caller the same token.
    let platforms =
        Platforms::new(&config.wechat, None).context("cannot create the HTTP clients")?;
    let notice = notice(what, severity, config.tables.zone.zone.to_datetime(Timestamp::now()));
    let mut all_sent = true;
    for address in addresses {
        let account = accounts.of(address.channel).with_context(|| {
            format!(
                "tenant {customer_id} has no account for {address}: see `alerter accounts check`"
            )
        })?;
        let id = Uuid::new_v4().simple().to_string();
        let request = wechat::request(account, &address.name, &id, &notice);
        writeln!(out, "{} to {address}", account.name)?;
        if let Some(until) = directory.addresses.disabled_until(customer_id, &address).await? {
            writeln!(out, "disabled until {until}: alerts do not use this address")?;
        }
        print_fields(&request, out)?;
        if config.dry_run {
            writeln!(out, "not sent: --dry-run")?;
            continue;
        }
        match platforms.send(account, &request).await {
            Ok(()) => writeln!(out, "sent: errcode 0")?,
            Err(failure) => {
                let sent = if failure.uncertain { "perhaps sent" } else { "not sent" };
                writeln!(out, "{sent}: {}", one_line(&failure.advice()))?;
                all_sent = false;
            }
        }
    }
    Ok(if all_sent { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns the notice of a test message.
fn notice(what: TestMessage, severity: Severity, wall: DateTime) -> Notice {
    let opened = Notice {
        value: Some(151.0),
        bound: Some(140.0),
        device_sn: DEVICE.to_owned(),
        user: WEARER.to_owned(),
        text: TEXT.to_owned(),
        test: true,
        ..Notice::new(TransitionKind::Opened, severity, Vital::HeartRate, wall)
    };
    let resolved = Notice {
        transition: TransitionKind::Resolved,
        value: Some(88.0),
        bound: None,
        ..opened.clone()
    };
    match what {
        TestMessage::Opened => opened,
        TestMessage::Resolved => resolved,
        TestMessage::Digest => {
            let alerts = [&opened, &resolved].map(Notice::headline_text);
            let text = format!("{TEXT}\n{}", alerts.join("\n"));
            Notice { value: None, bound: None, digest_of: Some(alerts.len()), text, ..opened }
        }
    }
}

/// Prints each field of a request as the person sees it, with its length.
fn print_fields(request: &[u8], out: &mut impl Write) -> anyhow::Result<()> {
    let request: Value = serde_json::from_slice(request)?;
    let mut rows = Vec::new();
    for (name, field) in request["data"].as_object().into_iter().flatten() {
        let value = field["value"].as_str().unwrap_or_default();
        let length = format!("{} characters", value.chars().count());
        rows.push([name.clone(), length, value.to_owned()]);
    }
    for form in ["text", "markdown"] {
        let Some(content) = request[form]["content"].as_str() else { continue };
        let mut lines = content.lines().map(str::to_owned);
        let length = format!("{} bytes", content.len());
        rows.push([form.to_owned(), length, lines.next().unwrap_or_default()]);
        rows.extend(lines.map(|line| [String::new(), String::new(), line]));
    }
    Ok(table_of([Align::Left, Align::Right, Align::Left], &rows, out)?)
}

#[cfg(test)]
#[path = "send_test_tests.rs"]
mod tests;
