//! Calls WeChat's platforms, or a server that stands in for one.
//!
//! One call is one attempt. The callers decide when to retry.

use std::time::Duration;

use reqwest::Url;
use reqwest::redirect::Policy;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{ApiOperation, ErrcodeRemedy, PlatformKind};
use crate::notify::notice::cut;
use crate::notify::wechat::error::Failure;

/// Time limit of one call. The lease of a claimed notification is several times as long.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(8);

/// Longest part of the platform's error message that an error keeps, in bytes.
const ERRMSG_BYTES_MAX: usize = 200;

/// One call. A call holds secrets, so it has no `Debug`.
pub struct ApiCall {
    /// The purpose of the call.
    pub step: ApiOperation,
    /// Path below the platform's base address.
    pub path: &'static str,
    /// Query parameters.
    pub query: Vec<(&'static str, String)>,
    /// JSON to post. `None`: the call is a GET.
    pub body: Option<Vec<u8>>,
}

/// The fields that every answer of a platform may hold.
#[derive(Debug, serde::Deserialize)]
struct Status {
    errcode: Option<i64>,
    #[serde(default)]
    errmsg: String,
}

/// A platform.
#[derive(Debug, Clone)]
pub struct Platform {
    http: reqwest::Client,
    base: Url,
    kind: PlatformKind,
}

impl Platform {
    /// The platform of this kind at `base`. One call may take `timeout`.
    pub fn new(kind: PlatformKind, base: Url, timeout: Duration) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(timeout)
            // Shorter than `timeout`, so that an absent server is distinguished from a slow one.
            .connect_timeout(timeout / 2)
            // A redirect would send the token to another server.
            .redirect(Policy::none())
            .build()?;
        Ok(Self { http, base, kind })
    }

    /// Makes one call. An errcode other than 0 is a failure, whatever the HTTP status.
    pub(super) async fn call<T: DeserializeOwned>(&self, call: ApiCall) -> Result<T, Failure> {
        let ApiCall { step, path, .. } = call;
        let lost = |message: String, reached: bool| Failure {
            remedy: ErrcodeRemedy::Retry,
            errcode: None,
            uncertain: reached && step == ApiOperation::Send,
            message: format!("{path}: {message}"),
        };
        // Without the URL: it holds the token, and reqwest's errors hold the URL.
        let unreachable = |error: reqwest::Error| {
            let reached = !error.is_connect() && !error.is_builder();
            lost(reason(&error.without_url()), reached)
        };
        let response = self.request(call).send().await.map_err(unreachable)?;
        let status = response.status();
        let answer = response.bytes().await.map_err(unreachable)?;
        let garbage = || lost(format!("HTTP {status} without a usable answer"), true);
        let said: Status = serde_json::from_slice(&answer).map_err(|_| garbage())?;
        match said.errcode {
            Some(errcode) if errcode != 0 => Err(Failure {
                remedy: ErrcodeRemedy::of(self.kind, step, errcode),
                errcode: Some(errcode),
                uncertain: false,
                message: format!("{path}: {}", cut(&said.errmsg, ERRMSG_BYTES_MAX)),
            }),
            _ if !status.is_success() => Err(garbage()),
            _ => serde_json::from_slice(&answer).map_err(|_| garbage()),
        }
    }

    fn request(&self, call: ApiCall) -> reqwest::RequestBuilder {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{}", self.base.path().trim_end_matches('/'), call.path));
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query);
        }
        match call.body {
            Some(body) => self
                .http
                .post(url)
                .header(reqwest::header::CONTENT_TYPE, "application/json; charset=utf-8")
                .body(body),
            None => self.http.get(url),
        }
    }
}

/// Returns an error and its causes in one line.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Serialises a body.
pub(super) fn json(body: &impl Serialize) -> Vec<u8> {
    // Plain structs of strings and numbers always serialise.
    serde_json::to_vec(body).unwrap_or_default()
}
