//! Takes rights in Kafka from a user and gives them back. The client library's safe part has no
//! calls for this, so the two requests are written here, in the form of Kafka's protocol.

use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest that Kafka may take for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Version of both requests: the oldest that Kafka 4 takes, without compact strings.
const VERSION: i16 = 1;

const CREATE_ACLS: i16 = 30;
const DELETE_ACLS: i16 = 31;

/// Words of Kafka's protocol.
const ANY: i8 = 1;
const TOPIC: i8 = 2;
const CLUSTER: i8 = 4;
const LITERAL: i8 = 3;
const DESCRIBE: i8 = 8;
const DESCRIBE_CONFIGS: i8 = 10;
const ALLOW: i8 = 3;

/// The rights that a user keeps: to see topics and their settings.
const KEPT: [(i8, &str, i8); 3] =
    [(TOPIC, "*", DESCRIBE), (TOPIC, "*", DESCRIBE_CONFIGS), (CLUSTER, "kafka-cluster", DESCRIBE)];

/// Takes from a user every right but those to see topics and their settings. Where a resource has no
/// rules, the broker allows everything, so rules that allow something take the rest away.
pub async fn allow_only_to_see(brokers: &str, user: &str) -> anyhow::Result<()> {
    let mut request = Vec::new();
    request.extend((KEPT.len() as i32).to_be_bytes());
    for (resource, name, operation) in KEPT {
        byte(&mut request, resource);
        text(&mut request, Some(name))?;
        byte(&mut request, LITERAL);
        text(&mut request, Some(&format!("User:{user}")))?;
        text(&mut request, Some("*"))?;
        byte(&mut request, operation);
        byte(&mut request, ALLOW);
    }
    call(brokers, CREATE_ACLS, &request).await
}

/// Removes every rule, so that every user has all rights again.
pub async fn allow_all(brokers: &str) -> anyhow::Result<()> {
    let mut request = Vec::new();
    request.extend(1_i32.to_be_bytes());
    byte(&mut request, ANY);
    text(&mut request, None)?;
    byte(&mut request, ANY);
    text(&mut request, None)?;
    text(&mut request, None)?;
    byte(&mut request, ANY);
    byte(&mut request, ANY);
    call(brokers, DELETE_ACLS, &request).await
}

fn byte(request: &mut Vec<u8>, word: i8) {
    request.extend(word.to_be_bytes());
}

fn text(request: &mut Vec<u8>, text: Option<&str>) -> anyhow::Result<()> {
    let length = text.map_or(Ok(-1), |text| i16::try_from(text.len()))?;
    request.extend(length.to_be_bytes());
    request.extend(text.unwrap_or_default().bytes());
    Ok(())
}

/// Sends a request and checks the first result in its answer: Kafka takes all rules or none.
async fn call(brokers: &str, kind: i16, body: &[u8]) -> anyhow::Result<()> {
    let mut request = Vec::new();
    request.extend(kind.to_be_bytes());
    request.extend(VERSION.to_be_bytes());
    request.extend(1_i32.to_be_bytes());
    text(&mut request, Some("tests"))?;
    request.extend_from_slice(body);
    let answered = timeout(ANSWER_WITHIN, async {
        let mut stream = TcpStream::connect(brokers).await?;
        stream.write_i32(i32::try_from(request.len())?).await?;
        stream.write_all(&request).await?;
        let mut answer = vec![0; usize::try_from(stream.read_i32().await?)?];
        stream.read_exact(&mut answer).await?;
        anyhow::Ok(answer)
    });
    let answer = answered.await.context("Kafka does not answer")??;
    // Number of the request, throttle time, number of results, then the first result's error.
    let error = answer.get(12..14).context("an answer without a result")?;
    ensure!(error == [0, 0], "Kafka refuses the rules: {}", String::from_utf8_lossy(&answer));
    Ok(())
}
