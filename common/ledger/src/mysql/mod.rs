//! Connects to MySQL or MariaDB with the session that every service relies on.
//!
//! Leaves the statements to the callers.

pub mod errors;
pub mod removal;
pub mod server_version;
pub mod sql;

mod limited;
mod renewal;

use std::future::ready;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use metrics::{counter, gauge};
use secrecy::{ExposeSecret, SecretString};
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Executor};
use url::Url;

use self::renewal::Renewal;
use crate::metrics::{
    DATABASE_CONNECTIONS, DATABASE_CONNECTIONS_MAX, DATABASE_CONNECTIONS_WAITING,
    MYSQL_CLOCK_OFFSET_SECONDS, QUERIES, QUESTIONS, THREADS_CONNECTED, THREADS_RUNNING,
};
pub use limited::{MySqlConnection, MySqlPool, Transaction};
use ljwx_reading::offset_text;
use ljwx_service::config::{Problems, duration};
use ljwx_service::link::{ConnectionSecurity, Tls};
use ljwx_service::metrics::GaugeGuard;

/// Settings of the connection to MySQL.
#[derive(Debug, Clone, clap::Args)]
pub struct MySqlArgs {
    /// MySQL or MariaDB, as `mysql://user:password@host:port/database`. ?ssl-mode=VERIFY_IDENTITY
    /// adds TLS with verified chain and name of the server; &ssl-ca=FILE, &ssl-cert=FILE and
    /// &ssl-key=FILE may follow.
    #[arg(id = "mysql-url", long = "mysql-url", env = "MYSQL_URL", hide_env_values = true)]
    pub url: SecretString,
    /// Connections that this process may hold.
    #[arg(
        id = "mysql-pool-size",
        long = "mysql-pool-size",
        env = "MYSQL_POOL_SIZE",
        default_value_t = 8
    )]
    pub pool_size: u32,
    /// Longest wait for a free connection before the attempt counts as failed.
    #[arg(
        id = "mysql-acquire-timeout",
        long = "mysql-acquire-timeout", env = "MYSQL_ACQUIRE_TIMEOUT", default_value = "5s", value_parser = duration)]
    pub acquire_timeout: Duration,
    /// Longest time of one statement, or of one transaction as a whole. A longer one counts as
    /// failed, and its connection is closed.
    #[arg(
        id = "mysql-statement-timeout",
        long = "mysql-statement-timeout", env = "MYSQL_STATEMENT_TIMEOUT", default_value = "30s", value_parser = duration)]
    pub statement_timeout: Duration,
}

/// Shortest wait for a connection. A new connection takes several round trips.
const ACQUIRE_TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// Shortest limit of a statement. With a shorter limit, batches might never be written.
const STATEMENT_TIMEOUT_MIN: Duration = Duration::from_secs(1);

impl MySqlArgs {
    /// Adds the problems of these settings.
    pub fn validate(&self, problems: &mut Problems) {
        self.validate_url("--mysql-url", problems);
        problems.require(self.pool_size >= 2, || {
            "--mysql-pool-size must be at least 2: one for batches, one for everything else".into()
        });
        problems.require(self.acquire_timeout >= ACQUIRE_TIMEOUT_MIN, || {
            "--mysql-acquire-timeout must be at least 100ms: a new connection takes its time".into()
        });
        problems.require(self.statement_timeout >= STATEMENT_TIMEOUT_MIN, || {
            "--mysql-statement-timeout must be at least 1s: a busy server takes its time".into()
        });
    }

    /// Adds the problem of the URL, which comes from `setting`.
    pub fn validate_url(&self, setting: &str, problems: &mut Problems) {
        if let Err(problem) = self.options() {
            problems.add(format!("{setting}: {problem}"));
        }
    }

    /// Returns how the connection is secured.
    pub fn link(&self) -> Option<ConnectionSecurity> {
        let (options, tls) = self.options().ok()?;
        // A socket's file is on this machine, whatever host the URL names.
        let host = options.get_socket().map_or(options.get_host(), |_| "localhost");
        Some(ConnectionSecurity::new("mysql", vec![host.to_owned()], tls.as_ref()))
    }

    /// Reads the URL. Without `ssl-mode` the connection is plain: an attacker could strip optional
    /// TLS. Every mode of TLS verifies chain and name, unless `ssl-verify=off`.
    fn options(&self) -> Result<(MySqlConnectOptions, Option<Tls>), String> {
        let form = || "must read mysql://user:password@host:port/database".to_owned();
        let url = Url::parse(self.url.expose_secret()).map_err(|_| form())?;
        let mode = url.query_pairs().find(|(name, _)| name == "ssl-mode");
        let encrypted = match mode.as_ref().map(|(_, mode)| &**mode) {
            None | Some("DISABLED") => false,
            Some("REQUIRED" | "VERIFY_CA" | "VERIFY_IDENTITY") => true,
            Some(_) => return Err("ssl-mode must be VERIFY_IDENTITY, or DISABLED".into()),
        };
        let tls = Tls::of_url(&url, encrypted, "write ssl-mode=VERIFY_IDENTITY")?;
        let options: MySqlConnectOptions = url.as_str().parse().map_err(|_| form())?;
        if url.scheme() != "mysql" && url.scheme() != "mariadb" || options.get_database().is_none()
        {
            return Err(form());
        }
        let mode = match &tls {
            None => MySqlSslMode::Disabled,
            Some(tls) if tls.verified => MySqlSslMode::VerifyIdentity,
            Some(_) => MySqlSslMode::Required,
        };
        Ok((options.ssl_mode(mode), tls))
    }

    /// Creates a pool whose sessions are strict, READ COMMITTED and in `zone`. The pool connects on
    /// first use, so a service starts even if MySQL is unreachable.
    pub fn connect(&self, zone: &TimeZone) -> Result<MySqlPool, sqlx::Error> {
        let options = self
            .options()
            .map_err(|problem| sqlx::Error::Configuration(problem.into()))?
            .0
            // The session below sets the offset of its own time.
            .timezone(None::<String>)
            .charset("utf8mb4")
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            // Statements hold patients' values, and sqlx logs slow statements whole.
            .disable_statement_logging();
        let (zone, limit, renewal) = (zone.clone(), self.statement_timeout, Renewal::default());
        let (taken, returned) = (renewal.clone(), renewal.clone());
        let pool = MySqlPoolOptions::new()
            .max_connections(self.pool_size)
            .acquire_timeout(self.acquire_timeout)
            .idle_timeout(CONNECTION_IDLE)
            .max_lifetime(CONNECTION_LIFETIME)
            // A ping before each batch costs a round trip. Without the ping, a dead connection
            // fails the batch's first statement, and the batch is retried.
            .test_before_acquire(false)
            .before_acquire(move |_, meta| Box::pin(ready(Ok(taken.keeps(meta.age)))))
            .after_release(move |_, meta| Box::pin(ready(Ok(returned.keeps(meta.age)))))
            .after_connect(move |connection, _| {
                let session = session(limit, &zone, Timestamp::now());
                Box::pin(async move {
                    connection.execute(AssertSqlSafe(session)).await?;
                    Ok(())
                })
            })
            .connect_lazy_with(options);
        Ok(MySqlPool::new(pool, self.statement_timeout, renewal))
    }
}

/// Time without a statement after which the server ends a session, in seconds. The open transaction of
/// a frozen process holds locks until then.
const SESSION_IDLE_SECONDS: u64 = 120;

/// Time after which the pool closes an idle connection, before the server does.
const CONNECTION_IDLE: Duration = Duration::from_secs(60);

/// Longest life of a connection. A process that only reads leaves a former primary after this time,
/// and `NOW()` has the new offset this long after a change to or from daylight saving time.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(600);

/// Returns the statements that prepare a session. Strict mode, because otherwise a multi-row INSERT
/// truncates silently. READ COMMITTED, because gap locks only make two workers wait for each other.
/// The zone is set as its offset at `now`, because fresh servers have no named zones loaded.
///
/// The server gives up a lock before a statement's `limit` has passed. The server does not notice
/// that the client has stopped waiting, and sessions would pile up.
fn session(limit: Duration, zone: &TimeZone, now: Timestamp) -> String {
    let offset = offset_text(zone, now);
    let lock_wait = (limit.as_secs() / 2).max(1);
    format!(
        "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION', \
         time_zone = '{offset}'; \
         SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET SESSION lock_wait_timeout = {lock_wait}, innodb_lock_wait_timeout = {lock_wait}, \
         wait_timeout = {SESSION_IDLE_SECONDS}"
    )
}

/// Returns a connection to write on, and counts the writes that wait for one.
pub async fn acquire(pool: &MySqlPool) -> Result<MySqlConnection, sqlx::Error> {
    let _waiting = GaugeGuard::begin(DATABASE_CONNECTIONS_WAITING);
    pool.acquire().await
}

/// Exports the state of the pool and the server's own load. Both servers have SHOW GLOBAL STATUS;
/// many have `performance_schema` off.
pub async fn observe(pool: &MySqlPool) -> Result<(), sqlx::Error> {
    let (all, idle) = (pool.unlimited().size() as usize, pool.unlimited().num_idle());
    gauge!(DATABASE_CONNECTIONS, "state" => "in_use").set(all.saturating_sub(idle) as f64);
    gauge!(DATABASE_CONNECTIONS, "state" => "idle").set(idle as f64);
    gauge!(DATABASE_CONNECTIONS_MAX)
        .set(f64::from(pool.unlimited().options().get_max_connections()));
    gauge!(DATABASE_CONNECTIONS_WAITING).increment(0.0);
    let status: Vec<(String, String)> = sqlx::query_as(
        "SHOW GLOBAL STATUS WHERE Variable_name IN \
         ('Threads_connected', 'Threads_running', 'Questions', 'Queries')",
    )
    .fetch_all(pool)
    .await?;
    for (name, value) in status {
        let value: u64 = value.parse().unwrap_or_default();
        match name.as_str() {
            "Threads_connected" => gauge!(THREADS_CONNECTED).set(value as f64),
            "Threads_running" => gauge!(THREADS_RUNNING).set(value as f64),
            "Questions" => counter!(QUESTIONS).absolute(value),
            "Queries" => counter!(QUERIES).absolute(value),
            _ => {}
        }
    }
    Ok(())
}

/// Exports how far the server's clock is ahead of this host's. Half of the round trip is the error.
pub async fn observe_clock(pool: &MySqlPool) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let asked_ms = Timestamp::now().as_millisecond();
    let server_ms: i64 = sqlx::query_scalar("SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000 AS SIGNED)")
        .fetch_one(&mut connection)
        .await?;
    let middle_ms = i64::midpoint(asked_ms, Timestamp::now().as_millisecond());
    gauge!(MYSQL_CLOCK_OFFSET_SECONDS).set((server_ms - middle_ms) as f64 / 1000.0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(url: &str) -> MySqlArgs {
        let timeout = Duration::from_secs(1);
        MySqlArgs {
            url: url.into(),
            pool_size: 2,
            acquire_timeout: timeout,
            statement_timeout: timeout,
        }
    }

    fn mode(url: &str) -> Result<MySqlSslMode, String> {
        args(url).options().map(|(options, _)| options.get_ssl_mode())
    }

    #[test]
    fn limits_within_which_nothing_could_succeed_are_refused_by_name() {
        for (acquire_ms, statement_ms, named) in [
            (0, 1_000, Some("--mysql-acquire-timeout")),
            (99, 1_000, Some("--mysql-acquire-timeout")),
            (100, 0, Some("--mysql-statement-timeout")),
            (100, 1_000, None),
        ] {
            let args = MySqlArgs {
                acquire_timeout: Duration::from_millis(acquire_ms),
                statement_timeout: Duration::from_millis(statement_ms),
                ..args("mysql://u:p@h:1/d")
            };
            let mut problems = Problems::default();
            args.validate(&mut problems);
            let found = problems.list();
            assert_eq!(found.len(), usize::from(named.is_some()), "{found:?}");
            assert!(found.iter().zip(named).all(|(found, named)| found.starts_with(named)));
        }
    }

    #[test]
    fn a_session_has_the_offset_of_the_moment_at_which_it_begins() {
        let zone = TimeZone::get("America/New_York").unwrap();
        for (now, offset) in [
            ("2025-03-09T06:59:59Z", "-05:00"),
            ("2025-03-09T07:00:00Z", "-04:00"),
            ("2025-11-02T05:59:59Z", "-04:00"),
            ("2025-11-02T06:00:00Z", "-05:00"),
        ] {
            let session = session(Duration::from_secs(30), &zone, now.parse().unwrap());
            assert!(session.contains(&format!("time_zone = '{offset}'")), "{now}: {session}");
        }
    }

    #[test]
    fn tls_is_on_or_off_and_verified_unless_told_otherwise() {
        for (query, expected) in [
            ("", "Disabled"),
            ("?ssl-mode=DISABLED", "Disabled"),
            ("?ssl-mode=REQUIRED", "VerifyIdentity"),
            ("?ssl-mode=VERIFY_CA", "VerifyIdentity"),
            ("?ssl-mode=VERIFY_IDENTITY", "VerifyIdentity"),
            ("?ssl-mode=REQUIRED&ssl-verify=off", "Required"),
        ] {
            let found = mode(&format!("mysql://u:p@h:1/d{query}")).unwrap();
            assert_eq!(format!("{found:?}"), expected, "{query}");
        }
        for (url, named) in [
            ("mysql://u:p@h/d?ssl-mode=PREFERRED", "ssl-mode"),
            ("mysql://u:p@h/d?ssl-ca=/x", "VERIFY_IDENTITY"),
            ("mysql://u:p@h", "database"),
            ("postgres://u:p@h/d", "mysql://"),
            ("nonsense", "mysql://"),
        ] {
            let problem = mode(url).unwrap_err();
            assert!(problem.contains(named), "{url}: {problem}");
        }
    }
}
