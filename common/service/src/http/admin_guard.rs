//! Guards the calls of the admin port that change something, and logs each.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use metrics::counter;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tracing::{info, warn};

use crate::metrics::ADMIN_UNAUTHORIZED;
use crate::telemetry::AUDIT;

/// Wait before the answer to a wrong token, so that a client cannot find the token by trying.
const UNAUTHORIZED_DELAY: Duration = Duration::from_secs(1);

/// The condition of calls that change something.
#[derive(Debug, Clone)]
pub(super) struct AdminGuard {
    token: Option<SecretString>,
    /// Whether only this machine reaches the port.
    loopback: bool,
}

/// Whether a call may change something.
#[derive(Debug, PartialEq, Eq)]
enum Access {
    Allowed,
    /// There is no token, and the port is open to others.
    Forbidden,
    /// The token is wrong or missing.
    Unauthorized,
}

impl AdminGuard {
    /// Guards a port at `listen` by `token`. Without a token only a port on loopback is used.
    pub(super) fn new(token: Option<SecretString>, listen: SocketAddr) -> Self {
        // The metric is there before the first wrong token.
        counter!(ADMIN_UNAUTHORIZED).increment(0);
        Self { token, loopback: listen.ip().is_loopback() }
    }

    fn access(&self, headers: &HeaderMap) -> Access {
        let Some(token) = &self.token else {
            return if self.loopback { Access::Allowed } else { Access::Forbidden };
        };
        let token = token.expose_secret().as_bytes();
        match bearer(headers) {
            Some(given) if given.as_bytes().ct_eq(token).into() => Access::Allowed,
            _ => Access::Unauthorized,
        }
    }
}

/// Returns the token of a call.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Passes on calls that only read, and calls that change something if they may.
pub(super) async fn guard(
    State(guard): State<AdminGuard>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = match guard.access(request.headers()) {
        Access::Allowed => next.run(request).await,
        Access::Forbidden => {
            let problem = "set ADMIN_TOKEN, or ADMIN_LISTEN to an address of loopback\n";
            (StatusCode::FORBIDDEN, problem).into_response()
        }
        Access::Unauthorized => {
            counter!(ADMIN_UNAUTHORIZED).increment(1);
            tokio::time::sleep(UNAUTHORIZED_DELAY).await;
            let problem = "send ADMIN_TOKEN as Authorization: Bearer\n";
            (StatusCode::UNAUTHORIZED, [(WWW_AUTHENTICATE, "Bearer")], problem).into_response()
        }
    };
    let status = response.status().as_u16();
    if response.status().is_success() {
        info!(target: AUDIT, %peer, %method, path, status, "admin call answered");
    } else {
        warn!(target: AUDIT, %peer, %method, path, status, "admin call refused");
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn only_the_token_or_loopback_without_a_token_allows_a_change() {
        let right = format!("Bearer {TOKEN}");
        let lower = format!("bearer {TOKEN}");
        let basic = format!("Basic {TOKEN}");
        let longer = format!("Bearer {TOKEN}0");
        for (token, listen, header, expected) in [
            (None, "127.0.0.1:9090", None, Access::Allowed),
            (None, "[::1]:9090", Some(&right), Access::Allowed),
            (None, "0.0.0.0:9090", None, Access::Forbidden),
            (None, "10.0.0.1:9090", Some(&right), Access::Forbidden),
            (Some(TOKEN), "10.0.0.1:9090", Some(&right), Access::Allowed),
            (Some(TOKEN), "10.0.0.1:9090", Some(&lower), Access::Allowed),
            (Some(TOKEN), "127.0.0.1:9090", None, Access::Unauthorized),
            (Some(TOKEN), "127.0.0.1:9090", Some(&basic), Access::Unauthorized),
            (Some(TOKEN), "127.0.0.1:9090", Some(&longer), Access::Unauthorized),
        ] {
            let guard = AdminGuard::new(token.map(SecretString::from), listen.parse().unwrap());
            let value = header.map(|header| HeaderValue::from_str(header).unwrap());
            let headers = value.into_iter().map(|value| (AUTHORIZATION, value)).collect();
            assert_eq!(guard.access(&headers), expected, "{token:?} at {listen}: {header:?}");
        }
    }
}
