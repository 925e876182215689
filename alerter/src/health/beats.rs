//! Sends heartbeats to an outside monitor, which pages if they stop: it notices even a site that has
//! lost its power or its network.
//!
//! A failed part is a missing heartbeat. [`crate::health::alert_path`] names the part.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use metrics::counter;
use reqwest::Url;
use reqwest::redirect::Policy;
use tracing::{info, warn};

use crate::metrics::HEARTBEATS;

/// Interval of the heartbeats.
const INTERVAL: Duration = Duration::from_secs(60);

/// Time limit of one heartbeat.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a turn does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Nothing is due.
    Wait,
    /// Send a heartbeat.
    Beat { resumed: bool },
    /// A heartbeat that was due is not sent.
    Skip { stopped: bool },
}

/// Decides when a heartbeat is due. Pure: time comes as an argument.
#[derive(Debug)]
struct BeatClock {
    beat_at: Instant,
    skip_at: Instant,
    /// Whether a heartbeat was skipped since the last one.
    stopped: bool,
}

impl BeatClock {
    /// The first heartbeat is due at once. A start may take a while before the first is skipped.
    fn new(now: Instant) -> Self {
        Self { beat_at: now, skip_at: now + INTERVAL, stopped: false }
    }

    /// Returns what to do if an alert that arises now would reach people, or would not.
    fn turn(&mut self, reaches: bool, now: Instant) -> Turn {
        if reaches && now >= self.beat_at {
            (self.beat_at, self.skip_at) = (now + INTERVAL, now + INTERVAL);
            return Turn::Beat { resumed: std::mem::take(&mut self.stopped) };
        }
        if !reaches && now >= self.skip_at {
            self.skip_at = now + INTERVAL;
            return Turn::Skip { stopped: !std::mem::replace(&mut self.stopped, true) };
        }
        Turn::Wait
    }
}

/// Sends heartbeats at their interval while an alert would reach people. It has no `Debug`: the
/// address is a secret.
pub struct Beats {
    clock: BeatClock,
    http: reqwest::Client,
    url: Url,
    /// Whether the last heartbeat failed.
    fails: Arc<AtomicBool>,
}

impl Beats {
    /// Sends heartbeats to the outside monitor at `url`.
    pub fn new(url: Url) -> Result<Self, reqwest::Error> {
        // A redirect would show the secret to another server.
        let http = reqwest::Client::builder().timeout(TIMEOUT).redirect(Policy::none()).build()?;
        Ok(Self { clock: BeatClock::new(Instant::now()), http, url, fails: Arc::default() })
    }

    /// Sends or skips the heartbeat that is due, if one is. Never waits for the outside monitor.
    /// `path` names the part of the path of an alert that does not work.
    pub fn turn(&mut self, path: &Result<(), String>) {
        match self.clock.turn(path.is_ok(), Instant::now()) {
            Turn::Wait => {}
            Turn::Beat { resumed } => {
                if resumed {
                    info!("an alert would reach people, heartbeats resume");
                }
                let (sent, fails) = (self.send(), Arc::clone(&self.fails));
                tokio::spawn(async move { note(sent.await, &fails) });
            }
            Turn::Skip { stopped } => {
                counter!(HEARTBEATS, "outcome" => "skipped").increment(1);
                if stopped && let Err(reason) = path {
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

/// Counts a heartbeat. Logs the first failure, and the first success after it.
fn note(sent: anyhow::Result<()>, fails: &AtomicBool) {
    let outcome = if sent.is_ok() { "sent" } else { "failed" };
    counter!(HEARTBEATS, "outcome" => outcome).increment(1);
    let failed_before = fails.swap(sent.is_err(), Ordering::Relaxed);
    match sent {
        Ok(()) if failed_before => info!("heartbeat delivered again"),
        Err(error) if !failed_before => {
            warn!(%error, "cannot deliver heartbeat, sending the next one in its turn")
        }
        Ok(()) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use wiremock::matchers::{method, path};
    use wiremock::{Mock, MockServer, ResponseTemplate};

    use super::*;

    #[test]
    fn heartbeats_come_every_minute_while_an_alert_would_reach_people_and_at_once_when_it_would() {
        let start = Instant::now();
        let mut clock = BeatClock::new(start);
        for (seconds, reaches, turn) in [
            (0, false, Turn::Wait),
            (2, true, Turn::Beat { resumed: false }),
            (4, true, Turn::Wait),
            (6, false, Turn::Wait),
            (61, true, Turn::Wait),
            (62, true, Turn::Beat { resumed: false }),
            (121, false, Turn::Wait),
            (122, false, Turn::Skip { stopped: true }),
            (124, false, Turn::Wait),
            (182, false, Turn::Skip { stopped: false }),
            (190, true, Turn::Beat { resumed: true }),
            (249, true, Turn::Wait),
            (250, true, Turn::Beat { resumed: false }),
        ] {
            let now = start + Duration::from_secs(seconds);
            assert_eq!(clock.turn(reaches, now), turn, "after {seconds} s");
        }
    }

    #[test]
    fn a_start_that_never_gets_well_is_noticed_after_a_minute() {
        let start = Instant::now();
        let mut clock = BeatClock::new(start);
        assert_eq!(clock.turn(false, start + Duration::from_secs(59)), Turn::Wait);
        assert_eq!(clock.turn(false, start + INTERVAL), Turn::Skip { stopped: true });
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
