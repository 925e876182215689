//! Asks the admin ports of replicas how they are.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::future::join_all;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;

use super::args::{StatusArgs, admin_url};
use super::report::{ReplicaAnswer, ReplicaStatus};

/// Longest time for one answer of an admin port.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The part of a worker's health that is reported.
#[derive(Debug, Deserialize)]
struct WorkerHealth {
    status: String,
    reasons: Vec<String>,
}

/// Asks each replica whose admin port is given.
pub async fn ask(config: &StatusArgs) -> anyhow::Result<Vec<ReplicaStatus>> {
    // An admin port is reached directly.
    let http = Client::builder().timeout(ANSWER_TIMEOUT).no_proxy().build();
    let http = http.context("HTTP client")?;
    Ok(join_all(config.addresses().map(|address| replica(&http, address))).await)
}

async fn replica(http: &Client, address: &str) -> ReplicaStatus {
    ReplicaStatus { address: address.to_owned(), answer: answer(http, address).await.into() }
}

async fn answer(http: &Client, address: &str) -> anyhow::Result<ReplicaAnswer> {
    let url = admin_url(address).context("no address")?;
    let (status, metrics) = get(http, &url, "/metrics").await?;
    ensure!(status.is_success(), "/metrics answers {status}");
    let (service, version) = build_info(&metrics).context("the port is not one of ours")?;
    let mut reasons = Vec::new();
    for probe in ["/livez", "/readyz"] {
        let (status, text) = get(http, &url, probe).await?;
        if !status.is_success() {
            reasons.push(format!("{probe}: {}", text.trim()));
        }
    }
    let mut status = if reasons.is_empty() { "ready" } else { "not ready" }.to_owned();
    if service == "worker" {
        let (_, health) = get(http, &url, "/api/batch_processor/health").await?;
        let health: WorkerHealth = serde_json::from_str(&health).context("health")?;
        status = health.status;
        reasons.extend(health.reasons);
    }
    Ok(ReplicaAnswer { service, version, status, reasons })
}

async fn get(http: &Client, url: &Url, path: &str) -> anyhow::Result<(StatusCode, String)> {
    let answer = http.get(url.join(path)?).send().await.context("no answer")?;
    Ok((answer.status(), answer.text().await.with_context(|| path.to_owned())?))
}

/// Returns the service and its version from the text of its metrics.
fn build_info(metrics: &str) -> Option<(String, String)> {
    let labels = metrics.lines().find_map(|line| line.strip_prefix("build_info{"))?;
    let value = |name: &str| {
        let (_, rest) = labels.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    Some((value("service")?, value("version")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_known_by_its_metrics() {
        let line = "build_info{service=\"worker\",version=\"0.2.0 (1a2b3c)\"} 1\n";
        let text = format!("# TYPE build_info gauge\n{line}");
        assert_eq!(build_info(&text), Some(("worker".into(), "0.2.0 (1a2b3c)".into())));
        assert_eq!(build_info("go_info{version=\"1\"} 1\n"), None);
    }
}
