//! Connects to Redis with bounds on everything. fred's defaults wait for ever, and queue without
//! limit while Redis is unreachable.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use fred::error::ErrorKind;
use fred::interfaces::EventInterface;
use fred::prelude::{Builder, Client, ClientLike, Config, Error, ReconnectPolicy};
use fred::types::config::{Server, TlsConnector, UnresponsiveConfig};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tracing::{info, warn};
use url::Url;

use ljwx_service::config::{Problems, duration};
use ljwx_service::link::{ConnectionSecurity, Tls};

/// Settings of a connection to Redis.
#[derive(Debug, Clone)]
pub struct RedisArgs {
    /// The URL.
    pub url: SecretString,
    /// Longest time of one command.
    pub timeout: Duration,
}

/// Settings of the connection to Redis, for commands that can leave Redis out.
#[derive(Debug, Clone, clap::Args)]
pub struct OptionalRedisArgs {
    /// Redis, as `redis://user:password@host:port/db`. `rediss://` adds TLS with verified chain and
    /// name of the server; ?ssl-ca=FILE, &ssl-cert=FILE and &ssl-key=FILE may follow. Behind
    /// Sentinel as redis-sentinel:// or rediss-sentinel://, with sentinelServiceName. Unset or
    /// empty: no Redis.
    #[arg(id = "redis-url", long = "redis-url", env = "REDIS_URL", hide_env_values = true)]
    pub url: Option<SecretString>,
    /// Longest time of one command.
    #[arg(
        id = "redis-timeout",
        long = "redis-timeout", env = "REDIS_TIMEOUT", default_value = "500ms", value_parser = duration)]
    pub timeout: Duration,
}

impl OptionalRedisArgs {
    /// Adds the problems of these settings.
    pub fn validate(&self, problems: &mut Problems) {
        if let Some(args) = self.args() {
            args.validate(problems);
        }
    }

    /// Returns the settings, if a URL is set.
    pub fn args(&self) -> Option<RedisArgs> {
        let url = self.url.clone().filter(|url| !url.expose_secret().is_empty())?;
        Some(RedisArgs { url, timeout: self.timeout })
    }
}

/// Longest wait before the next attempt to connect, in milliseconds.
const RECONNECT_MS_MAX: u32 = 2_000;

/// First wait before the next attempt to connect, in milliseconds.
const RECONNECT_MS_MIN: u32 = 100;

/// Most commands that may wait for a connection. Further commands fail at once.
const WAITING_COMMANDS_MAX: usize = 1_000;

/// Longest wait of a command for a connection, in multiples of the limit of one command.
const CONNECT_COMMANDS: u32 = 4;

/// Stands for the host of the primary behind Sentinel. The primary may be anywhere, so it counts as
/// another machine.
const NAMED_BY_SENTINEL: &str = "the primary that Sentinel names";

/// The remedy for TLS parameters without TLS.
const TLS_REMEDY: &str = "write rediss:// or rediss-sentinel://";

impl RedisArgs {
    /// Adds the problems of these settings.
    pub fn validate(&self, problems: &mut Problems) {
        if let Err(problem) = config(self.url.expose_secret()) {
            problems.add(format!("--redis-url: {problem}"));
        }
        // The client takes 0 for no limit.
        problems.require(!self.timeout.is_zero(), || {
            "--redis-timeout must be above 0: a command that waits for ever delays all others"
                .into()
        });
    }

    /// Returns how the connection is secured.
    pub fn link(&self) -> Option<ConnectionSecurity> {
        let (config, tls) = config(self.url.expose_secret()).ok()?;
        let servers = config.server.hosts();
        let mut hosts: Vec<_> = servers.iter().map(|server| server.host.to_string()).collect();
        if config.server.is_sentinel() {
            hosts.push(NAMED_BY_SENTINEL.to_owned());
        }
        Some(ConnectionSecurity::new("redis", hosts, tls.as_ref()))
    }

    /// Creates a client that connects in the background and reconnects.
    pub fn connect(&self) -> Result<Client, Error> {
        let client = self.builder()?.build()?;
        tokio::spawn(log_unreachable(client.error_rx(), client.reconnect_rx()));
        // The task ends with the client. Its result only repeats the errors of commands.
        drop(client.connect());
        Ok(client)
    }

    /// Creates a client and waits until it is connected, for commands that ask once and end.
    pub async fn connected(&self) -> anyhow::Result<Client> {
        let client = self.connect()?;
        let wait = self.timeout.saturating_mul(CONNECT_COMMANDS);
        tokio::time::timeout(wait, client.wait_for_connect())
            .await
            .context("Redis is unreachable")?
            .context("Redis is unreachable")?;
        Ok(client)
    }

    /// Returns the builder behind [`Self::connect`], for other kinds of clients such as
    /// subscribers.
    pub fn builder(&self) -> Result<Builder, Error> {
        let timeout = self.timeout;
        let config = config(self.url.expose_secret()).map(|(config, _)| config);
        let mut builder =
            Builder::from_config(config.map_err(|problem| Error::new(ErrorKind::Config, problem))?);
        builder
            // With `fail_fast` a Redis that is unreachable at the start would stay unreachable.
            .with_config(|config| config.fail_fast = false)
            .with_performance_config(|performance| {
                performance.default_command_timeout = timeout;
            })
            .with_connection_config(|connection| {
                connection.connection_timeout = timeout;
                connection.max_command_attempts = 1;
                connection.max_command_buffer_len = WAITING_COMMANDS_MAX;
                connection.unresponsive =
                    UnresponsiveConfig { max_timeout: Some(timeout * 4), interval: timeout };
            })
            .set_policy(ReconnectPolicy::new_exponential(0, RECONNECT_MS_MIN, RECONNECT_MS_MAX, 2));
        Ok(builder)
    }
}

/// Parses a URL into the client's configuration, and TLS if the URL is encrypted. The error states
/// the fault of the URL.
pub fn config(url: &str) -> Result<(Config, Option<Tls>), String> {
    let form = || "must read redis://host:port or redis://user:password@host:port/db".to_owned();
    let mut url = Url::parse(url).map_err(|_| form())?;
    let (encrypted, scheme) = match url.scheme() {
        "redis" => (false, "redis"),
        "rediss" => (true, "redis"),
        "redis-sentinel" => (false, "redis-sentinel"),
        "rediss-sentinel" => (true, "redis-sentinel"),
        "redis-cluster" | "rediss-cluster" => {
            return Err("Redis Cluster is not supported: one script call shows the readings of \
                        many devices, whose keys a cluster spreads; use one primary as \
                        redis://, or behind Sentinel as redis-sentinel://"
                .into());
        }
        _ => return Err(form()),
    };
    // MySQL's parameter for TLS would be ignored here, and the connection would be plain.
    if url.query_pairs().any(|(name, _)| name == "ssl-mode") {
        return Err(format!("ssl-mode is not for Redis: {TLS_REMEDY}"));
    }
    let tls = Tls::of_url(&url, encrypted, TLS_REMEDY)?;
    // fred builds its own TLS client for a scheme with TLS. The plain scheme lets the client below
    // replace it.
    url.set_scheme(scheme).map_err(|()| form())?;
    let mut config = Config::from_url(url.as_str()).map_err(|_| match scheme {
        "redis" => form(),
        _ => "must read redis-sentinel://user:password@sentinel:26379/db?\
              sentinelServiceName=NAME&node=sentinel2:26379"
            .to_owned(),
    })?;
    if let Some(tls) = &tls {
        let connector = Arc::new(tls.client_config()?);
        config.tls = Some(TlsConnector::Rustls(connector.into()).into());
    }
    Ok((config, tls))
}

/// Returns whether Redis answers. A server that has stopped answering keeps its connections open. A
/// refusal is an answer: what Redis accepts is for the senders to report.
pub async fn answers(client: &Client) -> bool {
    if !client.is_connected() {
        return false;
    }
    let answer: Result<(), Error> = client.ping(None).await;
    let silent = |error: &Error| {
        use ErrorKind::{Backpressure, Canceled, IO, Protocol, Routing, Timeout};
        matches!(error.kind(), Backpressure | Canceled | IO | Protocol | Routing | Timeout)
    };
    !answer.is_err_and(|error| silent(&error))
}

/// Logs the reason for a missing connection, once for each reason until a connection exists, and
/// then the end.
async fn log_unreachable(
    mut errors: Receiver<(Error, Option<Server>)>,
    mut connections: Receiver<Server>,
) {
    let mut logged = String::new();
    loop {
        tokio::select! {
            error = errors.recv() => match error {
                Ok((error, _)) if !error.is_canceled() && *error.details() != *logged => {
                    logged = error.details().to_owned();
                    warn!(error = logged, "cannot reach Redis, retrying");
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            connected = connections.recv() => match connected {
                Ok(_) if logged.is_empty() => {}
                Ok(_) => {
                    logged.clear();
                    info!("Redis reached again");
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_with_tls_is_never_spoken_to_in_plain() {
        for (url, encrypted) in [
            ("redis://h", false),
            ("redis://u:p@h:1/2", false),
            ("rediss://u:p@h:1/2", true),
            ("rediss://h?ssl-verify=off", true),
            ("redis-sentinel://u:p@h:1/2?sentinelServiceName=s&sentinelPassword=q&node=i:2", false),
            ("rediss-sentinel://u:p@h:1/2?sentinelServiceName=s", true),
        ] {
            let (config, tls) = config(url).unwrap();
            assert_eq!((config.uses_tls(), tls.is_some()), (encrypted, encrypted), "{url}");
        }
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        for (url, named) in [
            ("redis-cluster://h:1", "Redis Cluster"),
            ("rediss-cluster://h:1?node=i:1", "redis-sentinel://"),
            ("redis-sentinel://h:1", "sentinelServiceName"),
            ("redis://h?ssl-ca=/x", "rediss://"),
            ("redis://h?ssl-mode=VERIFY_IDENTITY", "rediss://"),
            ("rediss://h?ssl-mode=DISABLED", "ssl-mode"),
            ("rediss://h?ssl-ca=/no/such/file", "/no/such/file"),
            ("http://h", "redis://"),
        ] {
            let problem = config(url).unwrap_err();
            assert!(problem.contains(named), "{url}: {problem}");
        }
    }

    #[test]
    fn a_command_without_a_limit_is_refused() {
        for (milliseconds, refused) in [(0, true), (1, false)] {
            let timeout = Duration::from_millis(milliseconds);
            let mut problems = Problems::default();
            RedisArgs { url: "redis://h".into(), timeout }.validate(&mut problems);
            let named = |problem: &String| problem.starts_with("--redis-timeout");
            assert_eq!(problems.list().iter().any(named), refused, "{milliseconds} ms");
        }
    }

    #[test]
    fn the_primary_behind_sentinel_is_no_host_of_this_machine() {
        for (url, hosts) in [
            ("redis://127.0.0.1:1", &["127.0.0.1"][..]),
            (
                "redis-sentinel://127.0.0.1:1?sentinelServiceName=s",
                &["127.0.0.1", NAMED_BY_SENTINEL],
            ),
        ] {
            let args = RedisArgs { url: url.into(), timeout: Duration::from_secs(1) };
            assert_eq!(args.link().unwrap().hosts, hosts, "{url}");
        }
    }
}
