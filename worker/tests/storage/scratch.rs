//! Creates a database of its own for each test, on the server that `MYSQL_URL` names.

use anyhow::{Context, Result};
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, MySqlConnection};

/// The strict SQL mode of the worker's sessions.
const SESSION: &str = "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'";

/// A database of one test. A failed test leaves the database for inspection.
pub struct Scratch {
    options: MySqlConnectOptions,
    name: String,
    /// Whether the server is a MariaDB.
    pub mariadb: bool,
}

impl Scratch {
    /// Creates the database.
    pub async fn create() -> Result<Self> {
        let url = std::env::var("MYSQL_URL")
            .context("MYSQL_URL is not set: run this as `deploy/stack run -- COMMAND`")?;
        let options: MySqlConnectOptions = url.parse().context("MYSQL_URL")?;
        let name = format!("ljwx_scratch_{}", &uuid::Uuid::new_v4().simple().to_string()[..8]);
        let mut admin = options.connect().await.context("MYSQL_URL")?;
        run(&mut admin, &format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")).await?;
        let version: String = sqlx::query_scalar("SELECT VERSION()").fetch_one(&mut admin).await?;
        let options = options.database(&name);
        Ok(Self { options, name, mariadb: version.contains("MariaDB") })
    }

    /// Opens a session with the worker's SQL mode.
    pub async fn session(&self) -> Result<MySqlConnection> {
        let mut session = self.options.connect().await?;
        session.execute(SESSION).await?;
        Ok(session)
    }

    /// Creates a user whose name and password are the name of the database. `right` is as in `GRANT
    /// SELECT ON db.t`, and `limits` are the user's limits.
    pub async fn create_user(&self, right: &str, limits: &str) -> Result<()> {
        let mut admin = self.session().await?;
        let name = &self.name;
        run(&mut admin, &format!("CREATE USER '{name}'@'%' IDENTIFIED BY '{name}' {limits}"))
            .await?;
        run(&mut admin, &format!("GRANT {right} TO '{name}'@'%'")).await?;
        Ok(())
    }

    /// Opens a session of the created user.
    pub async fn user_session(&self) -> Result<MySqlConnection, sqlx::Error> {
        self.options.clone().username(&self.name).password(&self.name).connect().await
    }

    /// Drops the database and its user.
    pub async fn finish(self) -> Result<()> {
        let mut admin = self.session().await?;
        run(&mut admin, &format!("DROP USER IF EXISTS '{}'@'%'", self.name)).await?;
        run(&mut admin, &format!("DROP DATABASE {}", self.name)).await?;
        Ok(())
    }
}

/// Runs statements as text, as the worker does.
pub async fn run(session: &mut MySqlConnection, sql: &str) -> Result<(), sqlx::Error> {
    session.execute(AssertSqlSafe(sql.to_owned())).await.map(drop)
}
