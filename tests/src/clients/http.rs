//! Sends HTTP requests and reads Prometheus text. Load belongs to `fleet`.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::Context;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Client, RequestBuilder};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stack::wait::pass;

/// The time that a watch waits for an answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Tests of one process share connections only within one runtime, so no connection is kept.
static CLIENT: LazyLock<Option<Client>> = LazyLock::new(|| {
    Client::builder().timeout(ANSWER_WITHIN).pool_max_idle_per_host(0).no_proxy().build().ok()
});

/// A server's answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
    /// The body if it is JSON, else null.
    pub json: Value,
}

impl Answer {
    /// A header's text, if the header exists.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// GETs a page.
pub async fn get(url: &str) -> anyhow::Result<Answer> {
    answer(client()?.get(url), url).await
}

/// PUTs a text.
pub async fn put(url: &str, body: &str) -> anyhow::Result<Answer> {
    put_with(url, body, &[]).await
}

/// PUTs a text with further headers.
pub async fn put_with(url: &str, body: &str, headers: &[(&str, &str)]) -> anyhow::Result<Answer> {
    answer(with(client()?.put(url).body(body.to_owned()), headers), url).await
}

/// POSTs a body whose second half follows after `later`. Returns the answer as it is on the wire.
pub async fn post_slowly(
    address: SocketAddr,
    path: &str,
    body: &str,
    later: Duration,
) -> anyhow::Result<String> {
    let mut connection = TcpStream::connect(address).await?;
    let (length, half) = (body.len(), body.floor_char_boundary(body.len() / 2));
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await?;
    connection.write_all(&body.as_bytes()[..half]).await?;
    pass(later).await;
    connection.write_all(&body.as_bytes()[half..]).await?;
    let mut answer = String::new();
    tokio::time::timeout(ANSWER_WITHIN, connection.read_to_string(&mut answer)).await??;
    Ok(answer)
}

/// POSTs a JSON body over a line that takes this many bytes a second. Returns the answer as it is
/// on the wire.
pub async fn post_at_rate(
    address: SocketAddr,
    path: &str,
    body: &str,
    bytes_per_second: usize,
) -> anyhow::Result<String> {
    let mut connection = TcpStream::connect(address).await?;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await?;
    for chunk in body.as_bytes().chunks(bytes_per_second / 10) {
        pass(Duration::from_millis(100)).await;
        connection.write_all(chunk).await?;
    }
    let mut answer = String::new();
    tokio::time::timeout(ANSWER_WITHIN, connection.read_to_string(&mut answer)).await??;
    Ok(answer)
}

/// POSTs a JSON body as a watch does.
pub async fn post(url: &str, body: impl Into<Vec<u8>>) -> anyhow::Result<Answer> {
    post_with(url, body, &[]).await
}

/// POSTs a JSON body with further headers.
pub async fn post_with(
    url: &str,
    body: impl Into<Vec<u8>>,
    headers: &[(&str, &str)],
) -> anyhow::Result<Answer> {
    let request = client()?.post(url).body(body.into()).header(CONTENT_TYPE, "application/json");
    answer(with(request, headers), url).await
}

/// Sends a request with these headers and no others of its own.
pub async fn send(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> anyhow::Result<Answer> {
    let request = client()?.request(method.parse()?, url).body(body.into());
    answer(with(request, headers), url).await
}

fn with(request: RequestBuilder, headers: &[(&str, &str)]) -> RequestBuilder {
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

fn client() -> anyhow::Result<&'static Client> {
    CLIENT.as_ref().context("no HTTP client could be built")
}

async fn answer(request: RequestBuilder, url: &str) -> anyhow::Result<Answer> {
    let response = request.send().await.with_context(|| url.to_owned())?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.with_context(|| url.to_owned())?;
    let json = serde_json::from_str(&text).unwrap_or_default();
    Ok(Answer { status, headers, text, json })
}

/// The value of `name` in Prometheus text, summed over all label sets that contain `labels`.
pub fn metric(page: &str, name: &str, labels: &str) -> f64 {
    page.lines()
        .filter_map(|line| line.rsplit_once(' '))
        .filter(|(series, _)| series.split('{').next() == Some(name) && series.contains(labels))
        .filter_map(|(_, value)| value.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_metric_is_summed_over_its_label_sets() {
        let page = "# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"1\"} 4\na{x=\"2\"} 5\nab 7\n";
        assert!((super::metric(page, "a", "x=\"1\"") - 7.0).abs() < f64::EPSILON);
        assert!((super::metric(page, "a", "") - 12.0).abs() < f64::EPSILON);
        assert!((super::metric(page, "ab", "") - 7.0).abs() < f64::EPSILON);
    }
}
