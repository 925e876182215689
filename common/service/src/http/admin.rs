//! Serves the admin port: liveness, readiness, metrics, settings, log level. The public port never
//! serves these. Leaves to `admin_guard` who may change something.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::Router;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::get;
use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::admin_guard::{AdminGuard, guard};
use super::bounds::ConnectionLimits;
use super::server::{HttpServer, ServerStop};
use crate::config::{self, Problems};
use crate::lifecycle::{EssentialTasks, within};
use crate::telemetry::{AUDIT, LogLevel, MetricsHandle, Telemetry};

/// Longest time for a body to arrive: the connection has no clock between a head and its answer.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Fewest characters of a token.
const TOKEN_CHARACTERS_MIN: usize = 32;

/// Settings of the admin port.
#[derive(Debug, Clone, clap::Args)]
pub struct AdminArgs {
    /// Address of the admin port: /livez, /readyz, /metrics, /config, /loglevel.
    #[arg(long, env = "ADMIN_LISTEN", default_value = "127.0.0.1:9090")]
    pub admin_listen: SocketAddr,
    /// Token of the calls that change something, such as PUT /loglevel, as Authorization: Bearer; at
    /// least 32 characters. None: such calls are possible on loopback only.
    #[arg(long, env = "ADMIN_TOKEN", hide_env_values = true)]
    pub admin_token: Option<SecretString>,
}

impl AdminArgs {
    /// Adds the problems of these settings.
    pub fn validate(&self, problems: &mut Problems) {
        let token = self.admin_token.as_ref().map(|token| token.expose_secret());
        let sendable = |token: &str| {
            token.len() >= TOKEN_CHARACTERS_MIN && token.bytes().all(|byte| byte.is_ascii_graphic())
        };
        problems.require(token.is_none_or(sendable), || {
            format!(
                "--admin-token must have at least {TOKEN_CHARACTERS_MIN} letters, digits or signs of \
                 ASCII, and no blank"
            )
        });
    }
}

/// The check behind a probe. The error states the reason for a failure.
pub type Probe = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The state behind the routes of the admin port.
#[derive(Clone)]
pub struct AdminServer {
    /// Whether the main loop of the process runs. Never depends on another server.
    live: Probe,
    /// Whether the process is ready for work.
    ready: Probe,
    metrics: MetricsHandle,
    log_level: LogLevel,
}

impl AdminServer {
    /// Creates the state from these checks and the process's telemetry.
    pub fn new(live: Probe, ready: Probe, telemetry: &Telemetry) -> Self {
        Self { live, ready, metrics: telemetry.metrics(), log_level: telemetry.log_level() }
    }

    /// Binds the port now and serves it until `stop`. `more` adds the service's own routes.
    pub async fn serve(
        self,
        args: &AdminArgs,
        more: Router,
        essential: &EssentialTasks,
        stop: &CancellationToken,
    ) -> anyhow::Result<SocketAddr> {
        let server = HttpServer::bind(args.admin_listen, ConnectionLimits::ADMIN, None)
            .with_context(|| format!("--admin-listen {}", args.admin_listen))?;
        let address = server.local_addr()?;
        let (metrics, log_level) = (self.metrics.clone(), self.log_level.clone());
        let guarded = AdminGuard::new(args.admin_token.clone(), args.admin_listen);
        let router = Router::new()
            .route("/livez", get(async |State(admin): State<Self>| answer(&admin.live)))
            .route("/readyz", get(async |State(admin): State<Self>| answer(&admin.ready)))
            .route("/metrics", get(async |State(admin): State<Self>| admin.metrics.render()))
            .route("/config", get(async || config::in_force()))
            .route("/loglevel", get(get_log_level).put(set_log_level))
            .with_state(self)
            .merge(more)
            .layer(from_fn_with_state(guarded, guard));
        let closing = ServerStop { leaving: stop.clone(), closing: stop.clone() };
        essential.spawn("the admin port", stop, server.serve(router, closing));
        essential.spawn("the sweep of the metrics and the log level", stop, async move {
            // Histograms keep every sample until they are rendered or swept.
            let mut sweep = tokio::time::interval(Duration::from_secs(5));
            loop {
                sweep.tick().await;
                metrics.sweep();
                if let Some(filter) = log_level.expire(Instant::now()) {
                    info!(target: AUDIT, filter, "log level reverted");
                }
            }
        });
        Ok(address)
    }
}

async fn get_log_level(State(admin): State<AdminServer>) -> String {
    format!("{}\n", admin.log_level.get())
}

/// Sets the filter in the body, for an hour at most.
async fn set_log_level(State(admin): State<AdminServer>, request: Request) -> (StatusCode, String) {
    let filter = match body(request).await {
        Ok(filter) => filter,
        Err(refusal) => return refusal,
    };
    match admin.log_level.set(&filter, Instant::now()) {
        Ok(()) => {
            let filter = admin.log_level.get();
            info!(target: AUDIT, filter, "log level changed");
            (StatusCode::OK, format!("{filter}\n"))
        }
        Err(problem) => (StatusCode::BAD_REQUEST, format!("{problem}\n")),
    }
}

/// Reads a request's text. The error is the answer to the client.
async fn body(request: Request) -> Result<String, (StatusCode, String)> {
    match within(BODY_TIMEOUT, String::from_request(request, &())).await {
        Some(read) => read.map_err(|error| (error.status(), format!("{}\n", error.body_text()))),
        None => {
            let seconds = BODY_TIMEOUT.as_secs();
            let problem = format!("the body did not arrive within {seconds} s\n");
            Err((StatusCode::REQUEST_TIMEOUT, problem))
        }
    }
}

fn answer(check: &Probe) -> impl IntoResponse + use<> {
    match check() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::Body;
    use bytes::Bytes;
    use futures_util::stream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_answered_in_time() {
        let silent = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let (status, problem) = body(Request::new(silent)).await.unwrap_err();
        assert_eq!(status, StatusCode::REQUEST_TIMEOUT, "{problem}");
        assert_eq!(body(Request::new(Body::from("info"))).await, Ok("info".to_owned()));
    }
}
