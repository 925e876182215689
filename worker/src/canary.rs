//! Sends a canary: a reading of no device, posted to a gateway as a watch does and looked for in
//! MySQL. So a way that is closed is noticed while no device sends.
//!
//! The owner of the group's first partition sends it. The readings of a day have one time and merge
//! into one row. Each has another step, by which it is recognised.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ljwx_ledger::mysql::MySqlPool;
use ljwx_reading::{CANARY_SN, wall_text};
use ljwx_service::config::{Problems, duration};
use ljwx_service::lifecycle::within;
use metrics::gauge;
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::health::Health;
use crate::metrics::CANARY_VISIBLE;

/// The partition whose owner sends the canary.
const FIRST_PARTITION: i32 = 0;

/// Time that a watch waits for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest time for which one reading is looked for, as long as the rule `CanaryNotVisible` allows.
/// The next one overwrites its step, so a slow one must be seen before the next one is sent.
const LOOK_FOR: Duration = Duration::from_secs(60);

/// Interval of the looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Shortest interval of the readings.
const INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Number of different steps. All lie within a step's range.
const STEPS: i64 = 1_000_000;

/// Settings of the canary.
#[derive(Debug, Clone, clap::Args)]
pub struct CanaryArgs {
    /// Address to which a canary is posted, as `http://gateway:8080/upload_health_data`, best the one
    /// that devices use. One worker of the group posts it and looks for it in MySQL. Unset or empty:
    /// no canary.
    #[arg(long, env = "CANARY_URL")]
    pub canary_url: Option<String>,
    /// Interval of the canary.
    #[arg(long, env = "CANARY_INTERVAL", default_value = "30s", value_parser = duration)]
    pub canary_interval: Duration,
}

impl CanaryArgs {
    /// Adds the problems of these settings.
    pub fn validate(&self, problems: &mut Problems) {
        if let Err(problem) = self.url() {
            problems.add(format!("--canary-url: {problem}"));
        }
        problems.require(self.canary_interval >= INTERVAL_MIN, || {
            "--canary-interval must be at least 1s".into()
        });
    }

    /// Returns the address, if there is one.
    fn url(&self) -> Result<Option<Url>, String> {
        let Some(text) = self.canary_url.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let url = Url::parse(text).ok().filter(|url| {
            let is_open = url.username().is_empty() && url.password().is_none();
            is_open && matches!(url.scheme(), "http" | "https")
        });
        url.map(Some).ok_or_else(|| {
            "must be an address such as https://host/path, without a user and a password: GET /config shows it"
                .to_owned()
        })
    }

    /// Returns the canary, if there is an address. `zone` is that of the devices.
    pub fn build(
        &self,
        pool: MySqlPool,
        zone: TimeZone,
        health: Health,
    ) -> anyhow::Result<Option<Canary>> {
        gauge!(CANARY_VISIBLE).set(0.0);
        let url = self.url().map_err(anyhow::Error::msg).context("--canary-url")?;
        let Some(url) = url else { return Ok(None) };
        // A device does not follow a redirect, either.
        let http = reqwest::Client::builder().timeout(ANSWER_TIMEOUT).redirect(Policy::none());
        let http = http.build().context("HTTP client")?;
        Ok(Some(Canary { http, url, interval: self.canary_interval, pool, zone, health }))
    }
}

/// Sends the readings of the canary and looks for each.
pub struct Canary {
    http: reqwest::Client,
    url: Url,
    interval: Duration,
    pool: MySqlPool,
    zone: TimeZone,
    health: Health,
}

impl Canary {
    /// Sends readings until `stop`, as long as this replica owns the first partition.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = interval(self.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut missing_since = None;
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            if !self.health.owns(FIRST_PARTITION) {
                missing_since = None;
                gauge!(CANARY_VISIBLE).set(0.0);
                continue;
            }
            let sent_at = Instant::now();
            let sent = CanaryReading::of(Timestamp::now(), &self.zone);
            let Some(seen) = stop.run_until_cancelled(self.send_and_find(&sent)).await else {
                return;
            };
            let since = match seen {
                Ok(()) => {
                    if missing_since.take().is_some() {
                        info!("canary is visible again");
                    }
                    sent_at
                }
                Err(error) => {
                    if missing_since.is_none() {
                        warn!(
                            error = format!("{error:#}"),
                            "canary is not visible, sending the next one"
                        );
                    }
                    *missing_since.get_or_insert(sent_at)
                }
            };
            gauge!(CANARY_VISIBLE).set(since.elapsed().as_secs_f64());
        }
    }

    /// Sends a reading and waits until it is in MySQL. The error says why it is not.
    async fn send_and_find(&self, sent: &CanaryReading) -> anyhow::Result<()> {
        let request = self.http.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        let answer = request.body(sent.body()).send().await.context("no gateway answers")?;
        let status = answer.status();
        ensure!(status.is_success(), "the gateway answers {status}");
        let found = async {
            while !self.is_stored(sent).await? {
                sleep(LOOK_INTERVAL).await;
            }
            anyhow::Ok(())
        };
        within(LOOK_FOR, found).await.context("it is not in MySQL")?
    }

    async fn is_stored(&self, sent: &CanaryReading) -> anyhow::Result<bool> {
        let step: Option<Option<i64>> = sqlx::query_scalar(
            "SELECT CAST(step AS SIGNED) FROM t_user_health_data \
             WHERE device_sn = ? AND timestamp = ?",
        )
        .bind(CANARY_SN)
        .bind(&sent.time)
        .fetch_optional(&self.pool)
        .await
        .context("cannot look for it in MySQL")?;
        Ok(step.flatten() == Some(sent.step))
    }
}

/// One reading of the canary.
#[derive(Debug, PartialEq, Eq)]
struct CanaryReading {
    /// Event time: the first second of the day. The row is that of the day.
    time: String,
    /// Tells the readings of a day apart.
    step: i64,
}

impl CanaryReading {
    /// Returns the reading that is sent at `now`.
    fn of(now: Timestamp, zone: &TimeZone) -> Self {
        let day = zone.to_datetime(now).start_of_day();
        Self { time: wall_text(day), step: now.as_second().rem_euclid(STEPS) }
    }

    /// Returns the body in the form of a watch's.
    fn body(&self) -> String {
        let Self { time, step } = self;
        json!({"data": {"deviceSn": CANARY_SN, "timestamp": time, "step": step}}).to_string()
    }
}

#[cfg(test)]
mod tests {
    use ljwx_reading::{Ids, ParseContext, Reading, envelope};

    use super::*;

    #[test]
    fn the_readings_of_a_day_are_one_row_and_each_is_accepted_and_recognised() {
        let zone = TimeZone::get("Asia/Shanghai").unwrap();
        let mut rows = Vec::new();
        for (now, step) in [
            ("2025-09-02T00:00:00+08:00", 742_400),
            ("2025-09-02T00:00:30+08:00", 742_430),
            ("2025-09-02T23:59:59+08:00", 828_799),
            ("2025-09-03T00:00:29+08:00", 828_829),
        ] {
            let received_at: Timestamp = now.parse().unwrap();
            let sent = CanaryReading::of(received_at, &zone);
            let body = sent.body();
            let items = envelope::unwrap(body.as_bytes()).unwrap();
            let context = ParseContext {
                zone: &zone,
                received_at,
                index: 0,
                ids: Ids::default(),
                id_warnings: &[],
            };
            let reading = Reading::parse(items[0].raw, &context).unwrap();
            assert!(reading.device_sn().is_canary() && reading.warnings().is_empty());
            assert_eq!(reading.vitals().step.map(i64::from), Some(step), "{now}");
            assert_eq!((wall_text(reading.timestamp()), sent.step), (sent.time.clone(), step));
            rows.push(sent.time);
        }
        rows.dedup();
        assert_eq!(rows, ["2025-09-02 00:00:00", "2025-09-03 00:00:00"]);
    }

    #[test]
    fn a_reading_is_looked_for_as_long_as_its_alert_rule_allows() {
        let rules = include_str!("../../deploy/prometheus/rules.yml");
        let limit =
            format!("(canary_visible_seconds{{job=\"worker\"}}) > {}\n", LOOK_FOR.as_secs());
        assert!(rules.contains(&limit), "{limit}");
    }

    #[test]
    fn an_address_is_one_of_the_web_and_an_empty_one_is_none() {
        let url = |text: &str| {
            let canary_url = Some(text.to_owned());
            CanaryArgs { canary_url, canary_interval: INTERVAL_MIN }.url()
        };
        assert_eq!(url(""), Ok(None));
        assert!(url("http://g:8080/upload_health_data").unwrap().is_some());
        for wrong in
            ["g:8080", "ftp://g/x", "/upload_health_data", "http://u:p@g/x", "http://u@g/x"]
        {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }
}
