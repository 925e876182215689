//! Queries MySQL for the tests: the ledger, counts, and rows as text.

use anyhow::{Context, bail, ensure};
use ljwx_ledger::mysql::errors::{self, DEADLOCK};
use ljwx_ledger::mysql::sql;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use sqlx::{AssertSqlSafe, Executor, MySql, MySqlPool, Row, Transaction};

use crate::clients::kafka::Watermarks;

/// Password of the users that tests create. On MySQL their accounts are of its default kind.
pub const PASSWORD: &str = "of-a-test";

/// The most deadlocks of one statement. More are a fault.
const DEADLOCKS_MAX: u32 = 10;

/// A world's database.
#[derive(Debug, Clone)]
pub struct Database {
    url: String,
    name: String,
    pool: MySqlPool,
}

impl Database {
    /// Creates database `name` on the server that `url` names.
    pub async fn create(url: &str, name: &str) -> anyhow::Result<Self> {
        let (address, query) = url.split_at(url.find('?').unwrap_or(url.len()));
        let server = address.rsplit_once('/').context("MYSQL_URL names no database")?.0;
        let create = format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4");
        let admin = pool(url)?;
        admin.execute(AssertSqlSafe(create)).await.context("CREATE DATABASE")?;
        admin.close().await;
        let url = format!("{server}/{name}{query}");
        Ok(Self { pool: pool(&url)?, url, name: name.into() })
    }

    /// Drops the database and its user.
    pub async fn remove(&self) -> anyhow::Result<()> {
        self.execute(&format!("DROP USER IF EXISTS {}", self.user())).await?;
        self.execute(&format!("DROP DATABASE `{}`", self.name)).await
    }

    /// Creates a user with all rights on this database and none on the server. Returns the URL to
    /// connect as that user.
    pub async fn create_user(&self) -> anyhow::Result<String> {
        let (user, name) = (self.user(), &self.name);
        self.execute(&format!("CREATE USER {user} IDENTIFIED BY '{PASSWORD}'")).await?;
        self.execute(&format!("GRANT ALL ON `{name}`.* TO {user}")).await?;
        Ok(format!("mysql://{name}:{PASSWORD}@{}", self.address()?))
    }

    /// Returns the URL's part behind the user: server, database and parameters.
    pub fn address(&self) -> anyhow::Result<&str> {
        let address = self.url.split_once("://").context("MYSQL_URL has no scheme")?.1;
        Ok(address.rsplit_once('@').map_or(address, |(_, address)| address))
    }

    /// The user of [`Database::create_user`], for statements.
    pub fn user(&self) -> String {
        format!("'{}'@'%'", self.name)
    }

    /// Returns the ids of the sessions of this user.
    pub async fn sessions(&self) -> anyhow::Result<Vec<String>> {
        let sql =
            format!("SELECT id FROM information_schema.PROCESSLIST WHERE user = '{}'", self.name);
        Ok(self.rows(&sql).await?.into_iter().flatten().flatten().collect())
    }

    /// URL of the database, as an administrator.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Name of the database.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the server's version; MariaDB names itself in it.
    pub async fn version(&self) -> anyhow::Result<String> {
        let row = self.row("SELECT VERSION()").await?;
        row.into_iter().next().flatten().context("SELECT VERSION()")
    }

    /// Runs a statement. Beside those of services it may be the victim of a deadlock, which has
    /// changed nothing: it is run again then.
    pub async fn execute(&self, sql: &str) -> anyhow::Result<()> {
        for _ in 0..DEADLOCKS_MAX {
            let done = self.pool.execute(AssertSqlSafe(sql.to_owned())).await;
            if done.as_ref().err().and_then(errors::number) != Some(DEADLOCK) {
                done.with_context(|| sql.to_owned())?;
                return Ok(());
            }
        }
        bail!("{DEADLOCKS_MAX} deadlocks in a row: {sql}")
    }

    /// Runs a query and returns every value as the server's own text.
    pub async fn rows(&self, sql: &str) -> anyhow::Result<Vec<Vec<Option<String>>>> {
        // With the text protocol a value of any type arrives as text.
        let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let rows = query.fetch_all(&self.pool).await.with_context(|| sql.to_owned())?;
        rows.iter()
            .map(|row| {
                (0..row.len())
                    .map(|column| Ok(row.try_get_unchecked::<Option<String>, _>(column)?))
                    .collect()
            })
            .collect()
    }

    /// Returns the only row of a query.
    pub async fn row(&self, sql: &str) -> anyhow::Result<Vec<Option<String>>> {
        let mut rows = self.rows(sql).await?;
        ensure!(rows.len() == 1, "{} rows for {sql}", rows.len());
        Ok(rows.remove(0))
    }

    /// Returns the only value of a query as a number; NULL is 0.
    pub async fn number(&self, sql: &str) -> anyhow::Result<i64> {
        let row = self.row(sql).await?;
        let text = row.into_iter().next().flatten();
        let text = text.as_deref().unwrap_or("0");
        text.parse().with_context(|| format!("{text} is no number: {sql}"))
    }

    /// Returns the number of rows of a table.
    pub async fn count(&self, table: &str) -> anyhow::Result<i64> {
        self.number(&format!("SELECT COUNT(*) FROM {table}")).await
    }

    /// Makes another database with the same tables have the same rows, as a standby has them.
    pub async fn copy_to(&self, standby: &Self) -> anyhow::Result<()> {
        // Both databases were migrated.
        let tables = "SELECT TABLE_NAME FROM information_schema.TABLES \
                      WHERE TABLE_SCHEMA = DATABASE() AND TABLE_TYPE = 'BASE TABLE' \
                      AND TABLE_NAME <> '_sqlx_migrations'";
        for table in self.rows(tables).await?.into_iter().flatten().flatten() {
            standby.execute(&format!("DELETE FROM `{table}`")).await?;
            for row in self.rows(&format!("SELECT * FROM `{table}`")).await? {
                let value = |value: &Option<String>| {
                    value.as_deref().map_or_else(|| "NULL".to_owned(), sql::literal)
                };
                let values: Vec<_> = row.iter().map(value).collect();
                let insert = format!("INSERT INTO `{table}` VALUES ({})", values.join(", "));
                standby.execute(&insert).await?;
            }
        }
        Ok(())
    }

    /// Locks all rows of a table against writing until the lock is released.
    pub async fn lock(&self, table: &str) -> anyhow::Result<Lock> {
        let mut transaction = self.pool.begin().await?;
        let sql = format!("SELECT COUNT(*) FROM (SELECT * FROM {table} FOR UPDATE) AS locked");
        transaction
            .execute(AssertSqlSafe(sql))
            .await
            .with_context(|| format!("locking {table}"))?;
        Ok(Lock { transaction })
    }

    /// Reads a table in a transaction that stays open until it is released. The transaction locks
    /// no row, and keeps the table from being altered.
    pub async fn open_read(&self, table: &str) -> anyhow::Result<Lock> {
        let mut transaction = self.pool.begin().await?;
        transaction.execute(AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"))).await?;
        Ok(Lock { transaction })
    }

    /// Runs `run` while a variable of the whole server has another value; only for an exclusive
    /// world.
    pub async fn while_set<T>(
        &self,
        variable: &str,
        value: &str,
        run: impl AsyncFnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let set = |value: &str| {
            // Numbers must not be quoted, everything else must.
            let quoted = format!("'{}'", value.replace('\'', "''"));
            let value = if value.parse::<i64>().is_ok() { value } else { &quoted };
            format!("SET GLOBAL {variable} = {value}")
        };
        let before = self.row(&format!("SELECT @@GLOBAL.{variable}")).await?;
        let before = before.into_iter().next().flatten().unwrap_or_default();
        self.execute(&set(value)).await?;
        let result = run().await;
        // Restore the value after a failure, too: the next test must find the server unchanged.
        self.execute(&set(&before)).await?;
        result
    }

    /// Returns the ledger of a consumer group.
    pub async fn ledger(&self, group: &str) -> anyhow::Result<Vec<LedgerRow>> {
        let sql = format!(
            "SELECT topic, `partition`, first_offset, next_offset, redis_offset, `stored`, merged, \
             dead_lettered, skipped_gap, rewound, processed \
             FROM ingest_progress WHERE consumer_group = '{group}' ORDER BY topic, `partition`"
        );
        Ok(self.rows(&sql).await?.into_iter().map(LedgerRow::of).collect())
    }
}

/// Rows that no other session can write.
#[derive(Debug)]
#[must_use = "the lock is released when this is dropped"]
pub struct Lock {
    transaction: Transaction<'static, MySql>,
}

impl Lock {
    /// Runs a statement in the transaction that holds the lock.
    pub async fn execute(&mut self, sql: &str) -> anyhow::Result<()> {
        let statement = AssertSqlSafe(sql.to_owned());
        self.transaction.execute(statement).await.with_context(|| sql.to_owned())?;
        Ok(())
    }

    /// Releases the rows.
    pub async fn release(self) -> anyhow::Result<()> {
        Ok(self.transaction.rollback().await?)
    }
}

fn pool(url: &str) -> anyhow::Result<MySqlPool> {
    let options: MySqlConnectOptions = url.parse().context("MYSQL_URL")?;
    // The devices' time zone, as in the services. Fresh servers have not loaded named zones.
    let options = options.timezone(Some("+08:00".to_owned()));
    Ok(MySqlPoolOptions::new().max_connections(4).connect_lazy_with(options))
}

/// The ledger's row of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i64,
    /// Offset at which the group began.
    pub first_offset: i64,
    /// Offset at which the group continues.
    pub next_offset: i64,
    /// Offset up to which Redis is known to be current.
    pub redis_offset: i64,
    /// New rows.
    pub stored: i64,
    /// Deliveries whose identity existed.
    pub merged: i64,
    /// Deliveries in the dead-letter topic.
    pub dead_lettered: i64,
    /// Offsets without a record.
    pub skipped_gap: i64,
    /// Offsets gone back on an operator's order.
    pub rewound: i64,
    /// Deliveries that the alerter has processed; its only count.
    pub processed: i64,
}

impl LedgerRow {
    /// Returns the row of these columns, which are in the order of the fields.
    fn of(columns: Vec<Option<String>>) -> Self {
        let mut columns = columns.into_iter().map(Option::unwrap_or_default);
        let topic = columns.next().unwrap_or_default();
        let mut number =
            || -> i64 { columns.next().and_then(|text| text.parse().ok()).unwrap_or_default() };
        Self {
            topic,
            partition: number(),
            first_offset: number(),
            next_offset: number(),
            redis_offset: number(),
            stored: number(),
            merged: number(),
            dead_lettered: number(),
            skipped_gap: number(),
            rewound: number(),
            processed: number(),
        }
    }

    /// Whether the counts account for every offset passed.
    pub const fn balances(&self) -> bool {
        let counted = self.stored + self.merged + self.dead_lettered + self.processed;
        self.next_offset - self.first_offset == counted + self.skipped_gap - self.rewound
    }
}

/// Returns the number of records that the group of this `ledger` has not passed yet.
pub fn lag(ledger: &[LedgerRow], ends: &[Watermarks]) -> i64 {
    let behind = |end: &Watermarks| {
        let row = ledger.iter().find(|row| row.partition == i64::from(end.partition));
        end.high - row.map_or(end.low, |row| row.next_offset)
    };
    ends.iter().map(behind).sum()
}
