//! The rules of a run and its readings: devices take turns, and one reading in a hundred breaches.
//! Filling the topic belongs to [`crate::bench::fill_topic`].

use std::ops::Range;

use serde_json::json;

use crate::bench::fill_topic::Filler;
use crate::bench::workload::{Record, record};
use crate::stack::world::World;

/// Partitions of the topic.
pub(super) const PARTITIONS: u32 = 6;

/// A heart rate that breaches no rule.
pub(super) const HEART_RATE: usize = 70;

/// Readings of a device in a row that all breach, or that all do not.
const STRETCH: usize = 10;

/// One in this many such runs of readings breaches.
const BREACHING_EVERY: usize = 100;

/// Event time between two readings of a device, in seconds.
const STEP_SECONDS: i64 = 5;

/// Rules of each vital, each with a threshold further from normal than the one before.
const LEVELS: u32 = 5;

/// A heart rate that breaches the first heart rate rule and no other.
const BREACHING_HEART_RATE: usize = 123;

/// A vital, its first threshold, the distance of the next thresholds, and whether breaches are
/// above.
const SIGNS: [(&str, f64, f64, bool); 9] = [
    ("heart_rate", 120.0, 5.0, true),
    ("blood_oxygen", 92.0, 2.0, false),
    ("temperature", 37.8, 0.3, true),
    ("pressure_high", 145.0, 5.0, true),
    ("pressure_low", 95.0, 5.0, true),
    ("blood_pressure", 150.0, 5.0, true),
    ("stress", 70.0, 5.0, true),
    ("step", 40_000.0, 5_000.0, true),
    ("calorie", 900_000.0, 50_000.0, true),
];

/// Adds fifty rules that all tenants share: forty-five on one vital, five on two. Notifications go
/// to the log, so that the figures are those of the evaluation.
pub(super) async fn add_rules(world: &World) -> anyhow::Result<()> {
    for level in 0..LEVELS {
        let trend = 1 + level % 3;
        for (sign, first, distance, above) in SIGNS {
            let away = f64::from(level) * distance;
            let (column, bound) = if above {
                ("threshold_max", first + away)
            } else {
                ("threshold_min", first - away)
            };
            add_rule(world, level, &format!("'{sign}', {bound:.1}"), column, trend).await?;
        }
        let expression = json!({"conditions": [
            {"physical_sign": "heart_rate", "operator": ">", "threshold": 120 + 5 * level,
             "duration_seconds": 30},
            {"physical_sign": "blood_oxygen", "operator": "<", "threshold": 92 - level},
        ]});
        let values = format!("'composite_{level:04}', '{expression}', 'COMPOSITE'");
        add_rule(world, level, &values, "condition_expression, rule_category", trend).await?;
    }
    Ok(())
}

async fn add_rule(
    world: &World,
    level: u32,
    values: &str,
    columns: &str,
    trend: u32,
) -> anyhow::Result<()> {
    world
        .database
        .execute(&format!(
            "INSERT INTO t_alert_rules (physical_sign, {columns}, rule_type, trend_duration, \
             severity_level, notification_type) VALUES ({values}, 'level-{level}', {trend}, \
             'major', 'log')"
        ))
        .await
}

/// Sends one reading of each of these devices.
pub(super) fn send_each(
    world: &World,
    devices: Range<usize>,
    epoch: i64,
    heart_rate: usize,
) -> anyhow::Result<()> {
    let filler = Filler::new(world)?;
    for device in devices {
        let Record { device, partition, value } = record(world, device, epoch, heart_rate);
        filler.put(&device, partition, &value)?;
    }
    filler.flush()
}

/// Readings in the order in which they are sent.
#[derive(Debug)]
pub(super) struct Feed<'a> {
    world: &'a World,
    devices: usize,
    first: i64,
    next: usize,
}

impl<'a> Feed<'a> {
    /// Creates a feed of this many devices. Its first `readings` readings are all in the past.
    pub(super) fn new(world: &'a World, devices: usize, readings: usize) -> Self {
        let turns = readings.div_ceil(devices) as i64;
        let first = jiff::Timestamp::now().as_second() - 3600 - turns * STEP_SECONDS;
        Self { world, devices, first, next: 0 }
    }
}

impl Iterator for Feed<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let (device, turn) = (self.next % self.devices, self.next / self.devices);
        self.next += 1;
        // The runs of readings begin at a different turn on every device, and breach in a different
        // order.
        let stretch = (turn + device) / STRETCH + device * 37;
        let heart_rate = if stretch.is_multiple_of(BREACHING_EVERY) {
            BREACHING_HEART_RATE
        } else {
            60 + (device + turn) % 40
        };
        Some(record(self.world, device, self.first + turn as i64 * STEP_SECONDS, heart_rate))
    }
}
