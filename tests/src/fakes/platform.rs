//! Writes the platform's rows that the alerter reads, as far as tests and demo need them.

use std::time::Duration;

use anyhow::ensure;

use crate::fakes::wechat::{APP_SECRET, NURSE, TEMPLATE_ID};
use crate::fleet::TENANT;
use crate::stack::world::World;

/// A threshold rule of the template tenant, active for every tenant.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The kind of alert that the rule opens.
    pub rule_type: &'static str,
    /// The vital that the rule evaluates.
    pub sign: &'static str,
    /// A value below this is a breach.
    pub min: Option<f64>,
    /// A value above this is a breach.
    pub max: Option<f64>,
    /// Breaches in a row that open an episode.
    pub trend: u32,
    /// Cooldown after a notification, in seconds.
    pub cooldown: u32,
    /// Severity of the alert.
    pub severity: &'static str,
    /// Text of the message.
    pub message: &'static str,
}

/// Text of the message. The platform's users read Chinese.
const MESSAGE: &str = "设备 {device_sn}：{sign} {value}，阈值 {threshold}，请查看佩戴者";

/// Heart rate above 120 three times in a row.
pub const HEART_RATE_HIGH: Rule = Rule {
    rule_type: "HEARTRATE_HIGH_ALERT",
    sign: "heart_rate",
    min: None,
    max: Some(120.0),
    trend: 3,
    cooldown: 60,
    severity: "major",
    message: MESSAGE,
};

/// Blood oxygen below 92.
pub const BLOOD_OXYGEN_LOW: Rule = Rule {
    rule_type: "BLOOD_OXYGEN_LOW_ALERT",
    sign: "blood_oxygen",
    min: Some(92.0),
    max: None,
    trend: 1,
    cooldown: 60,
    severity: "critical",
    message: MESSAGE,
};

/// Temperature above 37.8.
pub const TEMPERATURE_HIGH: Rule = Rule {
    rule_type: "TEMPERATURE_HIGH_ALERT",
    sign: "temperature",
    min: None,
    max: Some(37.8),
    trend: 1,
    cooldown: 60,
    severity: "moderate",
    message: MESSAGE,
};

/// Writes the rules into the platform's table and gives the fleet's tenant a WeChat account.
pub async fn seed(world: &World, rules: &[Rule]) -> anyhow::Result<()> {
    for rule in rules {
        add_rule(world, rule).await?;
    }
    let account = world.app_id();
    world
        .database
        .execute(&format!(
            "INSERT INTO t_wechat_alarm_config (customer_id, type, appid, appsecret, template_id, enabled) \
             VALUES ({TENANT}, 'official', '{account}', '{APP_SECRET}', '{TEMPLATE_ID}', 1)"
        ))
        .await?;
    world
        .database
        .execute(&format!(
            "INSERT INTO t_alert_recipient_address (customer_id, user_id, kind, address) \
             VALUES ({TENANT}, 0, 'openid', '{NURSE}')"
        ))
        .await
}

async fn add_rule(world: &World, rule: &Rule) -> anyhow::Result<()> {
    ensure!(!rule.message.contains('\''), "the message would end its literal");
    let number = |bound: Option<f64>| bound.map_or("NULL".to_owned(), |bound| bound.to_string());
    let Rule { rule_type, sign, trend, cooldown, severity, message, .. } = rule;
    let (min, max) = (number(rule.min), number(rule.max));
    world
        .database
        .execute(&format!(
            "INSERT INTO t_alert_rules (rule_type, physical_sign, threshold_min, threshold_max, \
             trend_duration, cooldown_seconds, severity_level, alert_message, notification_type) \
             VALUES ('{rule_type}', '{sign}', {min}, {max}, {trend}, {cooldown}, '{severity}', \
             '{message}', 'wechat')"
        ))
        .await
}

/// Adds a rule that notifies if a device sends nothing for `window`, active for every tenant.
pub async fn add_absence_rule(world: &World, window: Duration) -> anyhow::Result<()> {
    let seconds = window.as_secs();
    world
        .database
        .execute(&format!(
            "INSERT INTO t_alert_rules (rule_type, rule_category, time_window_seconds, \
             severity_level, notification_type) \
             VALUES ('silent', 'NO_DATA', {seconds}, 'major', 'wechat')"
        ))
        .await
}
