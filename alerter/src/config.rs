//! The alerter's settings.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser};
use ljwx_ledger::group::settings::GroupArgs;
use ljwx_ledger::mysql::MySqlArgs;
use ljwx_ledger::redis::OptionalRedisArgs;
use ljwx_service::config::{CompletionsArgs, Problems, Validate, ZoneArgs, duration};
use ljwx_service::http::admin::AdminArgs;
use ljwx_service::kafka::KafkaArgs;
use ljwx_service::lifecycle::LifecycleArgs;
use ljwx_service::telemetry::TelemetryArgs;

use crate::commands::accounts::AccountsCommand;
use crate::commands::backtest::BacktestArgs;
use crate::commands::outbox::OutboxArgs;
use crate::commands::recipients::RecipientsCommand;
use crate::commands::report::ReportArgs;
use crate::commands::rules::RulesCommand;
use crate::commands::send_test::SendTestArgs;
use crate::commands::silence::SilenceCommand;
use crate::engine::DeviceLimits;
use crate::health::monitor::MonitorArgs;
use crate::notify::operator_events::OperatorsArgs;
use crate::notify::outbox::milliseconds;
use crate::notify::wechat::WechatArgs;

/// Evaluate readings by rules, record alerts in MySQL and notify people by WeChat.
#[derive(Debug, Clone, Parser)]
#[command(name = "alerter", version = ljwx_service::VERSION)]
pub enum Config {
    /// Run the service.
    ///
    /// Through Redis, replicas share WeChat tokens and get messages about changed rules. Without
    /// Redis, each replica fetches its own tokens, and rules are only reloaded at their interval.
    Run(Box<RunConfig>),
    /// Inspect rules.
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Manage the addresses at which people are notified.
    #[command(subcommand)]
    Recipients(RecipientsCommand),
    /// Check the accounts that notify people.
    #[command(subcommand)]
    Accounts(AccountsCommand),
    /// Send a person a message about no alert, marked as a test, and show the platform's answer.
    SendTest(Box<SendTestArgs>),
    /// Suppress notifications for a period, and list silences.
    #[command(subcommand)]
    Silence(SilenceCommand),
    /// Show how good the alerts of a period were: how many, how soon people were notified, and what
    /// was noise.
    Report(Box<ReportArgs>),
    /// Show pending, failed and sent notifications, make them due, or drop them.
    Outbox(Box<OutboxArgs>),
    /// Evaluate other rules on past readings and compare them with the active rules; send nothing.
    Backtest(Box<BacktestArgs>),
    /// Print completions of this program for a shell.
    Completions(CompletionsArgs),
}

/// Settings of the service.
#[derive(Debug, Clone, Args)]
pub struct RunConfig {
    /// The connection to Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Consumer group; also the group's name in the ledger.
    #[arg(long, env = "ALERTER_GROUP", default_value = "alerter")]
    pub group: String,
    /// This replica's membership of the group.
    #[command(flatten)]
    pub member: GroupArgs,
    /// MySQL with rules, state, alerts, outbox and progress.
    #[command(flatten)]
    pub mysql: MySqlArgs,
    /// Redis, for shared tokens and messages about changed rules.
    #[command(flatten)]
    pub redis: OptionalRedisArgs,
    /// YAML file with the rules, for installations without the platform's table; unset: the table.
    #[arg(long, env = "RULES_FILE")]
    pub rules_file: Option<PathBuf>,
    /// Interval at which the rules are reloaded; a changed rule is active after this time at the
    /// latest.
    #[arg(long, env = "RULES_INTERVAL", default_value = "10s", value_parser = duration)]
    pub rules_interval: Duration,
    /// Take over a source without any rule although some are active. By default the active rules
    /// stay, because an empty file or table is more often a mistake; taking it over closes every
    /// open alert.
    #[arg(long, env = "ALLOW_NO_RULES")]
    pub allow_no_rules: bool,
    /// The platforms that deliver notifications.
    #[command(flatten)]
    pub wechat: WechatArgs,
    /// Messages to one recipient in a minute, over all replicas; further messages become a digest.
    /// Critical ones wait only beyond 28: WeCom silently loses messages beyond 30.
    #[arg(long, env = "RECIPIENT_MESSAGES_PER_MINUTE", default_value_t = 20)]
    pub recipient_messages_per_minute: u32,
    /// Messages through one account in a second, by this replica; further messages wait.
    #[arg(long, env = "ACCOUNT_MESSAGES_PER_SECOND", default_value_t = 50)]
    pub account_messages_per_second: u32,
    /// Age in days above which alerts that are over are removed, with their lines in the alerts'
    /// log; unset: they are kept for ever. An alert is kept as long as its notifications.
    #[arg(long, env = "ALERT_RETENTION_DAYS")]
    pub alert_retention_days: Option<u32>,
    /// Where operators are alerted when notifications fail.
    #[command(flatten)]
    pub operators: OperatorsArgs,
    /// The monitor of readings, servers and sender.
    #[command(flatten)]
    pub monitor: MonitorArgs,
    /// Time without a reading after which a device is forgotten; its open alerts are closed and
    /// nobody is notified.
    #[arg(long, env = "FORGET_DEVICES_AFTER", default_value = "720h", value_parser = duration)]
    pub forget_devices_after: Duration,
    /// Devices that a replica remembers; the readings of further devices are evaluated, and nobody
    /// is notified that they are missing.
    #[arg(long, env = "DEVICES_MAX", default_value_t = 1_000_000)]
    pub devices_max: usize,
    /// The devices' time zone.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// The admin port.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// Settings of the shutdown.
    #[command(flatten)]
    pub lifecycle: LifecycleArgs,
    /// Logs and spans.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// Shortest time after which devices may be forgotten.
const FORGET_MIN: Duration = Duration::from_secs(3600);

impl RunConfig {
    /// Returns the limits of the devices that a replica remembers.
    pub fn device_limits(&self) -> DeviceLimits {
        let forget_after_ms = milliseconds(self.forget_devices_after);
        DeviceLimits { forget_after_ms, devices_max: self.devices_max }
    }

    fn validate(&self, problems: &mut Problems) {
        self.kafka.validate(problems);
        self.member.validate(problems);
        self.mysql.validate(problems);
        self.lifecycle.validate(problems);
        self.telemetry.validate(problems);
        self.admin.validate(problems);
        for (name, limit) in [
            ("--recipient-messages-per-minute", self.recipient_messages_per_minute),
            ("--account-messages-per-second", self.account_messages_per_second),
        ] {
            problems.require(limit >= 1, || format!("{name} must be at least 1"));
        }
        problems.require(self.forget_devices_after >= FORGET_MIN, || {
            "--forget-devices-after must be at least 1h".into()
        });
        problems.require(self.devices_max >= 1, || "--devices-max must be at least 1".into());
        self.operators.validate(problems);
        self.monitor.validate(problems);
        self.redis.validate(problems);
        problems.check_group(&self.group, "ALERTER_GROUP");
        problems.require(self.rules_interval >= Duration::from_secs(1), || {
            "--rules-interval must be at least 1s".into()
        });
        self.wechat.validate(problems);
    }
}

impl Validate for Config {
    fn validate(&self, problems: &mut Problems) {
        match self {
            Self::Run(run) => run.validate(problems),
            Self::Rules(command) => command.validate(problems),
            Self::Recipients(command) => command.validate(problems),
            Self::Accounts(command) => command.validate(problems),
            Self::SendTest(config) => config.validate(problems),
            Self::Silence(command) => command.validate(problems),
            Self::Report(config) => config.validate(problems),
            Self::Outbox(outbox) => outbox.validate(problems),
            Self::Backtest(backtest) => backtest.validate(problems),
            Self::Completions(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;
    use ljwx_service::config::{ConfigError, reference};

    use super::*;

    fn problems(arguments: &[&str]) -> Vec<String> {
        found(
            [
                &["alerter", "run", "--kafka-brokers", "k:9092", "--mysql-url", "mysql://u@h/d"],
                arguments,
            ]
            .concat(),
        )
    }

    fn found(arguments: Vec<&str>) -> Vec<String> {
        match ljwx_service::config::parse::<Config>(arguments.into_iter().map(Into::into).collect())
        {
            Ok(_) => Vec::new(),
            Err(ConfigError::Problems(problems)) => problems.list().to_vec(),
            Err(ConfigError::Clap(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Config::command().debug_assert();
    }

    #[test]
    fn the_documented_settings_and_exit_codes_are_those_of_the_commands() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        reference::hold_documents::<Config>(&docs).unwrap();
    }

    #[test]
    fn a_backtest_needs_times_in_order_and_a_device_that_can_be() {
        let found = |from: &str, device: &str| {
            found(vec![
                "alerter",
                "backtest",
                "--kafka-brokers",
                "k:9092",
                "--rules",
                "r.yaml",
                "--against",
                "a.yaml",
                "--from",
                from,
                "--to",
                "2025-09-02T05:00:00Z",
                "--device",
                device,
            ])
        };
        assert_eq!(found("2025-09-02 12:59:59", "A1"), [""; 0]);
        let wrong = found("2025-09-02 13:00:00", "a b");
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].contains("--device") && wrong[1].contains("--from"), "{wrong:?}");
    }

    #[test]
    fn half_an_account_is_refused() {
        assert!(problems(&[]).is_empty());
        let found = problems(&["--wechat-app-id", "wx7", "--rules-interval", "10ms"]);
        assert_eq!(found.len(), 2, "{found:?}");
        for flag in ["--wechat-api-url", "--wecom-api-url", "--wecom-agent-id"] {
            assert!(problems(&[flag, "nowhere"])[0].contains(flag));
        }
    }

    #[test]
    fn a_heartbeat_needs_an_address_of_the_web_and_no_message_shows_it() {
        assert!(problems(&["--heartbeat-url", "https://cron.example/ping/hush"]).is_empty());
        assert!(problems(&["--no-readings-after", "0s"]).is_empty());
        for address in ["cron.example/ping/hush", "ftp://cron.example/hush"] {
            let found = problems(&["--heartbeat-url", address]);
            assert_eq!(found.len(), 1, "{address}: {found:?}");
            assert!(found[0].contains("--heartbeat-url") && !found[0].contains("hush"));
        }
    }

    #[test]
    fn a_limit_of_none_is_refused_by_name() {
        for limit in ["--recipient-messages-per-minute", "--account-messages-per-second"] {
            assert_eq!(problems(&[limit, "0"]), [format!("{limit} must be at least 1")]);
        }
    }
}
