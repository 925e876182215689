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
const FATES: [Fate; 9] = [
    Refused(503, Some(1)),
    Passed,
    Refused(408, None),
    Passed,
    Refused(429, Some(1)),
    Passed,
    Cut,
    Passed,
    Refused(500, None),
];

/// Bodies that meet every fate.
const BODIES: usize = 5;

/// Readings of a body of the client in Python.
const BATCH: usize = 100;

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
    let lines: Vec<_> = (0..readings).map(|number| reading(&world, number).to_string()).collect();
    let mut command = Command::new("python3");
    command.arg(example("client.py")).arg(faulty.url()).arg(world.logs.join("cache.db"));
    let done = run(command, &lines.join("\n")).await?;
    judge(&world, &faulty, &done, readings).await?;
    finish(world, [gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_in_shell_keeps_its_bodies_until_each_is_stored_once() -> Result<()> {
    let (world, gateway, faulty) = started("shell").await?;
    let folder = world.logs.join("bodies");
    std::fs::create_dir(&folder).context("folder of bodies")?;
    for number in 0..BODIES {
        let body = json!({ "data": reading(&world, number) }).to_string();
        std::fs::write(folder.join(format!("{number}.json")), body).context("a body")?;
    }
    let mut command = Command::new("bash");
    command.arg(example("curl.sh")).arg(faulty.url()).arg(&folder);
    let done = run(command, "").await?;
    judge(&world, &faulty, &done, BODIES).await?;
    let left = std::fs::read_dir(&folder).context("folder of bodies")?.count();
    ensure!(left == 0, "{left} bodies are left");
    finish(world, [gateway]).await
}
