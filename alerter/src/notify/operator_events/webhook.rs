//! Posts operator events to the operators' webhook, signed. Each event is tried a few times.

use std::time::Duration;

use anyhow::Context;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use ljwx_service::backoff::Backoff;
use metrics::counter;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;
use tokio::sync::mpsc;
use tracing::warn;

use super::event::OperatorEvent;
use crate::metrics::OPERATOR_EVENTS;

/// Attempts to send one event.
const ATTEMPTS_MAX: u32 = 5;

/// First wait before another attempt.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// Longest wait before another attempt.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Time limit of one attempt.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Reads the address of a service on the web. `None`: it is no such address.
pub fn web_address(text: &SecretString) -> Option<Url> {
    let url: Url = text.expose_secret().parse().ok()?;
    matches!(url.scheme(), "http" | "https").then_some(url)
}

/// The operators' webhook.
pub(super) struct Webhook {
    http: reqwest::Client,
    url: Url,
    secret: SecretString,
    wait_min: Duration,
}

impl Webhook {
    /// The webhook at `url`, whose posts are signed with `secret`.
    pub(super) fn new(url: Url, secret: SecretString) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().timeout(TIMEOUT).build().context("HTTP client")?;
        Ok(Self { http, url, secret, wait_min: WAIT_MIN })
    }

    /// Posts events until their senders are gone.
    pub(super) async fn run(self, mut operator_event: mpsc::Receiver<OperatorEvent>) {
        while let Some(operator_event) = operator_event.recv().await {
            self.deliver(&operator_event).await;
        }
    }

    async fn deliver(&self, operator_event: &OperatorEvent) {
        let mut backoff = Backoff::new(self.wait_min, WAIT_MAX);
        for attempt in 1..=ATTEMPTS_MAX {
            match self.post(operator_event).await {
                Ok(()) => {
                    counter!(OPERATOR_EVENTS, "outcome" => "sent").increment(1);
                    return;
                }
                Err(error) => {
                    warn!(%error, attempts = attempt, "operator webhook failed")
                }
            }
            if attempt < ATTEMPTS_MAX {
                counter!(OPERATOR_EVENTS, "outcome" => "retried").increment(1);
                tokio::time::sleep(backoff.next(rand::random())).await;
            }
        }
        lost("operator webhook failed");
    }

    async fn post(&self, operator_event: &OperatorEvent) -> anyhow::Result<()> {
        let body = serde_json::to_vec(operator_event)?;
        let time = Timestamp::now().as_second();
        let signature = signature(self.secret.expose_secret(), time, &body)?;
        let request = self
            .http
            .post(self.url.clone())
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .header("X-Signature", format!("t={time},v1={signature}"))
            .body(body);
        // Without the URL: the address may be all that protects the receiver.
        let answer = request.send().await.map_err(reqwest::Error::without_url)?;
        answer.error_for_status().map_err(reqwest::Error::without_url)?;
        Ok(())
    }
}

/// Counts and logs an event that the webhook does not get.
pub(super) fn lost(reason: &'static str) {
    counter!(OPERATOR_EVENTS, "outcome" => "lost").increment(1);
    warn!(reason, "operator event not delivered, it is in the log only");
}

/// Returns HMAC-SHA256 over the time and the body in hexadecimal, so that neither can be replaced.
fn signature(secret: &str, time: i64, body: &[u8]) -> anyhow::Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())?;
    mac.update(format!("{time}.").as_bytes());
    mac.update(body);
    let bytes = mac.finalize().into_bytes();
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
