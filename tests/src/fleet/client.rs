//! A keep-alive HTTP/1.1 client as small as a watch's, because the load generator shares the
//! processors with the system that it measures. The client only understands answers with a
//! `content-length`.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::clients::http::ANSWER_WITHIN;

/// Longest answer that is read. The gateway's longest answer lists 100 results.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// The server and path of the requests.
pub struct Target {
    address: SocketAddr,
    head: String,
}

impl Target {
    /// Resolves `http://host:port/path`.
    pub async fn resolve(url: &str) -> anyhow::Result<Self> {
        let rest = url.strip_prefix("http://").context("--url must begin with http://")?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        let mut addresses = tokio::net::lookup_host(&with_port).await.context("--url")?;
        let address = addresses.next().with_context(|| format!("--url: no address for {host}"))?;
        let head = format!(
            "POST /{path} HTTP/1.1\r\nhost: {host}\r\naccept: application/json\r\n\
             content-type: application/json; charset=UTF-8\r\ncontent-length: "
        );
        Ok(Self { address, head })
    }

    /// Whether the server runs on this machine.
    pub const fn is_local(&self) -> bool {
        self.address.ip().is_loopback()
    }
}

/// A server's answer.
pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
}

/// Connections, each used by one request at a time.
pub struct Pool {
    target: Target,
    idle: Mutex<Vec<TcpStream>>,
    slots: Semaphore,
}

impl Pool {
    pub fn new(target: Target, connections: usize) -> Self {
        Self { target, idle: Mutex::default(), slots: Semaphore::new(connections) }
    }

    /// Sends a body and reads the answer. After an error the body may have arrived or not.
    pub async fn post(&self, body: &[u8]) -> Result<Response> {
        let _slot = self.slots.acquire().await.map_err(|_| Error::from(ErrorKind::Interrupted))?;
        tokio::time::timeout(ANSWER_WITHIN, self.exchange(body))
            .await
            .unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
    }

    async fn exchange(&self, body: &[u8]) -> Result<Response> {
        let mut stream = match self.reusable() {
            Some(stream) => stream,
            None => self.connect().await?,
        };
        let mut request = Vec::with_capacity(self.target.head.len() + 16 + body.len());
        request.extend_from_slice(self.target.head.as_bytes());
        request.extend_from_slice(format!("{}\r\n\r\n", body.len()).as_bytes());
        request.extend_from_slice(body);
        stream.write_all(&request).await?;
        let (response, keep) = read_response(&mut stream).await?;
        if keep {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
        }
        Ok(response)
    }

    async fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.target.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Returns an idle connection that the server has not closed.
    fn reusable(&self) -> Option<TcpStream> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| idle.pop()).find(|stream| {
            let silent = stream.try_read(&mut [0]);
            matches!(silent, Err(error) if error.kind() == ErrorKind::WouldBlock)
        })
    }
}

async fn read_response(stream: &mut TcpStream) -> Result<(Response, bool)> {
    let mut bytes = Vec::with_capacity(1024);
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        read_more(stream, &mut bytes).await?;
    };
    let head = parse_head(&bytes[..head_end]).ok_or(ErrorKind::InvalidData)?;
    let mut body = bytes.split_off(head_end + 4);
    while body.len() < head.content_length {
        read_more(stream, &mut body).await?;
    }
    Ok((Response { status: head.status, body }, head.keep))
}

async fn read_more(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<()> {
    if bytes.len() > ANSWER_BYTES_MAX {
        return Err(ErrorKind::InvalidData.into());
    }
    match stream.read_buf(bytes).await? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    content_length: usize,
    keep: bool,
}

fn parse_head(head: &[u8]) -> Option<Head> {
    let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let (mut content_length, mut keep) = (None, true);
    for line in lines {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") {
            content_length = Some(value.trim().parse().ok()?);
        } else if name.eq_ignore_ascii_case("connection") {
            keep = !value.trim().eq_ignore_ascii_case("close");
        }
    }
    Some(Head { status, content_length: content_length?, keep })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answers_head_is_understood() {
        let head = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\nContent-Length: 17\r\nconnection: close";
        let expected = Head { status: 503, content_length: 17, keep: false };
        assert_eq!(parse_head(head), Some(expected));
        assert_eq!(parse_head(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked"), None);
    }
}
