//! Tests the table of errors: for each entry that plain SQL can provoke, the running server must
//! raise the number that the table names.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_ledger::mysql::errors::{self, Remedy};
use sqlx::{AssertSqlSafe, MySqlConnection};

use crate::scratch::{Scratch, run};

use Remedy::{Data, Infrastructure, Saturated, Schema};

/// Longest time until a statement arrives at the server.
const SOON: Duration = Duration::from_secs(30);

/// The tables that the statements below use.
const TABLES: &[&str] = &[
    "CREATE TABLE parent (id INT PRIMARY KEY)",
    "CREATE TABLE t (id INT PRIMARY KEY, needed INT NOT NULL, tiny TINYINT NULL, \
     word VARCHAR(2) NULL, method ENUM('wifi', 'esim') NULL, day DATE NULL, at DATETIME NULL, \
     doc JSON NULL, checked INT NULL CHECK (checked > 0))",
    "CREATE TABLE child (id INT PRIMARY KEY, parent INT, \
     FOREIGN KEY (parent) REFERENCES parent (id))",
    "CREATE TABLE months (n INT PRIMARY KEY) \
     PARTITION BY RANGE (n) (PARTITION p VALUES LESS THAN (10))",
    "INSERT INTO t (id, needed) VALUES (1, 1), (2, 2)",
];

/// Returns the number of an error, if it is the server's.
fn number_of(error: &sqlx::Error) -> Option<u16> {
    errors::code(error)?.split('/').next()?.parse().ok()
}

/// Runs a statement that has to fail with one of these numbers and with this remedy.
async fn provoke(
    session: &mut MySqlConnection,
    sql: &str,
    numbers: &[u16],
    remedy: Remedy,
) -> Result<()> {
    let error = run(session, sql).await.err().with_context(|| format!("taken: {sql}"))?;
    judge(&error, sql, numbers, remedy)
}

fn judge(error: &sqlx::Error, what: &str, numbers: &[u16], remedy: Remedy) -> Result<()> {
    let expected = number_of(error).is_some_and(|number| numbers.contains(&number));
    ensure!(expected, "{error} instead of {numbers:?}: {what}");
    let found = errors::remedy(error);
    ensure!(found == remedy, "{error} calls for {found:?} instead of {remedy:?}: {what}");
    Ok(())
}

async fn with_tables() -> Result<(Scratch, MySqlConnection)> {
    let scratch = Scratch::create().await?;
    let mut session = scratch.session().await?;
    for table in TABLES {
        run(&mut session, table).await.with_context(|| (*table).to_owned())?;
    }
    Ok((scratch, session))
}

#[tokio::test]
async fn a_value_that_is_refused_is_the_values_fault() -> Result<()> {
    let (scratch, mut session) = with_tables().await?;
    for (column, value, numbers) in [
        ("needed", "NULL", &[1048][..]),
        ("tiny", "300", &[1264]),
        ("method", "'lora'", &[1265]),
        ("day", "'2025-02-30'", &[1292]),
        ("tiny", "'many'", &[1366]),
        ("word", "'long'", &[1406]),
        ("at", "STR_TO_DATE('never', '%Y-%m-%d')", &[1411]),
        ("tiny", "9223372036854775807 + 1", &[1690]),
        // The JSON type of MariaDB is a constraint on text.
        ("doc", "'{'", if scratch.mariadb { &[4025] } else { &[3140] }),
        ("checked", "0", if scratch.mariadb { &[4025] } else { &[3819] }),
    ] {
        let needed = if column == "needed" { "" } else { "needed, " };
        let one = if column == "needed" { "" } else { "1, " };
        let sql = format!("INSERT INTO t (id, {needed}{column}) VALUES (9, {one}{value})");
        provoke(&mut session, &sql, numbers, Data).await?;
    }
    provoke(&mut session, "INSERT INTO child VALUES (1, 9)", &[1452], Data).await?;
    // The table does not name this number, but its class is that of data exceptions.
    run(&mut session, "SET SESSION sql_mode = CONCAT(@@sql_mode, ',ERROR_FOR_DIVISION_BY_ZERO')")
        .await?;
    let divided = "INSERT INTO t (id, needed, tiny) VALUES (9, 1, 1 / 0)";
    provoke(&mut session, divided, &[1365], Data).await?;
    if !scratch.mariadb {
        let argument = "SELECT JSON_EXTRACT('{', '$')";
        provoke(&mut session, argument, &[3141], Data).await?;
    }
    scratch.finish().await
}

#[tokio::test]
async fn what_a_statement_misses_is_the_tables_fault() -> Result<()> {
    let (scratch, mut session) = with_tables().await?;
    for sql in [
        "CREATE TABLE gone (id INT PRIMARY KEY)",
        "CREATE VIEW broken AS SELECT id FROM gone",
        "DROP TABLE gone",
        "CREATE DEFINER = 'ljwx_no_such_user'@'%' VIEW orphan AS SELECT id FROM t",
    ] {
        run(&mut session, sql).await?;
    }
    for (sql, number) in [
        ("USE ljwx_no_such_database", 1049),
        ("SELECT nothing FROM t", 1054),
        ("SELEC nothing FROM t", 1064),
        ("INSERT INTO parent VALUES (1, 2)", 1136),
        ("SELECT * FROM missing", 1146),
        ("SELECT * FROM broken", 1356),
        ("INSERT INTO t (id) VALUES (9)", 1364),
        ("SELECT * FROM orphan", 1449),
        ("INSERT INTO months VALUES (10)", 1526),
    ] {
        provoke(&mut session, sql, &[number], Schema).await?;
    }
    scratch.create_user("SELECT (id) ON t", "").await?;
    let mut stranger = scratch.user_session().await?;
    provoke(&mut stranger, "SELECT * FROM parent", &[1142], Schema).await?;
    provoke(&mut stranger, "SELECT needed FROM t", &[1143], Schema).await?;
    scratch.finish().await
}

#[tokio::test]
async fn what_the_server_cannot_take_now_is_waited_out() -> Result<()> {
    let (scratch, mut session) = with_tables().await?;
    run(&mut session, "START TRANSACTION READ ONLY").await?;
    let write = "INSERT INTO parent VALUES (1)";
    provoke(&mut session, write, &[1792], Infrastructure).await?;
    run(&mut session, "ROLLBACK").await?;
    run(
        &mut session,
        "SET SESSION max_heap_table_size = 16384; \
         CREATE TABLE small (word CHAR(250) CHARACTER SET ascii) ENGINE = MEMORY",
    )
    .await?;
    let fill = "INSERT INTO small WITH RECURSIVE numbers AS \
                (SELECT 1 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < 900) \
                SELECT n FROM numbers";
    provoke(&mut session, fill, &[1114], Infrastructure).await?;
    let columns = "information_schema.COLUMNS";
    let (limit, number) = if scratch.mariadb {
        ("SET SESSION max_statement_time = 0.1", 1969)
    } else {
        ("SET SESSION max_execution_time = 100", 3024)
    };
    run(&mut session, limit).await?;
    let slow = format!("SELECT COUNT(*) FROM {columns} AS a, {columns} AS b, {columns} AS c");
    provoke(&mut session, &slow, &[number], Infrastructure).await?;
    // The server answers and closes the connection while the client may still be sending.
    let mut session = scratch.session().await?;
    let packet: i64 = sqlx::query_scalar("SELECT CAST(@@max_allowed_packet AS SIGNED)")
        .fetch_one(&mut session)
        .await?;
    let large = format!("DO '{}'", "x".repeat(usize::try_from(packet)?));
    let error = run(&mut session, &large).await.err().context("any packet is taken")?;
    ensure!(number_of(&error).is_none_or(|number| number == 1153), "{error}");
    ensure!(errors::remedy(&error) == Infrastructure, "{error}");
    scratch.finish().await
}

#[tokio::test]
async fn who_meets_another_on_a_row_tries_again() -> Result<()> {
    let (scratch, mut first) = with_tables().await?;
    let mut second = scratch.session().await?;
    let touch = |id: i32| format!("UPDATE t SET needed = needed + 1 WHERE id = {id}");
    run(&mut second, "SET SESSION innodb_lock_wait_timeout = 1").await?;
    run(&mut first, "BEGIN").await?;
    run(&mut first, &touch(1)).await?;
    provoke(&mut second, &touch(1), &[1205], Infrastructure).await?;
    // A deadlock: each transaction holds the row that the other one wants.
    run(&mut second, "SET SESSION innodb_lock_wait_timeout = 50").await?;
    // The transaction with less to undo is the victim.
    run(
        &mut first,
        "INSERT INTO parent WITH RECURSIVE numbers AS \
         (SELECT 1 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < 900) SELECT n FROM numbers",
    )
    .await?;
    run(&mut second, "BEGIN").await?;
    run(&mut second, &touch(2)).await?;
    let (crossing, wanted) = (touch(2), touch(1));
    let (crossed, victim) = tokio::join!(
        run(&mut first, &crossing),
        provoke(&mut second, &wanted, &[1213], Infrastructure)
    );
    crossed?;
    victim?;
    run(&mut first, "ROLLBACK").await?;
    scratch.finish().await
}

#[tokio::test]
async fn who_is_interrupted_tries_again() -> Result<()> {
    let (scratch, mut first) = with_tables().await?;
    run(&mut first, "BEGIN").await?;
    run(&mut first, "UPDATE t SET needed = 3 WHERE id = 1").await?;
    for (kill, numbers) in [("KILL QUERY", &[1317][..]), ("KILL", &[1927, 1317, 1053])] {
        let mut second = scratch.session().await?;
        let id: i64 = sqlx::query_scalar("SELECT CAST(CONNECTION_ID() AS SIGNED)")
            .fetch_one(&mut second)
            .await?;
        let waiting =
            tokio::spawn(
                async move { run(&mut second, "UPDATE t SET needed = 4 WHERE id = 1").await },
            );
        let waits = format!(
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
             WHERE id = {id} AND info LIKE 'UPDATE%'"
        );
        let waits_now = async {
            while sqlx::query_scalar::<_, i64>(AssertSqlSafe(waits.clone()))
                .fetch_one(&mut first)
                .await?
                == 0
            {
                ensure!(!waiting.is_finished(), "it does not wait");
            }
            Ok(())
        };
        tokio::time::timeout(SOON, waits_now).await.context("it never waits")??;
        run(&mut first, &format!("{kill} {id}")).await?;
        let error = waiting.await?.err().context("it goes on")?;
        // A killed connection may end without an error of the server.
        if kill == "KILL QUERY" || number_of(&error).is_some() {
            judge(&error, kill, numbers, Infrastructure)?;
        }
        ensure!(errors::remedy(&error) == Infrastructure, "{error}");
    }
    run(&mut first, "ROLLBACK").await?;
    scratch.finish().await
}

#[tokio::test]
async fn who_finds_no_connection_waits() -> Result<()> {
    let (scratch, _session) = with_tables().await?;
    scratch.create_user("SELECT ON t", "WITH MAX_USER_CONNECTIONS 1").await?;
    let only = scratch.user_session().await?;
    let error = scratch.user_session().await.err().context("a second connection")?;
    judge(&error, "a second connection", &[1226], Saturated)?;
    drop(only);
    scratch.finish().await
}
