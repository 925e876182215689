//! The time from breaches to their messages: the rule that notifies, tenants with accounts and
//! recipients, and the delays of the messages. Sending the breaches belongs to the callers.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::ensure;

use crate::fakes::wechat::{APP_SECRET, FakeWechat, TEMPLATE_ID};
use crate::fleet::TENANT;
use crate::stack::wait::eventually;
use crate::stack::world::World;

/// A heart rate that breaches the notifying rule.
pub(crate) const NOTIFYING_HEART_RATE: usize = 200;

/// Tenants that share the breaches. With fewer tenants, ten breaches a second and their ends would
/// meet the limit of messages a minute and recipient.
const TENANTS: usize = 100;

/// The longest until the last message arrives.
const ARRIVED_WITHIN: Duration = Duration::from_secs(60);

/// Length of a part of the run that is printed by itself, in seconds.
const PART_SECONDS: u64 = 5;

/// Adds the notifying rule, and an account and a recipient of each tenant.
pub(crate) async fn seed(world: &World) -> anyhow::Result<()> {
    add_notifying_rule(world).await?;
    for number in 0..TENANTS {
        let tenant = tenant(number);
        add_account(world, tenant, APP_SECRET).await?;
        world
            .database
            .execute(&format!(
                "INSERT INTO t_alert_recipient_address (customer_id, user_id, kind, address) \
                 VALUES ({tenant}, 0, 'openid', 'openid-of-{tenant}')"
            ))
            .await?;
    }
    Ok(())
}

/// Returns the tenant of the `number`th breach. The fleet's own tenant is none of them.
pub(crate) fn tenant(number: usize) -> i64 {
    TENANT + 1 + (number % TENANTS) as i64
}

/// Adds the rule of all tenants that notifies by WeChat.
pub(super) async fn add_notifying_rule(world: &World) -> anyhow::Result<()> {
    world
        .database
        .execute(
            "INSERT INTO t_alert_rules (rule_type, physical_sign, threshold_max, trend_duration, \
             severity_level, alert_message, notification_type) VALUES ('notified', 'heart_rate', \
             180, 1, 'critical', '{device_sn} {value}', 'wechat')",
        )
        .await
}

/// Adds an official account of a tenant. With another secret than [`APP_SECRET`] it does not work.
pub(super) async fn add_account(world: &World, tenant: i64, secret: &str) -> anyhow::Result<()> {
    let account = format!("{}{tenant}", world.app_id());
    world
        .database
        .execute(&format!(
            "INSERT INTO t_wechat_alarm_config (customer_id, type, appid, appsecret, template_id, \
             enabled) VALUES ({tenant}, 'official', '{account}', '{secret}', '{TEMPLATE_ID}', 1)"
        ))
        .await
}

/// Waits until each breach has its message, and returns the seconds between them, in ascending
/// order.
///
/// `sent` has each device's time of sending, by the fake's clock.
pub(crate) async fn delays(
    world: &World,
    wechat: &FakeWechat,
    sent: &HashMap<String, Duration>,
) -> anyhow::Result<Vec<f64>> {
    let prefix = world.serial_prefix();
    let delays = eventually(ARRIVED_WITHIN, "each breach has its message", || async {
        let mut arrived: HashMap<String, Duration> = HashMap::new();
        for message in wechat.messages() {
            let text = message.text();
            let device = text.split_whitespace().find(|word| word.starts_with(&prefix));
            if let Some(device) = device {
                arrived.entry(device.to_owned()).or_insert(message.arrived);
            }
        }
        let delay = |(device, at): (&String, &Duration)| {
            Some((*at, arrived.get(device)?.saturating_sub(*at)))
        };
        let delays: Vec<_> = sent.iter().filter_map(delay).collect();
        ensure!(delays.len() == sent.len(), "{} of {} have", delays.len(), sent.len());
        Ok(Some(delays))
    })
    .await?;
    by_time(&delays);
    let mut seconds: Vec<f64> = delays.iter().map(|(_, delay)| delay.as_secs_f64()).collect();
    seconds.sort_by(f64::total_cmp);
    Ok(seconds)
}

/// Prints the delays by the time of the breach: the start differs from the rest of the run.
fn by_time(delays: &[(Duration, Duration)]) {
    let Some(start) = delays.iter().map(|(at, _)| *at).min() else { return };
    let mut parts: BTreeMap<u64, Vec<Duration>> = BTreeMap::new();
    for (at, delay) in delays {
        let part = (*at - start).as_secs() / PART_SECONDS;
        parts.entry(part).or_default().push(*delay);
    }
    for (part, mut delays) in parts {
        delays.sort_unstable();
        let (middle, last) = (delays[delays.len() / 2], delays[delays.len() - 1]);
        println!(
            "  from second {}: median {} ms, longest {} ms",
            part * PART_SECONDS,
            middle.as_millis(),
            last.as_millis()
        );
    }
}
