//! Calls WeChat's platforms, or servers that stand in for them.
//!
//! One call is one attempt. The callers decide when to retry.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{ErrcodeRemedy, Failure};
use crate::notify::notice::cut;
use crate::rules::channel::Channel;

/// Time limit of one call. The lease of a claimed notification is several times as long.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(8);

/// Longest part of the platform's error message that an error keeps, in bytes.
const ERRMSG_BYTES_MAX: usize = 200;

/// Both platforms, by their base addresses.
#[derive(Debug, Clone)]
pub(super) struct Api {
    http: reqwest::Client,
    official: Url,
    wecom: Url,
}

impl Api {
    /// The platforms of official accounts and of WeCom. One call may take `timeout`.
    pub(super) fn new(
        official: Url,
        wecom: Url,
        timeout: Duration,
    ) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(timeout)
            // Shorter than `timeout`, so that an absent server is distinguished from a slow one.
            .connect_timeout(timeout / 2)
            // A redirect would send the token to another server.
            .redirect(Policy::none())
            .build()?;
        Ok(Self { http, official, wecom })
    }

    /// Calls the platform of a channel: posts the JSON `body`, or gets without one. An errcode other
    /// than 0 is a failure, whatever the HTTP status.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        channel: Channel,
        path: &'static str,
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
    ) -> Result<T, Failure> {
        let base = if channel == Channel::Wecom { &self.wecom } else { &self.official };
        let mut url = base.clone();
        url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let json = "application/json; charset=utf-8";
        let request = match body {
            Some(body) => self.http.post(url).header(CONTENT_TYPE, json).body(body),
            None => self.http.get(url),
        };
        let lost = |message: String, uncertain: bool| Failure {
            uncertain,
            ..Failure::new(ErrcodeRemedy::Retry, None, format!("{path}: {message}"))
        };
        // Without the URL: it holds the token, and reqwest's errors hold the URL.
        let unreachable = |error: reqwest::Error| {
            let reached = !error.is_connect() && !error.is_builder();
            lost(format!("{:#}", anyhow::Error::new(error.without_url())), reached)
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let answer = response.bytes().await.map_err(unreachable)?;
        let garbage = || lost(format!("HTTP {status} without a usable answer"), true);
        let said: Value = serde_json::from_slice(&answer).map_err(|_| garbage())?;
        match said["errcode"].as_i64() {
            Some(errcode) if errcode != 0 => {
                let errmsg = cut(said["errmsg"].as_str().unwrap_or_default(), ERRMSG_BYTES_MAX);
                let remedy = ErrcodeRemedy::of(channel, errcode);
                Err(Failure::new(remedy, Some(errcode), format!("{path}: {errmsg}")))
            }
            _ if !status.is_success() => Err(garbage()),
            _ => serde_json::from_value(said).map_err(|_| garbage()),
        }
    }
}
