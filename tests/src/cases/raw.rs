//! Runs a case's steps over one raw connection.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::check;
use super::form::{self, Case, MINIMAL_BODY, Step};
use crate::clients::http::{ANSWER_WITHIN, Answer};
use crate::stack::process::Service;
use crate::stack::wait::pass;

/// Bytes sent at a time if the step has a rate.
const RATED_CHUNK_BYTES: usize = 1024;

struct Connection {
    stream: TcpStream,
    /// Bytes read but not parsed yet.
    read: Vec<u8>,
}

/// Runs the steps. The error is the reason why the case does not hold.
pub(super) async fn run(case: &Case, steps: &[Step], gateway: &mut Service) -> Result<()> {
    let address = gateway.listen().context("the gateway listens")?;
    let stream = TcpStream::connect(address).await.context("no connection")?;
    let mut connection = Connection { stream, read: Vec::new() };
    for (number, step) in steps.iter().enumerate() {
        take(case, step, &mut connection, gateway)
            .await
            .with_context(|| format!("step {}", number + 1))?;
    }
    Ok(())
}

async fn take(
    case: &Case,
    step: &Step,
    connection: &mut Connection,
    gateway: &mut Service,
) -> Result<()> {
    let begun = Instant::now();
    let fill = |text: &str| {
        text.replace("{route}", &case.route)
            .replace("{length}", &case.body().len().to_string())
            .replace("{length_of_one}", &MINIMAL_BODY.len().to_string())
    };
    if let Some(text) = &step.send {
        connection.send(fill(text).as_bytes()).await;
    }
    if let Some(bytes) = &step.send_base64 {
        connection.send(bytes).await;
    }
    if let Some(text) = &step.send_repeat {
        let times = step.times.unwrap_or(1);
        match step.every_ms {
            None => connection.send(fill(text).repeat(usize::try_from(times)?).as_bytes()).await,
            Some(every) => {
                for _ in 0..times {
                    connection.send(fill(text).as_bytes()).await;
                    pass(Duration::from_millis(every)).await;
                }
            }
        }
    }
    if let Some(parts) = &step.send_parts {
        let bytes = form::parts(parts);
        let rate = step.rate_bytes_per_s.unwrap_or(u64::MAX);
        for chunk in bytes.chunks(RATED_CHUNK_BYTES) {
            connection.send(chunk).await;
            pass(Duration::from_secs_f64(chunk.len() as f64 / rate as f64)).await;
        }
    }
    if let Some(wait) = step.wait_ms {
        pass(Duration::from_millis(wait)).await;
    }
    if step.world.is_some() {
        gateway.signal("TERM").await?;
    }
    if let Some(expected) = &step.expect {
        let answer = connection.answer(expected.not_status).await?;
        check::expected(expected, &answer, begun.elapsed())?;
    }
    if let Some(within) = step.expect_closed_ms {
        connection.closed(Duration::from_millis(within), step.without_answer).await?;
    }
    if let Some(within) = step.expect_exit_ms {
        let status = timeout(Duration::from_millis(within), gateway.child.wait())
            .await
            .map_err(|_| anyhow::anyhow!("it still runs after {within} ms"))??;
        ensure!(step.code.is_none() || status.code() == step.code, "it ended with {status}");
    }
    Ok(())
}

impl Connection {
    /// Sends bytes. Errors are ignored: a later step finds out that the peer has closed.
    async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Reads more; `false` if the peer has closed.
    async fn more(&mut self) -> bool {
        matches!(self.stream.read_buf(&mut self.read).await, Ok(read) if read > 0)
    }

    /// Returns the next answer. No answer may have the status `never`, not even an interim answer.
    async fn answer(&mut self, never: Option<u16>) -> Result<Answer> {
        loop {
            let end = loop {
                if let Some(at) = find(&self.read, b"\r\n\r\n") {
                    break at;
                }
                let more = timeout(ANSWER_WITHIN, self.more()).await;
                ensure!(more.context("no answer in time")?, "closed without an answer");
            };
            let head = String::from_utf8(self.read.drain(..end + 4).collect())?;
            let mut lines = head.lines();
            let status = lines.next().and_then(|line| line.split(' ').nth(1));
            let status: u16 = status.context("no status line")?.parse()?;
            ensure!(Some(status) != never, "status {status} came");
            let mut headers = HeaderMap::new();
            for (name, value) in lines.filter_map(|line| line.split_once(':')) {
                let name: HeaderName = name.parse()?;
                headers.append(name, HeaderValue::from_str(value.trim())?);
            }
            if status < 200 {
                continue;
            }
            let length = headers.get("content-length").and_then(|value| value.to_str().ok());
            let length: usize = length.map_or(Ok(0), str::parse)?;
            while self.read.len() < length {
                let more = timeout(ANSWER_WITHIN, self.more()).await;
                ensure!(more.context("no whole answer in time")?, "closed within the answer");
            }
            let text = String::from_utf8(self.read.drain(..length).collect())?;
            let json = serde_json::from_str(&text).unwrap_or_default();
            return Ok(Answer { status, headers, text, json });
        }
    }

    async fn closed(&mut self, within: Duration, without_answer: bool) -> Result<()> {
        let closed = timeout(within, async { while self.more().await {} }).await;
        if without_answer && !self.read.is_empty() {
            bail!("answered {:?}", String::from_utf8_lossy(&self.read));
        }
        closed.map_err(|_| anyhow::anyhow!("still open after {within:?}"))
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
