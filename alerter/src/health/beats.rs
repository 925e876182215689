//! Sends heartbeats to an outside monitor, which pages if they stop: it notices even a site that has
//! lost its power or its network.
//!
//! A failed part is a missing heartbeat. [`crate::health::alert_path`] names the part.

use std::time::{Duration, Instant};

use metrics::counter;
use reqwest::Url;
use reqwest::redirect::Policy;
use tracing::{debug, info, warn};

use crate::metrics::HEARTBEATS;

/// Interval of the heartbeats.
const INTERVAL: Duration = Duration::from_secs(60);

/// Time from the start to the first heartbeat: the parts have to be ready.
const FIRST_AFTER: Duration = Duration::from_secs(20);

/// Time limit of one heartbeat.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends heartbeats at their interval while an alert would reach people. It has no `Debug`: the
/// address is a secret.
pub struct Beats {
    http: reqwest::Client,
    url: Url,
    due_at: Instant,
    /// Whether the last heartbeat was skipped.
    stopped: bool,
}

impl Beats {
    /// Sends heartbeats to the outside monitor at `url`.
    pub fn new(url: Url) -> Result<Self, reqwest::Error> {
        // A redirect would show the secret to another server.
        let http = reqwest::Client::builder().timeout(TIMEOUT).redirect(Policy::none()).build()?;
        Ok(Self { http, url, due_at: Instant::now() + FIRST_AFTER, stopped: false })
    }

    /// Sends or skips the heartbeat that is due, if one is. Never waits for the outside monitor.
    /// `path` names the part of the path of an alert that does not work.
    pub fn turn(&mut self, path: &Result<(), String>, now: Instant) {
        if now < self.due_at {
            return;
        }
        self.due_at = now + INTERVAL;
        let stopped = std::mem::replace(&mut self.stopped, path.is_err());
        match path {
            Ok(()) => {
                if stopped {
                    info!("an alert would reach people, heartbeats resume");
                }
                let sent = self.send();
                tokio::spawn(async move { count(sent.await) });
            }
            Err(reason) => {
                counter!(HEARTBEATS, "outcome" => "skipped").increment(1);
                if !stopped {
                    warn!(reason, "an alert would not reach people, heartbeats stop");
                }
            }
        }
    }

    fn send(&self) -> impl Future<Output = anyhow::Result<()>> + Send + use<> {
        let sent = self.http.get(self.url.clone()).send();
        async move {
            // Without the URL, which is the secret.
            let status = sent.await.map_err(reqwest::Error::without_url)?.status();
            anyhow::ensure!(status.is_success(), "HTTP {status}");
            Ok(())
        }
    }
}

fn count(sent: anyhow::Result<()>) {
    let outcome = if sent.is_ok() { "sent" } else { "failed" };
    counter!(HEARTBEATS, "outcome" => outcome).increment(1);
    if let Err(error) = sent {
        debug!(%error, "cannot deliver heartbeat, sending the next one in its turn");
    }
}

#[cfg(test)]
mod tests {
    use wiremock::matchers::{method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    #[tokio::test]
    async fn heartbeats_come_every_minute_while_an_alert_would_reach_people() {
        let server = MockServer::start().await;
        Mock::given(method("GET")).respond_with(ResponseTemplate::new(200)).mount(&server).await;
        let mut beats = Beats::new(server.uri().parse().unwrap()).unwrap();
        let first = beats.due_at;
        let mut due = Vec::new();
        for (seconds, reaches) in [(0, true), (58, false), (60, false), (62, true), (120, true)] {
            let path = if reaches { Ok(()) } else { Err("no reading arrives".to_owned()) };
            beats.turn(&path, first + Duration::from_secs(seconds));
            due.push(((beats.due_at - first).as_secs(), beats.stopped));
        }
        let expected = [(60, false), (60, false), (120, true), (120, true), (180, false)];
        assert_eq!(due, expected);
        let received = async || server.received_requests().await.unwrap().len();
        let both = async {
            while received().await < 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(TIMEOUT, both).await.expect("both heartbeats that are due");
    }

    #[tokio::test]
    async fn only_an_answer_of_success_is_a_delivered_heartbeat_and_no_error_shows_the_address() {
        let server = MockServer::start().await;
        for (place, status) in [("/works", 200_u16), ("/away", 503), ("/moved", 301)] {
            let answer = ResponseTemplate::new(status).insert_header("Location", "/works");
            let mock = Mock::given(method("GET")).and(path(place));
            mock.respond_with(answer).mount(&server).await;
        }
        let get =
            async |address: String| Beats::new(address.parse().unwrap()).unwrap().send().await;
        assert!(get(format!("{}/works", server.uri())).await.is_ok());
        for place in ["away", "moved"] {
            let error = get(format!("{}/{place}", server.uri())).await.unwrap_err();
            assert!(error.to_string().starts_with("HTTP"), "{error}");
        }
        let error = get("http://127.0.0.1:1/secret-place".into()).await.unwrap_err();
        assert!(!format!("{error:?}").contains("secret-place"), "{error:?}");
    }
}
