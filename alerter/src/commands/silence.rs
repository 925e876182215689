//! `alerter silence`: adds, lists and ends silences.
//!
//! Every replica of the alerter reads the table, so the commands notify no process.
//! [`crate::notify::silences::table`] holds the statements.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use ljwx_reading::{DeviceSn, wall_text_of};
use ljwx_service::config::{Problems, TimeArg, duration};
use ljwx_service::text::Align::{Left, Right};
use ljwx_service::text::{self, Column, print_found};
use serde::Serialize;

use super::{DatabaseArgs, device_sn};
use crate::notify::outbox::milliseconds;
use crate::notify::silences::table::{self, NewSilence, SilenceRow, UNFINISHED_MAX};

/// Latest end of a silence after it was added, because a forgotten silence hides alerts.
const ENDS_WITHIN: Duration = Duration::from_secs(30 * 86_400);

/// Longest reason, in characters.
const REASON_CHARS_MAX: usize = 255;

/// Longest name of an author, in characters.
const AUTHOR_CHARS_MAX: usize = 64;

/// Most silences that are listed: the newest.
const LISTED_MAX: usize = 1_000;

/// The commands of `alerter silence`.
#[derive(Debug, Clone, Subcommand)]
pub enum SilenceCommand {
    /// Suppress notifications for a period; alerts are still recorded, and alerts still open at the
    /// end are notified then.
    Add(Box<SilenceAddArgs>),
    /// List silences in effect or planned.
    List(SilenceListArgs),
    /// End a silence early.
    End(SilenceEndArgs),
}

/// Settings of `silence add`.
#[derive(Debug, Clone, Args)]
pub struct SilenceAddArgs {
    /// Reason, for people who wonder why no notification was sent.
    #[arg(long)]
    pub reason: String,
    /// Duration of the silence, such as 90m or 2h; at most 30 days.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub lasts: Option<Duration>,
    /// End of the silence, as `yyyy-MM-dd HH:mm:ss` in the devices' zone or RFC 3339; within 30
    /// days.
    #[arg(long, value_name = "T", value_parser = TimeArg::parse)]
    pub until: Option<TimeArg>,
    /// Start of the silence; none: at once.
    #[arg(long, value_name = "T", value_parser = TimeArg::parse)]
    pub from: Option<TimeArg>,
    /// Only this tenant.
    #[arg(long)]
    pub customer_id: Option<i64>,
    /// Only this device.
    #[arg(long, value_parser = device_sn)]
    pub device: Option<DeviceSn>,
    /// Only this rule.
    #[arg(long)]
    pub rule_id: Option<i64>,
    /// Everything: no notification of any tenant is sent, and those that are pending wait.
    #[arg(long)]
    pub all: bool,
    /// Author of the silence.
    #[arg(long, env = "USER")]
    pub author: String,
    /// The tables.
    #[command(flatten)]
    pub tables: DatabaseArgs,
}

/// Settings of `silence list`.
#[derive(Debug, Clone, Args)]
pub struct SilenceListArgs {
    /// Also silences that are over: who silenced what, when and why, for 400 days.
    #[arg(long)]
    pub all: bool,
    /// Print one JSON document instead of a table.
    #[arg(long)]
    pub json: bool,
    /// The tables.
    #[command(flatten)]
    pub tables: DatabaseArgs,
}

/// Settings of `silence end`.
#[derive(Debug, Clone, Args)]
pub struct SilenceEndArgs {
    /// Number of the silence, as `silence list` prints it.
    pub id: i64,
    /// Person who ends the silence.
    #[arg(long, env = "USER")]
    pub author: String,
    /// The tables.
    #[command(flatten)]
    pub tables: DatabaseArgs,
}

impl SilenceCommand {
    fn tables(&self) -> &DatabaseArgs {
        match self {
            Self::Add(config) => &config.tables,
            Self::List(config) => &config.tables,
            Self::End(config) => &config.tables,
        }
    }

    pub(crate) fn validate(&self, problems: &mut Problems) {
        self.tables().validate(problems);
        match self {
            Self::Add(config) => config.validate(problems),
            Self::List(_) => {}
            Self::End(config) => check_text("--author", &config.author, AUTHOR_CHARS_MAX, problems),
        }
    }

    /// Runs the command. Prints to standard output.
    pub async fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::Add(config) => add(config).await,
            Self::List(config) => list(config).await,
            Self::End(config) => end(config).await,
        }
    }
}

/// Reports a text that is blank, too long, or of several lines.
fn check_text(name: &str, text: &str, chars_max: usize, problems: &mut Problems) {
    let fits = !text.trim().is_empty() && text.chars().count() <= chars_max;
    problems.require(fits && !text.contains(char::is_control), || {
        format!("{name} must have 1 to {chars_max} characters, on one line")
    });
}

impl SilenceAddArgs {
    fn validate(&self, problems: &mut Problems) {
        check_text("--reason", &self.reason, REASON_CHARS_MAX, problems);
        check_text("--author", &self.author, AUTHOR_CHARS_MAX, problems);
        problems.require(self.lasts.is_some() != self.until.is_some(), || {
            "say when it ends: either --for, such as --for 2h, or --until".into()
        });
        let lasts = Duration::from_secs(1)..=ENDS_WITHIN;
        problems.require(self.lasts.is_none_or(|lasting| lasts.contains(&lasting)), || {
            "--for must lie between 1s and 30 days (720h)".into()
        });
        let some = self.customer_id.is_some() || self.device.is_some() || self.rule_id.is_some();
        problems.require(some || self.all, || {
            "say what is silenced: --customer-id, --device, --rule-id or several of them, or --all"
                .into()
        });
        problems.require(!(some && self.all), || {
            "--all silences everything: leave it out, or what narrows it".into()
        });
    }

    /// Returns the silence to add at `now` of the server's clock.
    fn silence(&self, now: i64, zone: &TimeZone) -> anyhow::Result<NewSilence> {
        let starts_at = self.from.map_or(now, |from| from.at_ms(zone).max(now));
        let lasting = |lasts: Duration| starts_at.saturating_add(milliseconds(lasts));
        let ends_at = self.until.map(|until| until.at_ms(zone)).or(self.lasts.map(lasting));
        let ends_at = ends_at.context("say when it ends: --for or --until")?;
        ensure!(ends_at > starts_at, "--until must lie in the future, and after --from");
        ensure!(
            ends_at <= now.saturating_add(milliseconds(ENDS_WITHIN)),
            "a silence must end within 30 days from now: add another one then"
        );
        Ok(NewSilence {
            customer_id: self.customer_id,
            device_sn: self.device.as_ref().map(|device| device.as_str().to_owned()),
            rule_id: self.rule_id,
            reason: self.reason.trim().to_owned(),
            author: self.author.trim().to_owned(),
            starts_at,
            ends_at,
        })
    }
}

async fn add(config: &SilenceAddArgs) -> anyhow::Result<()> {
    let zone = &config.tables.zone.zone;
    let pool = config.tables.connect()?;
    let mut connection = pool.acquire().await.context("MySQL does not answer")?;
    let silence = config.silence(table::now_ms(&mut connection).await?, zone)?;
    let count = table::count_unfinished(&mut connection).await?;
    ensure!(
        count < UNFINISHED_MAX as i64,
        "there are {count} silences already, and no more than {UNFINISHED_MAX} can be kept in \
         force: end some, or silence a tenant or a rule instead of its devices"
    );
    table::remove_old(&mut connection).await?;
    let id = table::add(&mut connection, &silence).await?;
    let (starts, ends) =
        (wall_text_of(silence.starts_at, zone), wall_text_of(silence.ends_at, zone));
    Ok(writeln!(io::stdout(), "silence {id}, from {starts} to {ends}: in force within 10 s")?)
}

async fn list(config: &SilenceListArgs) -> anyhow::Result<()> {
    let zone = &config.tables.zone.zone;
    let pool = config.tables.connect()?;
    let mut connection = pool.acquire().await.context("MySQL does not answer")?;
    let now = table::now_ms(&mut connection).await?;
    let records = table::list(&mut connection, config.all, LISTED_MAX + 1).await?;
    let shown = &records[..records.len().min(LISTED_MAX)];
    print_found(config.json, &listed(shown, now), &mut io::stdout(), |listed, out| {
        print(listed, zone, out)
    })?;
    if records.len() > shown.len() {
        eprintln!("older silences are not listed");
    }
    Ok(())
}

async fn end(config: &SilenceEndArgs) -> anyhow::Result<()> {
    let pool = config.tables.connect()?;
    let (id, author) = (config.id, config.author.trim());
    if table::end(&pool, id, author).await? {
        return Ok(writeln!(io::stdout(), "silence {id} ended: nothing is kept back within 10 s")?);
    }
    let record = table::find(&pool, id).await?.with_context(|| {
        format!("there is no silence {id}: `alerter silence list` shows those there are")
    })?;
    let ended = record.ended_at.unwrap_or(record.silence.ends_at);
    bail!("silence {id} is over since {}", wall_text_of(ended, &config.tables.zone.zone))
}

/// A silence and its state.
#[derive(Debug, Serialize)]
struct ListedSilence<'a> {
    state: &'static str,
    #[serde(flatten)]
    record: &'a SilenceRow,
}

/// Returns the silences with their states at `now`.
fn listed(records: &[SilenceRow], now: i64) -> Vec<ListedSilence<'_>> {
    let listed = |record| ListedSilence { state: SilenceRow::state(record, now), record };
    records.iter().map(listed).collect()
}

fn print(silences: &[ListedSilence<'_>], zone: &TimeZone, out: &mut impl Write) -> io::Result<()> {
    let reason = |one: &ListedSilence<'_>| {
        let SilenceRow { silence: NewSilence { author, reason, .. }, ended_by, .. } = one.record;
        let by = ended_by.as_ref().map_or_else(String::new, |by| format!(", ended by {by}"));
        format!("{reason} ({author}{by})")
    };
    let any = |text: Option<String>| text.unwrap_or_else(|| "any".to_owned());
    let columns: [Column<'_, ListedSilence<'_>>; 8] = [
        ("id", Right, &|one| one.record.id.to_string()),
        ("state", Left, &|one| one.state.to_owned()),
        ("from", Left, &|one| wall_text_of(one.record.silence.starts_at, zone)),
        ("to", Left, &|one| {
            wall_text_of(one.record.ended_at.unwrap_or(one.record.silence.ends_at), zone)
        }),
        ("tenant", Right, &|one| any(one.record.silence.customer_id.map(|id| id.to_string()))),
        ("device", Left, &|one| any(one.record.silence.device_sn.clone())),
        ("rule", Right, &|one| any(one.record.silence.rule_id.map(|id| id.to_string()))),
        ("reason (who)", Left, &reason),
    ];
    text::table(silences, columns, out)
}

#[cfg(test)]
#[path = "silence_tests.rs"]
mod tests;
