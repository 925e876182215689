//! `alerter silence add`: adds a silence with its subject, period and reason.
//!
//! [`crate::notify::silences::table`] holds the statements.

use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use jiff::tz::TimeZone;
use ljwx_reading::DeviceSn;
use ljwx_service::config::{Problems, TimeArg, duration};
use tracing::info;

use super::list::print_line;
use crate::commands::{DatabaseArgs, wall};
use crate::notify::silences::table::{self, NewSilence, UNFINISHED_MAX};

/// Latest end of a silence after it was added, because a forgotten silence hides alerts.
const ENDS_WITHIN: Duration = Duration::from_secs(30 * 86_400);

/// Longest reason, in characters.
const REASON_CHARS_MAX: usize = 255;

/// Longest name of an author, in characters.
pub(super) const AUTHOR_CHARS_MAX: usize = 64;

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

fn device_sn(text: &str) -> Result<DeviceSn, String> {
    DeviceSn::new(text.trim())
        .ok_or_else(|| "write a serial number of 1 to 64 visible ASCII characters".to_owned())
}

/// Reports a text that is blank, too long, or of several lines.
pub(super) fn require_text(name: &str, text: &str, chars_max: usize, problems: &mut Problems) {
    let fits = !text.trim().is_empty() && text.chars().count() <= chars_max;
    problems.require(fits && !text.contains(char::is_control), || {
        format!("{name} must have 1 to {chars_max} characters, on one line")
    });
}

impl SilenceAddArgs {
    pub(super) fn validate(&self, problems: &mut Problems) {
        require_text("--reason", &self.reason, REASON_CHARS_MAX, problems);
        require_text("--author", &self.author, AUTHOR_CHARS_MAX, problems);
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
    pub(super) fn silence(&self, now: i64, zone: &TimeZone) -> anyhow::Result<NewSilence> {
        let starts_at = self.from.map_or(now, |from| from.at_ms(zone).max(now));
        let lasting = |lasts: Duration| starts_at.saturating_add(millis(lasts));
        let ends_at = self.until.map(|until| until.at_ms(zone)).or(self.lasts.map(lasting));
        let ends_at = ends_at.context("say when it ends: --for or --until")?;
        ensure!(ends_at > starts_at, "--until must lie in the future, and after --from");
        ensure!(
            ends_at <= now.saturating_add(millis(ENDS_WITHIN)),
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

    pub(super) async fn run(&self) -> anyhow::Result<()> {
        let zone = &self.tables.zone.zone;
        let pool = self.tables.mysql.connect(zone)?;
        let mut connection = pool.acquire().await.context("MySQL does not answer")?;
        let silence = self.silence(table::now_ms(&mut connection).await?, zone)?;
        let count = table::count_unfinished(&mut connection).await?;
        ensure!(
            count < UNFINISHED_MAX as i64,
            "there are {count} silences already, and no more than {UNFINISHED_MAX} can be kept in \
             force: end some, or silence a tenant or a rule instead of its devices"
        );
        table::remove_old(&mut connection).await?;
        let id = table::add(&mut connection, &silence).await?;
        let (starts, ends) = (wall(silence.starts_at, zone), wall(silence.ends_at, zone));
        info!(silence.id = id, author = silence.author, "silence added");
        print_line(&format!("silence {id}, from {starts} to {ends}: in force within 10 s\n"))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
