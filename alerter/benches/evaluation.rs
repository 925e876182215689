//! Measures how many readings a second one core evaluates by fifty rules. Pure: no Kafka, no MySQL.
//! Changes are taken as often as the pipeline takes them for writing.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jiff::tz::TimeZone;
use ljwx_alerter::engine::routing::Routed;
use ljwx_alerter::engine::{DeviceLimits, Engine, StoredPartition};
use ljwx_alerter::rules::index::RuleSet;
use ljwx_alerter::rules::validation::{RuleStatus, check};
use ljwx_reading::Reading;
use serde_json::{Value, json};

/// Readings between two transactions under load.
const BATCH: usize = 4_096;

/// One device in so many breaches the rules of most vitals, all the time.
const IN_BREACH_EVERY: usize = 100;

/// Event time between two readings of a device, in seconds.
const STEP_SECONDS: usize = 5;

/// Event time of the first readings: 2025-09-02 12:00:00 in Asia/Shanghai.
const START: usize = 1_756_785_600;

/// Rules of one vital: each threshold lies a bit further out than the one before.
const LEVELS: usize = 5;

/// A vital's first threshold, the distance of the next thresholds, and whether breaches lie above.
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

fn rules() -> RuleSet {
    let mut rules = Vec::new();
    for level in 0..LEVELS {
        let common = |rules: usize| {
            json!({
                "id": rules + 1, "version": 1, "rule_type": format!("level-{level}"),
                "trend_duration": 1 + level % 3, "severity_level": "major",
            })
        };
        for (sign, first, distance, above) in SIGNS {
            let away = level as f64 * distance;
            let mut fields = common(rules.len());
            fields["physical_sign"] = sign.into();
            let bound = if above { "threshold_max" } else { "threshold_min" };
            fields[bound] = if above { first + away } else { first - away }.into();
            rules.push(fields);
        }
        let mut fields = common(rules.len());
        fields["rule_category"] = "COMPOSITE".into();
        fields["condition_expression"] = json!({"conditions": [
            {"physical_sign": "heart_rate", "operator": ">", "threshold": 120 + 5 * level,
             "duration_seconds": 30},
            {"physical_sign": "blood_oxygen", "operator": "<", "threshold": 92 - level},
        ]});
        rules.push(fields);
    }
    let valid = rules.iter().map(|fields| {
        let fields = fields.as_object().cloned().unwrap_or_default();
        match check(&fields, 1).checked {
            RuleStatus::Valid(rule) => *rule,
            other => unreachable!("the rules above are valid: {other:?}"),
        }
    });
    RuleSet::new(valid)
}

/// Returns the reading with this number: devices take turns.
fn reading(number: usize, devices: usize) -> Reading {
    let (device, turn) = (number % devices, number / devices);
    let second = turn * STEP_SECONDS;
    let epoch_ms = (START + second) * 1000;
    let (day, second) = (2 + second / 86_400, second % 86_400);
    let wall = format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    let breach = device.is_multiple_of(IN_BREACH_EVERY);
    let pick = |usual: i32, bad: i32| if breach { bad } else { usual + (number % 7) as i32 };
    let value = json!({
        "device_sn": format!("BENCHXA{device:09}"), "customer_id": 7, "user_id": 9,
        "timestamp": format!("2025-{:02}-{:02} {wall}", 9 + day / 28, 1 + day % 28),
        "epoch_ms": epoch_ms, "received_at": epoch_ms + 500, "upload_method": "wifi",
        "heart_rate": pick(70, 150), "blood_oxygen": pick(93, 80),
        "temperature": if breach { 39.5 } else { 36.5 },
        "pressure_high": pick(118, 170), "pressure_low": pick(75, 100), "stress": pick(30, 60),
        "step": 1280 + turn % 1000, "distance": 820.0, "calorie": 41_230.0,
    });
    let decoded = ljwx_reading::wire::decode(Some(Value::to_string(&value).as_bytes()));
    decoded.unwrap_or_else(|error| unreachable!("the reading above is valid: {error}"))
}

/// Returns the time to evaluate `count` readings from number `next` on.
fn evaluating(engine: &mut Engine, next: &mut usize, devices: usize, count: u64) -> Duration {
    let mut left = usize::try_from(count).unwrap_or(usize::MAX);
    let mut spent = Duration::ZERO;
    while left > 0 {
        let batch: Vec<Reading> =
            (*next..*next + BATCH.min(left)).map(|number| reading(number, devices)).collect();
        *next += batch.len();
        left -= batch.len();
        let begun = Instant::now();
        for reading in &batch {
            black_box(engine.evaluate(0, reading, &Routed::Somebody));
        }
        black_box(engine.take_changes(0));
        spent += begun.elapsed();
    }
    spent
}

fn evaluation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("evaluation");
    group.throughput(Throughput::Elements(1));
    for devices in [1_000, 100_000] {
        let mut engine = Engine::new(TimeZone::UTC, DeviceLimits::default());
        engine.set_rules(Arc::new(rules()));
        engine.load(0, StoredPartition::default());
        engine.realign(0);
        let mut next = 0;
        // Every device is known before the clock starts.
        evaluating(&mut engine, &mut next, devices, 2 * devices as u64);
        let name = BenchmarkId::new("50 rules, 1 % in breach", format!("{devices} devices"));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| evaluating(&mut engine, &mut next, devices, count));
        });
    }
    group.finish();
}

criterion_group!(benches, evaluation);
criterion_main!(benches);
