//! The alerter's settings.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use common::admin::AdminArgs;
use common::config::{Problems, Validate, ZoneArgs, duration};
use common::kafka::KafkaArgs;
use common::lifecycle::LifecycleArgs;
use common::mysql::MySqlArgs;
use common::redis::RedisArgs;
use common::source::GroupArgs;
use common::telemetry::TelemetryArgs;
use reqwest::Url;
use secrecy::SecretString;

use crate::commands::backtest::BacktestConfig;
use crate::commands::rules_list::ListConfig;
use crate::commands::source::SourceArgs;
use crate::wechat::{Account, base_url};

/// Judges readings by rules, records alerts in MySQL and tells people by WeChat.
#[derive(Debug, Clone, Parser)]
#[command(name = "alerter", version)]
pub enum Config {
    /// Runs the service.
    Run(Box<RunConfig>),
    /// Looks at rules.
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Says what other rules would have made of past readings, beside those in force; tells nobody.
    Backtest(Box<BacktestConfig>),
}

/// What can be done with rules.
#[derive(Debug, Clone, Subcommand)]
pub enum RulesCommand {
    /// Validates rules as the service would and lists every problem; exits 1 if there is one.
    Check(SourceArgs),
    /// Shows the rules in force for a tenant, where each comes from, and those that are refused.
    List(ListConfig),
}

/// Settings of the service.
#[derive(Debug, Clone, Args)]
pub struct RunConfig {
    /// The connection to Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
    /// Consumer group; also the group's name in the ledger.
    #[arg(long, env = "CONSUMER_GROUP", default_value = "alerter")]
    pub group: String,
    /// This member of the group.
    #[command(flatten)]
    pub member: GroupArgs,
    /// Rules, state, alerts, outbox and progress.
    #[command(flatten)]
    pub mysql: MySqlArgs,
    /// Where replicas share WeChat tokens and hear of changed rules, as
    /// redis://user:password@host:port/db; none: each asks for its own, and rules are only read again
    /// in their own time.
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: Option<SecretString>,
    /// How long one command to Redis may take.
    #[arg(long, env = "REDIS_TIMEOUT", default_value = "500ms", value_parser = duration)]
    pub redis_timeout: Duration,
    /// Where the rules are.
    #[command(flatten)]
    pub rules: RulesArgs,
    /// The platform that delivers notifications.
    #[command(flatten)]
    pub wechat: WechatArgs,
    /// The devices' zone.
    #[command(flatten)]
    pub zone: ZoneArgs,
    /// The operators' port.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// How to stop.
    #[command(flatten)]
    pub lifecycle: LifecycleArgs,
    /// Logs and spans.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
}

/// Settings of the rules.
#[derive(Debug, Clone, Args)]
pub struct RulesArgs {
    /// YAML file with the rules, for installations without the platform's table; none: the table.
    #[arg(long, env = "RULES_FILE")]
    pub rules_file: Option<PathBuf>,
    /// How often the rules are read again; a changed rule is in force after this time at the latest.
    #[arg(long, env = "RULES_INTERVAL", default_value = "10s", value_parser = duration)]
    pub rules_interval: Duration,
}

/// Settings of WeChat.
#[derive(Debug, Clone, Args)]
pub struct WechatArgs {
    /// Base address of the official-account platform; a stand-in server can take its place.
    #[arg(long, env = "WECHAT_API_URL", default_value = "https://api.weixin.qq.com", value_parser = base_url)]
    pub wechat_api_url: Url,
    /// Official account of a single-tenant installation; used while the platform's table of accounts
    /// holds none. Needs the secret and the template too.
    #[arg(long, env = "WECHAT_APP_ID")]
    pub wechat_app_id: Option<String>,
    /// The account's secret.
    #[arg(long, env = "WECHAT_APP_SECRET", hide_env_values = true)]
    pub wechat_app_secret: Option<SecretString>,
    /// The account's message template, with first, keyword1 to keyword4 and remark.
    #[arg(long, env = "WECHAT_TEMPLATE_ID")]
    pub wechat_template_id: Option<String>,
    /// Openid of whoever is told where no recipient of a device is known.
    #[arg(long, env = "WECHAT_USER_OPENID")]
    pub wechat_default_openid: Option<String>,
}

impl WechatArgs {
    /// The account of a single-tenant installation, where all of it is set.
    pub fn account(&self) -> Option<Account> {
        Some(Account {
            customer_id: None,
            app_id: self.wechat_app_id.clone()?,
            app_secret: self.wechat_app_secret.clone()?,
            template_id: self.wechat_template_id.clone()?,
            default_address: self.wechat_default_openid.clone(),
        })
    }
}

impl RunConfig {
    /// Redis, where there is one.
    pub fn redis(&self) -> Option<RedisArgs> {
        let url = self.redis_url.clone()?;
        Some(RedisArgs { url, timeout: self.redis_timeout })
    }
}

impl Validate for Config {
    fn validate(&self, problems: &mut Problems) {
        let run = match self {
            Self::Run(run) => run,
            Self::Rules(RulesCommand::Check(source)) => return source.validate(problems),
            Self::Rules(RulesCommand::List(list)) => return list.validate(problems),
            Self::Backtest(backtest) => return backtest.validate(problems),
        };
        run.kafka.validate(problems);
        run.member.validate(problems);
        run.mysql.validate(problems);
        run.telemetry.validate(problems);
        if let Some(redis) = run.redis() {
            redis.validate(problems);
        }
        problems.require(!run.group.trim().is_empty() && run.group.len() <= 64, || {
            "--group must have 1 to 64 characters".into()
        });
        problems.require(run.rules.rules_interval >= Duration::from_secs(1), || {
            "--rules-interval must be at least 1s".into()
        });
        let wechat = &run.wechat;
        let account = [
            wechat.wechat_app_id.is_some(),
            wechat.wechat_app_secret.is_some(),
            wechat.wechat_template_id.is_some(),
        ];
        problems.require(account.iter().all(|set| *set == account[0]), || {
            "--wechat-app-id, --wechat-app-secret and --wechat-template-id belong together: set all \
             of them or none"
                .into()
        });
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use common::config::Refusal;

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
        match common::config::parse::<Config>(arguments.into_iter().map(Into::into).collect()) {
            Ok(_) => Vec::new(),
            Err(Refusal::Problems(problems)) => problems.list().to_vec(),
            Err(Refusal::Clap(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Config::command().debug_assert();
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
        assert!(wrong[0].contains("--from") && wrong[1].contains("--device"), "{wrong:?}");
    }

    #[test]
    fn half_an_account_is_refused() {
        assert!(problems(&[]).is_empty());
        let found = problems(&["--wechat-app-id", "wx7", "--rules-interval", "10ms"]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(problems(&["--wechat-api-url", "nowhere"])[0].contains("--wechat-api-url"));
    }
}
