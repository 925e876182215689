//! `worker pause` and `worker resume`: stop a group's consumption and let it continue. The workers read
//! the pause in `mysql::group_control`.

use clap::Args;
use ljwx_ledger::mysql::MySqlArgs;
use ljwx_service::config::{Problems, ZoneArgs};
use ljwx_service::telemetry::{TelemetryArgs, host_name};

/// Longest reason, in characters.
const REASON_CHARS_MAX: usize = 255;

/// Settings of `worker pause` and `worker resume`.
#[derive(Debug, Clone, Args)]
pub struct PauseArgs {
    /// Consumer group that is paused or resumed.
    #[arg(long, env = "WORKER_GROUP", default_value = "worker")]
    pub group: String,
    /// Reason for the pause, shown by the workers' health endpoint.
    #[arg(long, default_value = "")]
    pub reason: String,
    /// The connection to MySQL.
    #[command(flatten)]
    pub mysql: MySqlArgs,
    /// The time zone of the devices.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

impl PauseArgs {
    pub(crate) fn validate(&self, problems: &mut Problems) {
        self.mysql.validate(problems);
        self.telemetry.validate(problems);
        problems.check_group(&self.group, "WORKER_GROUP");
        problems.require(self.reason.chars().count() <= REASON_CHARS_MAX, || {
            format!("--reason must have at most {REASON_CHARS_MAX} characters")
        });
    }
}

/// Pauses or resumes a group. Its workers follow within seconds.
pub async fn set_paused(config: &PauseArgs, paused: bool) -> anyhow::Result<()> {
    let pool = config.mysql.connect(&config.zone.zone)?;
    sqlx::query(
        "INSERT INTO ingest_control (consumer_group, paused, reason, changed_by) \
         VALUES (?, ?, ?, ?) ON DUPLICATE KEY UPDATE paused = ?, reason = ?, changed_by = ?",
    )
    .bind(&config.group)
    .bind(paused)
    .bind(&config.reason)
    .bind(host_name())
    .bind(paused)
    .bind(&config.reason)
    .bind(host_name())
    .execute(&pool)
    .await?;
    let (group, word) = (&config.group, if paused { "paused" } else { "resumed" });
    tracing::info!(group, reason = config.reason, "consumption {word}");
    Ok(())
}
