//! Ten thousand devices send readings in any order. A worker stores them in batches of any size,
//! stops in between, and processes them all again. The rows equal those of a plain model.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::accounting::verdict::epoch_seconds;
use ljwx_tests::clients::kafka;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};

use crate::support::{settled_within, world};

/// Devices, each a case of its own.
const CASES: usize = 10_000;

/// The longest that the worker may take for one pass.
const PASSED_WITHIN: Duration = Duration::from_secs(240);

/// Numbers that later deliveries overwrite.
const NUMBERS: [&str; 3] = ["heart_rate", "blood_oxygen", "step"];

/// Documents with the first day of their period.
const DOCUMENTS: [(&str, Period); 5] = [
    ("sleep_data", Period::Day),
    ("exercise_daily_data", Period::Day),
    ("workout_data", Period::Day),
    ("scientific_sleep_data", Period::Day),
    ("exercise_week_data", Period::Week),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Period {
    Day,
    Week,
}

/// Two days of two weeks with few times each, so that identities and periods collide.
const TIMES: [&str; 6] = [
    "2025-09-06 08:00:00",
    "2025-09-06 08:00:01",
    "2025-09-07 09:00:00",
    "2025-09-08 07:59:59",
    "2025-09-08 08:00:00",
    "2025-09-08 08:00:01",
];

/// The number of deliveries of an identity, and its numbers.
type Numbers = (i64, Vec<Option<i64>>);

/// The expected rows: numbers by identity, documents with their guards by period.
#[derive(Debug, Default, PartialEq)]
struct Rows {
    main: BTreeMap<(String, String), Numbers>,
    documents: BTreeMap<(String, String, &'static str), (String, Value)>,
}

fn reading(rng: &mut StdRng, device: &str) -> Result<Vec<u8>> {
    let mut value = Map::new();
    let time = *TIMES.choose(rng).unwrap_or(&TIMES[0]);
    let epoch_ms = epoch_seconds(time)? * 1000;
    // One delivery in twenty comes from a clock that runs ahead.
    let received = if rng.random_ratio(1, 20) { epoch_ms - 3_600_000 } else { epoch_ms + 1000 };
    value.insert("device_sn".into(), json!(device));
    value.insert("timestamp".into(), json!(time));
    value.insert("epoch_ms".into(), json!(epoch_ms));
    value.insert("received_at".into(), json!(received));
    value.insert("upload_method".into(), json!("wifi"));
    value.insert("customer_id".into(), json!(1));
    for name in NUMBERS {
        if rng.random_ratio(1, 2) {
            value.insert(name.into(), json!(rng.random_range(60..64)));
        }
    }
    for (name, _) in DOCUMENTS {
        if rng.random_ratio(1, 3) {
            value.insert(name.into(), json!({"code": 0, "data": [rng.random_range(0..2)]}));
        }
    }
    Ok(Value::Object(value).to_string().into_bytes())
}

/// Applies the rules of the contract in their plainest form to the records of the topic.
fn model(records: &[kafka::Record]) -> Result<Rows> {
    let mut rows = Rows::default();
    let mut guards: HashMap<(String, String, &str), (String, i64)> = HashMap::new();
    // Apply the deliveries in the order of their sources. A delivery ahead of its receipt changes
    // no document.
    let mut sorted: Vec<&kafka::Record> = records.iter().collect();
    sorted.sort_by_key(|record| (record.partition, record.offset));
    for record in sorted {
        let value: Value = serde_json::from_slice(&record.value)?;
        let device = value["device_sn"].as_str().context("device")?.to_owned();
        let time = value["timestamp"].as_str().context("time")?.to_owned();
        let source = (i64::from(record.partition) << 40) + record.offset;
        let row = rows.main.entry((device.clone(), time.clone())).or_default();
        row.0 += 1;
        row.1.resize(NUMBERS.len(), None);
        for (slot, name) in row.1.iter_mut().zip(NUMBERS) {
            *slot = value[name].as_i64().or(*slot);
        }
        let ahead = value["epoch_ms"].as_i64() > value["received_at"].as_i64();
        for (name, period) in DOCUMENTS {
            let document = &value[name];
            if document.is_null() || ahead {
                continue;
            }
            let first = match (period, &time[..10]) {
                (Period::Day, day) => day,
                (Period::Week, "2025-09-08") => "2025-09-08",
                (Period::Week, _) => "2025-09-01",
            };
            let key = (device.clone(), first.to_owned(), name);
            let guard = (time.clone(), source);
            if guards.get(&key).is_none_or(|held| guard >= *held) {
                guards.insert(key.clone(), guard);
                rows.documents.insert(key, (time.clone(), document.clone()));
            }
        }
    }
    Ok(rows)
}

async fn found(world: &World) -> Result<Rows> {
    let mut rows = Rows::default();
    let sql = "SELECT device_sn, timestamp, deliveries, heart_rate, blood_oxygen, step \
               FROM t_user_health_data";
    for row in world.database.rows(sql).await? {
        let number = |text: &Option<String>| text.as_ref().and_then(|text| text.parse().ok());
        let [Some(device), Some(time), deliveries, numbers @ ..] = &row[..] else { continue };
        let numbers = numbers.iter().map(number).collect();
        let deliveries = number(deliveries).context("deliveries")?;
        rows.main.insert((device.clone(), time.clone()), (deliveries, numbers));
    }
    for (name, period) in DOCUMENTS {
        let (table, first) = match period {
            Period::Day => ("t_user_health_data_daily", "date"),
            Period::Week => ("t_user_health_data_weekly", "week_start"),
        };
        let sql = format!(
            "SELECT device_sn, {first}, {name}_at, {name} FROM {table} WHERE {name} IS NOT NULL"
        );
        for row in world.database.rows(&sql).await? {
            let [Some(device), Some(first), Some(at), Some(document)] = &row[..] else { continue };
            let document = serde_json::from_str(document)?;
            rows.documents.insert((device.clone(), first.clone(), name), (at.clone(), document));
        }
    }
    Ok(rows)
}

fn compare(found: &Rows, expected: &Rows, passes: i64, records: &[kafka::Record]) -> Result<()> {
    ensure!(found.main.len() == expected.main.len(), "{} rows", found.main.len());
    for (identity, (deliveries, numbers)) in &expected.main {
        let row = &found.main[identity];
        ensure!(
            row == &(passes * deliveries, numbers.clone()),
            "{identity:?}: {row:?} instead of {numbers:?}"
        );
    }
    for (key, expected) in &expected.documents {
        let row = found.documents.get(key);
        ensure!(
            row == Some(expected),
            "pass {passes}, {key:?}: {row:?} instead of {expected:?}, of {:#?}",
            deliveries_of(records, &key.0)
        );
    }
    ensure!(found.documents.len() == expected.documents.len(), "documents that nobody sent");
    Ok(())
}

/// Returns what a device sent, in its order: offset and value.
fn deliveries_of(records: &[kafka::Record], device: &str) -> Vec<String> {
    let own = records.iter().filter(|record| record.key.as_deref() == Some(device.as_bytes()));
    own.map(|record| format!("{}: {}", record.offset, String::from_utf8_lossy(&record.value)))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn any_order_any_cut_and_any_replay_end_in_the_rows_of_a_plain_model() -> Result<()> {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let world = world("merges").await?;
    let mut readings = Vec::new();
    for case in 0..CASES {
        let device = world.device(case);
        for _ in 0..rng.random_range(2..5) {
            readings.push((device.clone(), reading(&mut rng, &device)?));
        }
    }
    readings.shuffle(&mut rng);
    let (brokers, topic) = (&world.stack.kafka_brokers, &world.readings_topic);
    kafka::fill(brokers, topic, &readings).await?;
    let records = kafka::records(brokers, topic).await?;
    let expected = model(&records)?;
    let sized = |rows: usize| {
        let worker = world.worker().env("NO_REDIS", "true").env("REDIS_URL", "");
        worker.env("BATCH_ROWS", rows.to_string())
    };
    let first = sized(rng.random_range(20..120)).start().await?;
    eventually(PASSED_WITHIN, "a part is stored", || async {
        Ok((world.database.count("t_user_health_data").await? > 2000).then_some(()))
    })
    .await?;
    first.kill().await?;
    let second = sized(rng.random_range(200..800)).start().await?;
    settled_within(&world, PASSED_WITHIN).await?;
    ensure!(second.terminate().await?.success(), "the second worker failed");
    compare(&found(&world).await?, &expected, 1, &records)?;
    let moved = world.launch("worker", &["offsets", "--to-start", "--execute"]).finish().await?;
    ensure!(moved.code == Some(0), "{}", moved.text);
    let third = sized(500).start().await?;
    settled_within(&world, PASSED_WITHIN).await?;
    ensure!(third.terminate().await?.success(), "the third worker failed");
    compare(&found(&world).await?, &expected, 2, &records)?;
    world.finish().await
}
