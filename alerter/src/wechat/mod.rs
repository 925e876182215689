//! WeChat's official accounts: tokens, template messages, and what its error codes ask for.
//!
//! One call is one attempt here; when to try again belongs to [`crate::sender`].

pub mod errcode;
pub mod official;
pub mod token;

use std::time::Duration;

use reqwest::Url;
use secrecy::SecretString;
use serde::Serialize;
use serde::de::DeserializeOwned;

use errcode::{Remedy, Step};

/// How long one call may take. A claimed notification's lease is several times as long.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(8);

/// Longest part of the platform's own words that an error keeps, in bytes.
const ERRMSG_BYTES_MAX: usize = 200;

/// An official account of one tenant.
#[derive(Debug, Clone)]
pub struct Account {
    /// Tenant; `None`: the one account of a single-tenant installation.
    pub customer_id: Option<i64>,
    /// The account's public name.
    pub app_id: String,
    /// What proves that it is ours.
    pub app_secret: SecretString,
    /// The template its messages have.
    pub template_id: String,
    /// Who is told where no recipient of the device is known.
    pub default_address: Option<String>,
}

/// A call that did not do what it was for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What to do about it.
    pub remedy: Remedy,
    /// The platform's code, where it answered.
    pub errcode: Option<i64>,
    /// What happened; holds no secret and no address with one.
    pub message: String,
}

/// What every answer of the platform may hold.
#[derive(Debug, serde::Deserialize)]
struct Status {
    errcode: Option<i64>,
    #[serde(default)]
    errmsg: String,
}

/// The platform, or a server that stands in for it.
#[derive(Debug, Clone)]
pub struct Platform {
    http: reqwest::Client,
    base: Url,
}

impl Platform {
    /// The platform at `base`, which may take `timeout` for one call.
    pub fn new(base: Url, timeout: Duration) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder().timeout(timeout).build()?;
        Ok(Self { http, base })
    }

    /// One POST of JSON; an answer with an errcode other than 0 is a failure, whatever its status.
    async fn call<T: DeserializeOwned>(
        &self,
        step: Step,
        path: &str,
        token: Option<&str>,
        body: Vec<u8>,
    ) -> Result<T, Failure> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        if let Some(token) = token {
            url.query_pairs_mut().append_pair("access_token", token);
        }
        let request = self
            .http
            .post(url)
            .header(reqwest::header::CONTENT_TYPE, "application/json; charset=utf-8")
            .body(body);
        // The URL holds the token, and reqwest's errors hold the URL.
        let unreachable = |error: reqwest::Error| Failure {
            remedy: Remedy::Retry,
            errcode: None,
            message: format!("{path}: {}", reason(&error.without_url())),
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let answer = response.bytes().await.map_err(unreachable)?;
        let garbage = || Failure {
            remedy: Remedy::Retry,
            errcode: None,
            message: format!("{path}: HTTP {status} without a usable answer"),
        };
        let said: Status = serde_json::from_slice(&answer).map_err(|_| garbage())?;
        match said.errcode {
            Some(errcode) if errcode != 0 => Err(Failure {
                remedy: Remedy::of(errcode, step),
                errcode: Some(errcode),
                message: format!("{path}: {}", crate::message::cut(&said.errmsg, ERRMSG_BYTES_MAX)),
            }),
            _ if !status.is_success() => Err(garbage()),
            _ => serde_json::from_slice(&answer).map_err(|_| garbage()),
        }
    }
}

/// An error and what caused it, in one line.
fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn json(body: &impl Serialize) -> Vec<u8> {
    // Plain structs of strings always serialise.
    serde_json::to_vec(body).unwrap_or_default()
}

/// Reads the platform's base address; the older form of the setting, a whole call's address with a
/// placeholder for the token, means the same.
pub fn base_url(text: &str) -> Result<Url, String> {
    let base = text.split("/cgi-bin").next().unwrap_or(text);
    let url: Url = base.parse().map_err(|_| "write https://host or http://host:port".to_owned())?;
    let plain = url.query().is_none() && url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || !plain {
        return Err(
            "write https://host or http://host:port, without user, password or query".into()
        );
    }
    Ok(url)
}
