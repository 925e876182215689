//! The sample clients lose nothing and store nothing twice, whatever their gateway answers.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::clients::kafka;
use ljwx_tests::fakes::faulty_gateway::Fate::{Cut, Passed, Refused};
use ljwx_tests::fakes::faulty_gateway::{Fate, FaultyGateway};
use ljwx_tests::stack::process::Service;
use ljwx_tests::stack::world::World;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::{finish, gateway};

/// What the requests of a client meet. Each failure is followed by an answer, so that no pause grows.
/// A network's login page answers 200, and a proxy with TLS answers 400 to a request without TLS.
const FATES: [Fate; 13] = [
    Refused(503, Some(1)),
    Passed,
    Refused(408, None),
    Passed,
    Refused(429, Some(1)),
    Passed,
    Cut,
    Passed,
    Refused(200, None),
    Passed,
    Refused(400, None),
    Passed,
    Refused(500, None),
];

/// Bodies that meet every fate.
const BODIES: usize = 7;

/// Readings of a body of the client in Python.
const BATCH: usize = 100;

/// A reading without a device, which no gateway stores.
const REJECTED: &str = r#"{"heart_rate": 72}"#;

/// A line that is no JSON, so a body with it would be refused whole.
const UNREADABLE: &str = r#"{"heart_rate": NaN}"#;

/// Prints what the client in Python has kept apart, a line each.
const PRINT_REFUSED: &str = "import sqlite3, sys
for row in sqlite3.connect(sys.argv[1]).execute('SELECT reading FROM refused ORDER BY id'):
    print(row[0].strip())";

/// The longest that a client may take.
const DONE_WITHIN: Duration = Duration::from_secs(90);

fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/examples").join(name)
}

fn reading(world: &World, number: usize) -> Value {
    json!({
        "device_sn": world.device(number), "timestamp": "2025-09-02 16:09:00", "heart_rate": 72,
    })
}

async fn started(name: &str) -> Result<(World, Service, FaultyGateway)> {
    let (world, gateway) = gateway(name).await?;
    let faulty = FaultyGateway::start(gateway.url(""), &FATES).await?;
    Ok((world, gateway, faulty))
}

/// Runs a client with this input to its end.
async fn run(mut command: Command, input: &str) -> Result<Output> {
    command.env("NO_PROXY", "*").stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut client = command.spawn().context("the client could not be run")?;
    let mut stdin = client.stdin.take().context("its input")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    timeout(DONE_WITHIN, client.wait_with_output())
        .await
        .context("it does not end")?
        .map_err(Into::into)
}

/// Ensures that the client met every fate, waited as told, and that each device's reading is in Kafka
/// once.
async fn judge(
    world: &World,
    faulty: &FaultyGateway,
    done: &Output,
    readings: usize,
) -> Result<()> {
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{}: {said}", done.status);
    ensure!(faulty.unmet() == 0, "{} answers were not met: {said}", faulty.unmet());
    ensure!(faulty.too_early() == 0, "{} requests before Retry-After: {said}", faulty.too_early());
    let records = kafka::records(&world.stack.kafka_brokers, &world.readings_topic).await?;
    let devices: BTreeSet<_> = records.iter().map(|record| &record.key).collect();
    let counts = (records.len(), devices.len());
    ensure!(
        counts == (readings, readings),
        "{counts:?} records and devices for {readings}: {said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_in_python_keeps_its_readings_until_each_is_stored_once() -> Result<()> {
    let (world, gateway, faulty) = started("python").await?;
    let readings = BODIES * BATCH - 50;
    let mut lines: Vec<_> =
        (0..readings).map(|number| reading(&world, number).to_string()).collect();
    lines.insert(1, UNREADABLE.to_owned());
    lines.insert(2, REJECTED.to_owned());
    let cache = world.logs.join("cache.db");
    let mut command = Command::new("python3");
    command.arg(example("client.py")).arg(faulty.url()).arg(&cache);
    let done = run(command, &lines.join("\n")).await?;
    judge(&world, &faulty, &done, readings).await?;
    let mut command = Command::new("python3");
    command.args(["-c", PRINT_REFUSED]).arg(&cache);
    let refused = String::from_utf8(run(command, "").await?.stdout)?;
    ensure!(refused == format!("{UNREADABLE}\n{REJECTED}\n"), "kept apart: {refused}");
    finish(world, [gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_in_shell_keeps_its_bodies_until_each_is_stored_once() -> Result<()> {
    let (world, gateway, faulty) = started("shell").await?;
    let folder = world.logs.join("bodies");
    std::fs::create_dir(&folder).context("folder of bodies")?;
    let rejected: Value = serde_json::from_str(REJECTED)?;
    for number in 0..=BODIES {
        let reading = reading(&world, number);
        let data = if number == BODIES { json!([reading, rejected]) } else { reading };
        let body = json!({ "data": data }).to_string();
        std::fs::write(folder.join(format!("{number}.json")), body).context("a body")?;
    }
    let mut command = Command::new("bash");
    command.arg(example("curl.sh")).arg(faulty.url()).arg(&folder);
    let done = run(command, "").await?;
    judge(&world, &faulty, &done, BODIES + 1).await?;
    let left = std::fs::read_dir(&folder).context("folder of bodies")?.count();
    let refused = folder.join("refused").join(format!("{BODIES}.json"));
    ensure!(refused.is_file(), "a body with a rejected reading is not kept apart");
    ensure!(left == 1, "{left} entries, of which one is the folder of refused bodies");
    finish(world, [gateway]).await
}
