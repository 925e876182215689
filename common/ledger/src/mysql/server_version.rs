//! Recognises servers whose SQL is older than that of the services, by their version.
//!
//! Leaves the refusal of such a server to the callers.

use super::limited::MySqlConnection;

/// The first MySQL that has row aliases in upserts (`AS new`).
const MYSQL_MIN: (u32, u32, u32) = (8, 0, 19);

/// The first MariaDB that is tested.
const MARIADB_MIN: (u32, u32, u32) = (10, 11, 0);

/// Prefix of MariaDB's version that old clients needed to recognise a server with replication.
const REPLICATION_PREFIX: &str = "5.5.5-";

/// The server is not one that the services run on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the database server {version} is not supported. The services run on MySQL from 8.0.19 on and \
     on MariaDB from 10.11 on: upgrade the server, or let --mysql-url name another"
)]
pub struct UnsupportedServer {
    version: String,
}

/// Queries the server for its version, such as `8.4.0` or `10.11.6-MariaDB`.
pub async fn query(connection: &mut MySqlConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("SELECT VERSION()").fetch_one(connection).await
}

/// Fails for a version that is known to be too old, or of another server than MySQL and MariaDB. A
/// version that cannot be read passes: its server answers for itself.
pub fn check(version: &str) -> Result<(), UnsupportedServer> {
    let (own, least) = match version.contains("MariaDB") {
        true => (version.strip_prefix(REPLICATION_PREFIX).unwrap_or(version), MARIADB_MIN),
        false => (version, MYSQL_MIN),
    };
    let is_old = number(own).is_some_and(|number| number < least);
    if is_old || version.contains("TiDB") {
        return Err(UnsupportedServer { version: version.to_owned() });
    }
    Ok(())
}

/// Returns the three numbers at the start of a version. A missing third one is 0.
fn number(version: &str) -> Option<(u32, u32, u32)> {
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    let mut parts = version[..end].split('.').map(str::parse::<u32>);
    let major = parts.next()?.ok()?;
    let minor = parts.next()?.ok()?;
    Some((major, minor, parts.next().and_then(Result::ok).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_supported_by_its_kind_and_number() {
        for (version, supported) in [
            ("8.0.18", false),
            ("8.0.19", true),
            ("8.0.46-log", true),
            ("8.4.0", true),
            ("9.7.4", true),
            ("5.7.44-log", false),
            // Percona, RDS, Azure, Ubuntu.
            ("8.0.36-28", true),
            ("8.0.39", true),
            ("8.0.40-azure", true),
            ("8.0.45-0ubuntu0.24.04.1", true),
            ("10.11.19-MariaDB-0ubuntu0.24.04.1", true),
            ("10.11.6-MariaDB-log", true),
            ("11.8.2-MariaDB-ubu2404", true),
            ("12.0.1-MariaDB", true),
            ("10.6.21-MariaDB", false),
            ("5.5.5-10.11.6-MariaDB", true),
            ("5.5.5-10.3.39-MariaDB-0+deb10u2", false),
            ("8.0.11-TiDB-v8.5.0", false),
            ("8.4.0-TiDB-v9.0.0", false),
            // Nobody knows.
            ("", true),
            ("main", true),
            ("8", true),
        ] {
            assert_eq!(check(version).is_ok(), supported, "{version}");
        }
    }

    #[test]
    fn the_refusal_names_the_version_and_the_way_out() {
        let refusal = check("8.0.18").unwrap_err().to_string();
        for named in ["8.0.18", "8.0.19", "10.11", "upgrade the server"] {
            assert!(refusal.contains(named), "{refusal}");
        }
        assert_eq!(format!("{}.{}.{}", MYSQL_MIN.0, MYSQL_MIN.1, MYSQL_MIN.2), "8.0.19");
        assert_eq!(format!("{}.{}", MARIADB_MIN.0, MARIADB_MIN.1), "10.11");
    }
}
