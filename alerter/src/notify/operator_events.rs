//! Sends operator events to the log, and to a webhook if a webhook is set. Metrics show these
//! events too late or not at all.
//!
//! Each event is sent once. The callers decide when an event occurs. Nothing here waits for the
//! receiver.

use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use ljwx_service::backoff::Backoff;
use ljwx_service::config::Problems;
use ljwx_service::lifecycle::EssentialTasks;
use metrics::counter;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use sha2::Sha256;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::metrics::OPERATOR_EVENTS;
use crate::notify::limits::breaker;
use crate::notify::wechat::error::Failure;

/// Events that wait for the receiver. Further events go to the log only.
const QUEUE_MAX: usize = 64;

/// Attempts to send one event.
const ATTEMPTS_MAX: u32 = 5;

/// First wait before another attempt.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// Longest wait before another attempt.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Time limit of one attempt.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Settings of the operators' webhook.
#[derive(Debug, Clone, Args)]
pub struct OperatorsArgs {
    /// Address of the webhook for operator events, such as an account that does not send: http://
    /// or https://; none: events go to the log only.
    #[arg(long, env = "OPERATORS_WEBHOOK_URL", hide_env_values = true)]
    pub operators_webhook_url: Option<SecretString>,
    /// Secret that signs the webhook's requests, so that the receiver can verify the sender.
    #[arg(long, env = "OPERATORS_WEBHOOK_SECRET", hide_env_values = true)]
    pub operators_webhook_secret: Option<SecretString>,
}

impl OperatorsArgs {
    /// Adds what is wrong with the settings to `problems`.
    pub fn validate(&self, problems: &mut Problems) {
        problems.require(
            self.operators_webhook_url.is_some() == self.operators_webhook_secret.is_some(),
            || {
                "--operators-webhook-url and --operators-webhook-secret belong together: set both \
                 of them or none"
                    .into()
            },
        );
        problems.require(self.operators_webhook_url.is_none() || self.url().is_some(), || {
            "--operators-webhook-url must be an address such as https://host/path".into()
        });
    }

    fn url(&self) -> Option<Url> {
        let url: Url = self.operators_webhook_url.as_ref()?.expose_secret().parse().ok()?;
        matches!(url.scheme(), "http" | "https").then_some(url)
    }

    /// Starts the channel to the operators. Requests are sent in the background.
    pub fn build(
        &self,
        essential: &EssentialTasks,
        stop: &CancellationToken,
    ) -> anyhow::Result<OperatorEvents> {
        let (Some(url), Some(secret)) = (self.url(), &self.operators_webhook_secret) else {
            return Ok(OperatorEvents { queue: None });
        };
        let http = reqwest::Client::builder().timeout(TIMEOUT).build().context("HTTP client")?;
        let webhook = Webhook { http, url, secret: secret.clone(), wait_min: WAIT_MIN };
        let (queue, operator_event) = mpsc::channel(QUEUE_MAX);
        let (delivery, stopping) = (webhook.run(operator_event), stop.clone());
        essential.spawn("the operator webhook", stop, async move {
            delivery.await;
            // All senders of events are gone: the process ends.
            stopping.cancelled().await;
        });
        Ok(OperatorEvents { queue: Some(queue) })
    }
}

/// An operator event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OperatorEvent {
    /// `wechat_broken`, `wechat_works`, `row_refused` or `rules_shrunk`.
    pub event: &'static str,
    /// The account's public name, if the event concerns an account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The platform's errcode, if it answered with an errcode.
    pub errcode: Option<i64>,
    /// Start of the state that the event reports.
    pub since: Timestamp,
    /// The whole event in words.
    pub text: String,
    /// Time of the event.
    pub at: Timestamp,
}

impl OperatorEvent {
    /// An event of an account at `at`, with the failure that opened its breaker.
    pub fn new(
        account: &str,
        operator_event: breaker::AccountChange,
        failure: Option<&Failure>,
        at: Timestamp,
    ) -> Self {
        let name = Some(account.to_owned());
        let errcode = failure.and_then(|failure| failure.errcode);
        match operator_event {
            breaker::AccountChange::Opened => {
                let reason = failure.map_or("", |failure| failure.message.as_str());
                let text = format!(
                    "WeChat account {account} does not send: {reason}; its notifications wait"
                );
                Self { event: "wechat_broken", account: name, errcode, since: at, text, at }
            }
            breaker::AccountChange::Closed(since) => {
                let lasted = Instant::now().saturating_duration_since(since);
                let lasted = SignedDuration::try_from(lasted).unwrap_or_default();
                let text = format!("WeChat account {account} sends again, after {lasted:#}");
                let since = at.checked_sub(lasted).unwrap_or(at);
                Self { event: "wechat_works", account: name, errcode, since, text, at }
            }
        }
    }

    /// An event that concerns no account.
    pub fn about(event: &'static str, text: String, at: Timestamp) -> Self {
        Self { event, account: None, errcode: None, since: at, text, at }
    }
}

/// A state that lasts, of which operators hear when it begins and when it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastingEvent {
    /// Notifications of major or critical alerts reach nobody.
    NoRecipientReached,
}

/// The channel to the operators.
#[derive(Debug, Clone)]
pub struct OperatorEvents {
    queue: Option<mpsc::Sender<OperatorEvent>>,
}

impl OperatorEvents {
    /// A channel that only logs.
    #[cfg(test)]
    pub fn silent() -> Self {
        Self { queue: None }
    }

    /// Logs an event and queues it for the webhook. Returns at once.
    pub fn notify(&self, operator_event: OperatorEvent) {
        let OperatorEvent { event, account, errcode, text, .. } = &operator_event;
        match *event {
            "wechat_works" => warn!(target: "operators", event, account, "{text}"),
            _ => error!(target: "operators", event, account, errcode, "{text}"),
        }
        let Some(queue) = &self.queue else { return };
        if queue.try_send(operator_event).is_err() {
            lost("queue of the operator webhook is full");
        }
    }
}

impl OperatorEvents {
    /// Reports how often a state lasts now, of a tenant or of none. 0: the state is over.
    pub fn lasting(&self, event: LastingEvent, customer_id: Option<i64>, count: u64) {
        let LastingEvent::NoRecipientReached = event;
        error!(target: "operators", event = "no_recipient_reached", customer.id = customer_id, count,
            "notifications reach nobody");
    }
}

struct Webhook {
    http: reqwest::Client,
    url: Url,
    secret: SecretString,
    wait_min: Duration,
}

impl Webhook {
    async fn run(self, mut operator_event: mpsc::Receiver<OperatorEvent>) {
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

fn lost(reason: &'static str) {
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
#[path = "operator_events_tests.rs"]
mod tests;
