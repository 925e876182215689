//! Wraps connections so that every statement and every transaction has a time limit.
//!
//! sqlx waits for an answer without limit, and so does the socket if a server vanishes silently.
//! Here a late answer is an error like a lost connection, and the connection is closed: a late
//! answer would be taken for the answer to the next statement. A connection whose user stopped
//! waiting is closed too. After the answer of a server that refuses writes, `renewal` ends the use of
//! all connections.

use std::fmt::{self, Debug, Formatter};
use std::io;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sqlx::mysql::{MySqlQueryResult, MySqlRow, MySqlStatement, MySqlTypeInfo};
use sqlx::pool::PoolConnection;
use sqlx::{Describe, Either, Error, Execute, Executor, MySql, SqlStr};
use tokio::runtime::Handle;
use tokio::time::{Instant, error::Elapsed, timeout, timeout_at};

use super::errors;
use super::renewal::Renewal;

/// Longest wait for the ping with which sqlx returns a connection to the pool. Without this limit a
/// server that has vanished keeps the pool's places for the whole limit of a statement.
const RETURN_TIMEOUT: Duration = Duration::from_secs(5);

/// A pool of limited connections to MySQL.
#[derive(Debug, Clone)]
pub struct MySqlPool {
    pool: sqlx::MySqlPool,
    limit: Duration,
    renewal: Renewal,
}

impl MySqlPool {
    /// Wraps `pool`. Each statement and each transaction may take `limit`. `renewal` learns of
    /// servers that refuse writes.
    pub(super) fn new(pool: sqlx::MySqlPool, limit: Duration, renewal: Renewal) -> Self {
        Self { pool, limit, renewal }
    }

    /// Returns the same pool with another limit.
    pub fn with_limit(&self, limit: Duration) -> Self {
        Self { limit, ..self.clone() }
    }

    /// Returns sqlx's own pool, for users with limits of their own.
    pub fn unlimited(&self) -> &sqlx::MySqlPool {
        &self.pool
    }

    /// Returns a connection. The wait for a free connection has a limit of its own.
    pub async fn acquire(&self) -> Result<MySqlConnection, Error> {
        let connection = self.pool.acquire().await.map_err(|error| match error {
            Error::PoolTimedOut => {
                let limit = self.pool.options().get_acquire_timeout();
                timed_out("no connection to MySQL", limit, "--mysql-acquire-timeout")
            }
            error => error,
        })?;
        Ok(MySqlConnection {
            connection,
            limit: self.limit,
            renewal: self.renewal.clone(),
            until: None,
            is_open: false,
            is_waiting: false,
        })
    }

    /// Begins a transaction on a connection of its own.
    pub async fn begin(&self) -> Result<Transaction<'static>, Error> {
        Transaction::begin(TransactionConnection::Own(Box::new(self.acquire().await?))).await
    }

    /// Closes all connections as soon as they are free.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// A connection from a pool. Dropping the connection returns it to the pool.
pub struct MySqlConnection {
    connection: PoolConnection<MySql>,
    limit: Duration,
    renewal: Renewal,
    /// Deadline of the transaction.
    until: Option<Instant>,
    /// Whether a transaction has begun and not ended.
    is_open: bool,
    /// Whether an answer is outstanding, so that the connection cannot be reused.
    is_waiting: bool,
}

impl MySqlConnection {
    /// Begins a transaction.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        Transaction::begin(TransactionConnection::Lent(self)).await
    }

    async fn run(&mut self, statement: &'static str) -> Result<(), Error> {
        self.execute(statement).await.map(drop)
    }

    /// Returns sqlx's connection, and the outstanding answer with its deadline.
    fn begin_answer(&mut self) -> (&mut sqlx::MySqlConnection, AnswerDeadline<'_>) {
        let limit = Instant::now() + self.limit;
        let until = self.until.map_or(limit, |until| until.min(limit));
        self.is_waiting = true;
        let answer = AnswerDeadline {
            until,
            limit: self.limit,
            renewal: &self.renewal,
            is_waiting: &mut self.is_waiting,
        };
        (&mut *self.connection, answer)
    }
}

impl Debug for MySqlConnection {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("MySqlConnection").finish_non_exhaustive()
    }
}

impl Drop for MySqlConnection {
    fn drop(&mut self) {
        if self.is_waiting || self.is_open {
            self.connection.close_on_drop();
        } else if let Ok(runtime) = Handle::try_current() {
            // sqlx pings the server before the return, without a limit.
            let limit = self.limit.min(RETURN_TIMEOUT);
            let returned = self.connection.return_to_pool();
            runtime.spawn(async move { timeout(limit, returned).await });
        }
    }
}

/// An outstanding answer.
struct AnswerDeadline<'c> {
    until: Instant,
    limit: Duration,
    renewal: &'c Renewal,
    is_waiting: &'c mut bool,
}

impl AnswerDeadline<'_> {
    /// Records an answer that arrived in time, also an error of the server.
    fn came<T>(&mut self, result: Result<Result<T, Error>, Elapsed>) -> Result<T, Error> {
        let Ok(result) = result else {
            return Err(timed_out("MySQL did not answer", self.limit, "--mysql-statement-timeout"));
        };
        *self.is_waiting = false;
        if result.as_ref().is_err_and(errors::refuses_writes) {
            self.renewal.begin();
        }
        result
    }
}

fn timed_out(what: &str, limit: Duration, setting: &str) -> Error {
    let text = format!("{what} within {} s ({setting})", limit.as_secs_f64());
    Error::Io(io::Error::new(io::ErrorKind::TimedOut, text))
}

type QueryItem = Either<MySqlQueryResult, MySqlRow>;

impl<'c> Executor<'c> for &'c mut MySqlConnection {
    type Database = MySql;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<QueryItem, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, MySql>,
    {
        let (connection, answer) = self.begin_answer();
        let steps = (connection.fetch_many(query), answer);
        stream::try_unfold(steps, move |state: (BoxStream<'e, _>, AnswerDeadline<'e>)| async move {
            let (mut steps, mut answer) = state;
            match timeout_at(answer.until, steps.try_next()).await {
                Ok(Ok(Some(step))) => Ok(Some((step, (steps, answer)))),
                end => answer.came(end).map(|_| None),
            }
        })
        .boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<MySqlRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, MySql>,
    {
        let (connection, mut answer) = self.begin_answer();
        let row = connection.fetch_optional(query);
        Box::pin(async move {
            let came = timeout_at(answer.until, row).await;
            answer.came(came)
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [MySqlTypeInfo],
    ) -> BoxFuture<'e, Result<MySqlStatement, Error>>
    where
        'c: 'e,
    {
        let (connection, mut answer) = self.begin_answer();
        let statement = connection.prepare_with(sql, parameters);
        Box::pin(async move {
            let came = timeout_at(answer.until, statement).await;
            answer.came(came)
        })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<MySql>, Error>>
    where
        'c: 'e,
    {
        let (connection, mut answer) = self.begin_answer();
        let description = connection.describe(sql);
        Box::pin(async move {
            let came = timeout_at(answer.until, description).await;
            answer.came(came)
        })
    }
}

/// Runs each statement on a connection of its own. Reads all rows before it returns the first.
impl<'p> Executor<'p> for &'p MySqlPool {
    type Database = MySql;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<QueryItem, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, MySql>,
    {
        let steps = async move {
            let mut connection = self.acquire().await?;
            let steps: Vec<QueryItem> = connection.fetch_many(query).try_collect().await?;
            Ok::<_, Error>(stream::iter(steps.into_iter().map(Ok::<QueryItem, Error>)))
        };
        stream::once(steps).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<MySqlRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, MySql>,
    {
        Box::pin(async move { self.acquire().await?.fetch_optional(query).await })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [MySqlTypeInfo],
    ) -> BoxFuture<'e, Result<MySqlStatement, Error>>
    where
        'p: 'e,
    {
        Box::pin(async move { self.acquire().await?.prepare_with(sql, parameters).await })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<MySql>, Error>>
    where
        'p: 'e,
    {
        Box::pin(async move { self.acquire().await?.describe(sql).await })
    }
}

/// The connection of a transaction.
#[derive(Debug)]
enum TransactionConnection<'c> {
    Own(Box<MySqlConnection>),
    Lent(&'c mut MySqlConnection),
}

/// A transaction. A drop before its end undoes the transaction by closing the connection. To keep
/// the connection, roll back explicitly.
#[derive(Debug)]
pub struct Transaction<'c>(TransactionConnection<'c>);

impl<'c> Transaction<'c> {
    async fn begin(held: TransactionConnection<'c>) -> Result<Self, Error> {
        let mut transaction = Self(held);
        if transaction.is_open {
            // A dropped transaction is still open here, and BEGIN would commit it.
            transaction.run("ROLLBACK").await?;
        }
        transaction.until = Some(Instant::now() + transaction.limit);
        transaction.is_open = true;
        transaction.run("BEGIN").await?;
        Ok(transaction)
    }

    /// Commits. After an error the outcome is unknown.
    pub async fn commit(self) -> Result<(), Error> {
        self.end("COMMIT").await
    }

    /// Rolls back.
    pub async fn rollback(self) -> Result<(), Error> {
        self.end("ROLLBACK").await
    }

    async fn end(mut self, statement: &'static str) -> Result<(), Error> {
        self.run(statement).await?;
        self.is_open = false;
        Ok(())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        self.until = None;
    }
}

impl Deref for Transaction<'_> {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        match &self.0 {
            TransactionConnection::Own(connection) => connection,
            TransactionConnection::Lent(connection) => connection,
        }
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        match &mut self.0 {
            TransactionConnection::Own(connection) => connection,
            TransactionConnection::Lent(connection) => connection,
        }
    }
}
