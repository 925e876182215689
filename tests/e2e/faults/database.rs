//! Faults of the database under the running pipeline. The worker waits for the end of each: no
//! reading is dead-lettered, every reading is stored in the end, and the ledger balances.

use anyhow::{Context, Result, ensure};
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::clients::{http, kafka};
use ljwx_tests::fakes::tcp_proxy::Proxy;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::{Value, json};
use sqlx::{Connection, MySqlConnection};

use crate::support::{
    AT, CAUGHT_UP_WITHIN, RECOVERED_WITHIN, ends_well, ensure_holds, finish, held, nothing_moves,
    pipeline, send, settled, settled_within, world,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_server_is_waited_out() -> Result<()> {
    let world = World::exclusive("readonly").await?;
    world.migrate().await?;
    // Administrators of the server may write in spite of `read_only`, so the worker gets a user
    // without their rights.
    let url = world.database.create_user().await?;
    let worker = world.worker().env("MYSQL_URL", url);
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), worker.start())?;
    let while_read_only = async || {
        let former = world.database.sessions().await?;
        send(&gateway, &world.device(1), AT, &[80, 81, 82]).await?;
        held(&worker, "infrastructure", 2.0, "--read-only").await?;
        // Another server may be the primary by now, and only new connections reach it. Readers must
        // leave the former primary, too: its rows are old.
        eventually(RECOVERED_WITHIN, "no connection of before is left", || async {
            let now = world.database.sessions().await?;
            Ok((!now.is_empty() && !now.iter().any(|id| former.contains(id))).then_some(()))
        })
        .await?;
        nothing_moves(&world, 0).await
    };
    world.database.while_set("read_only", "1", while_read_only).await?;
    ends_well(world, [gateway, worker], 3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_locked_for_longer_than_the_server_waits_are_written_later() -> Result<()> {
    let world = world("locked").await?;
    // The server gives a lock up after half of this time. MySQL checks the time once a second.
    let worker = world.worker().env("MYSQL_STATEMENT_TIMEOUT", "4s");
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), worker.start())?;
    let device = world.device(1);
    send(&gateway, &device, AT, &[80, 81, 82]).await?;
    settled(&world).await?;
    let lock = world.database.lock("t_user_health_data").await?;
    send(&gateway, &device, AT, &[80, 81, 82]).await?;
    held(&worker, "infrastructure", 2.0, "Lock wait timeout").await?;
    nothing_moves(&world, 3).await?;
    lock.release().await?;
    ends_well(world, [gateway, worker], 3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_victim_of_a_deadlock_tries_again() -> Result<()> {
    let (world, gateway, worker) = pipeline("deadlock").await?;
    send(&gateway, &world.device(1), AT, &[80]).await?;
    settled(&world).await?;
    world.database.execute("CREATE TABLE weight (n INT PRIMARY KEY)").await?;
    let mut lock = world.database.lock("t_user_health_data").await?;
    // The server aborts the transaction with less to undo. That must be the worker's transaction.
    lock.execute(
        "INSERT INTO weight WITH RECURSIVE numbers AS \
         (SELECT 1 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < 900) SELECT n FROM numbers",
    )
    .await?;
    send(&gateway, &world.device(1), AT, &[81, 82]).await?;
    let waiting = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
                   WHERE db = DATABASE() AND info LIKE 'INSERT INTO t_user_health_data (%'";
    eventually(RECOVERED_WITHIN, "a batch holds the ledger and waits for a row", || async {
        Ok((world.database.number(waiting).await? > 0).then_some(()))
    })
    .await?;
    lock.execute("SELECT epoch FROM ingest_progress FOR UPDATE").await?;
    held(&worker, "infrastructure", 1.0, "Deadlock found").await?;
    nothing_moves(&world, 1).await?;
    lock.release().await?;
    ends_well(world, [gateway, worker], 2).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_a_free_connection_is_waited_for() -> Result<()> {
    let world = world("connections").await?;
    let url = world.database.create_user().await?;
    let worker = world.worker().env("MYSQL_URL", &url);
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), worker.start())?;
    let user = world.database.user();
    let limit = async |connections: u32| {
        let limit = format!("ALTER USER {user} WITH MAX_CONNECTIONS_PER_HOUR {connections}");
        world.database.execute(&limit).await
    };
    limit(1).await?;
    send(&gateway, &world.device(1), AT, &[80]).await?;
    settled(&world).await?;
    eventually(RECOVERED_WITHIN, "the worker has no connection and gets none", || async {
        for id in world.database.sessions().await? {
            // The connection may have ended meanwhile.
            let _ = world.database.execute(&format!("KILL {id}")).await;
        }
        let refused = MySqlConnection::connect(&url).await.is_err();
        let none = world.database.sessions().await?.is_empty();
        Ok((refused && none).then_some(()))
    })
    .await?;
    send(&gateway, &world.device(1), "2025-09-02 17:09", &[80, 81]).await?;
    held(&worker, "saturated", 2.0, "max_connections_per_hour").await?;
    nothing_moves(&world, 1).await?;
    limit(0).await?;
    ends_well(world, [gateway, worker], 3).await
}

/// On MySQL the account is of its default kind, whose full login needs the server's RSA key. The
/// server caches a successful login until privileges are flushed or the server restarts.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_with_a_password_logs_in_again_after_its_privileges_were_flushed() -> Result<()>
{
    // The flush also sets back how often each account has connected this hour, which another test
    // bounds.
    let world = World::exclusive("login").await?;
    world.migrate().await?;
    let url = world.database.create_user().await?;
    let worker = world.worker().env("MYSQL_URL", &url);
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), worker.start())?;
    send(&gateway, &world.device(1), AT, &[80]).await?;
    settled(&world).await?;
    world.database.execute("FLUSH PRIVILEGES").await?;
    let before = world.database.sessions().await?;
    for id in &before {
        // The connection may have ended meanwhile.
        let _ = world.database.execute(&format!("KILL {id}")).await;
    }
    send(&gateway, &world.device(1), "2025-09-02 17:09", &[81, 82]).await?;
    settled(&world).await?;
    eventually(RECOVERED_WITHIN, "it works by connections of its own that are new", || async {
        let now = world.database.sessions().await?;
        Ok((!now.is_empty() && now.iter().all(|id| !before.contains(id))).then_some(()))
    })
    .await?;
    ends_well(world, [gateway, worker], 3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_larger_than_the_servers_packet_is_written_in_parts() -> Result<()> {
    const PACKET_BYTES: &str = "65536";
    const DEVICES: usize = 30;
    let world = World::exclusive("packet").await?;
    world.migrate().await?;
    let gateway = world.gateway().start().await?;
    // Documents that together exceed a packet, and rows that do so, too.
    let document = json!({"code": 0, "data": [{"totalTime": 5}], "name": "n".repeat(9_000)});
    for number in 0..DEVICES {
        let device = world.device(number);
        let reading = |(second, rate): (usize, i32)| {
            json!({"deviceSn": device, "heart_rate": rate, "customerId": "1900000000000000001",
                   "latitude": "22.54", "longitude": "114.05", "distance": "820.0", "step": 1,
                   "exerciseDailyData": if second == 0 { document.clone() } else { Value::Null },
                   "timestamp": format!("{AT}:{second:02}")})
        };
        // The last reading is sent twice: a merge must be counted as a merge wherever the batch is
        // cut.
        let seconds = (0..30).map(|second| (second, 80)).chain([(29, 81)]);
        let items: Vec<Value> = seconds.map(reading).collect();
        let body = json!({ "data": items }).to_string();
        let answer = http::post(&gateway.url("/upload_health_data"), body).await?;
        ensure!(answer.json["details"]["success"] == 31, "{}", answer.text);
    }
    let small_packets = async || {
        // All readings are in the topic when the worker starts, so that its batches are as large as
        // possible.
        let worker = world.worker().env("BATCH_ROWS", "1000").env("REDIS_DEVICES_MAX", "10");
        let worker = worker.start().await?;
        settled(&world).await?;
        anyhow::Ok(worker)
    };
    let worker =
        world.database.while_set("max_allowed_packet", PACKET_BYTES, small_packets).await?;
    let failed = worker.metric("write_errors_total", "").await?;
    ensure!(failed == 0.0, "{failed} attempts failed");
    let merged: i64 =
        world.database.ledger(&world.worker_group).await?.iter().map(|row| row.merged).sum();
    ensure!(DEVICES as i64 == merged, "{merged} merged");
    let days = "SELECT COUNT(exercise_daily_data) FROM t_user_health_data_daily";
    ensure!(world.database.number(days).await? == DEVICES as i64, "documents");
    ends_well(world, [gateway, worker], 30 * DEVICES as i64).await
}

/// Returns a `reading.v1` with five documents of almost the largest size.
fn large_reading(device: &str, second: usize) -> Vec<u8> {
    let document = json!({"code": 0, "data": [{"totalTime": 5}], "name": "n".repeat(60_000)});
    let at = 1_756_800_540 + second as i64;
    let reading = json!({
        "device_sn": device, "timestamp": wall_time(at), "epoch_ms": at * 1000,
        "received_at": at * 1000, "upload_method": "wifi", "heart_rate": 80,
        "sleep_data": document, "exercise_daily_data": document, "exercise_week_data": document,
        "scientific_sleep_data": document, "workout_data": document,
    });
    reading.to_string().into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_documents_wait_for_the_database_within_the_memory_limit() -> Result<()> {
    const LIMIT_MIB: usize = 256;
    const DEVICES: usize = 40;
    // 240 MB, of which the worker may hold a third of its limit.
    const READINGS_EACH: usize = 20;
    let world = world("memory").await?;
    let proxy = Proxy::start(world.database.url()).await?;
    let worker = world
        .worker()
        .env("MYSQL_URL", proxy.url(world.database.url())?)
        .env("MEMORY_LIMIT", (LIMIT_MIB * 1024 * 1024).to_string())
        .start()
        .await?;
    // A worker that has never read whether its group is paused takes nothing in.
    let (device, first) = (world.device(0), large_reading(&world.device(0), READINGS_EACH));
    kafka::fill(&world.stack.kafka_brokers, &world.readings_topic, &[(device, first)]).await?;
    settled(&world).await?;
    proxy.away();
    for second in 0..READINGS_EACH {
        let reading = |number: usize| {
            let device = world.device(number);
            let value = large_reading(&device, second);
            (device, value)
        };
        let readings: Vec<_> = (0..DEVICES).map(reading).collect();
        kafka::fill(&world.stack.kafka_brokers, &world.readings_topic, &readings).await?;
    }
    eventually(RECOVERED_WITHIN, "the worker takes no more in", || async {
        let held = worker.metric("buffered_bytes", "").await?;
        Ok((held >= worker.metric("buffered_bytes_max", "").await?).then_some(()))
    })
    .await?;
    nothing_moves(&world, 1).await?;
    proxy.back();
    // 240 MB of documents take longer than the few readings of other tests.
    settled_within(&world, CAUGHT_UP_WITHIN).await?;
    let most = worker.memory("VmHWM").context("what the kernel says of its memory")?;
    ensure!(most < LIMIT_MIB as f64, "{most:.0} MiB of {LIMIT_MIB}");
    let stored = 1 + (DEVICES * READINGS_EACH) as i64;
    nothing_moves(&world, stored).await?;
    ensure!(world.database.count("t_user_health_data").await? == stored, "rows");
    ensure_holds(&world, &[]).await?;
    finish(world, [worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_table_is_waited_out() -> Result<()> {
    let (world, gateway, worker) = pipeline("full").await?;
    // A table in memory takes the place of a full disk: the server reports the same error for both.
    world
        .database
        .execute(
            "SET SESSION max_heap_table_size = 16384; \
             CREATE TABLE brim LIKE t_user_health_data; ALTER TABLE brim REMOVE PARTITIONING; \
             ALTER TABLE brim ENGINE = MEMORY",
        )
        .await?;
    let fill = "INSERT INTO brim (device_sn, timestamp) WITH RECURSIVE numbers AS \
                (SELECT 1 AS n UNION ALL SELECT n + 1 FROM numbers WHERE n < 900) \
                SELECT n, NOW() FROM numbers";
    let full = world.database.execute(fill).await.err().context("it takes everything")?;
    ensure!(format!("{full:#}").contains("is full"), "{full:#}");
    let away = "RENAME TABLE t_user_health_data TO away, brim TO t_user_health_data";
    world.database.execute(away).await?;
    send(&gateway, &world.device(1), AT, &[80, 81, 82]).await?;
    held(&worker, "infrastructure", 2.0, "is full").await?;
    nothing_moves(&world, 0).await?;
    let back = "RENAME TABLE t_user_health_data TO brim, away TO t_user_health_data";
    world.database.execute(back).await?;
    ends_well(world, [gateway, worker], 3).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_clock_is_an_hour_off_changes_nothing() -> Result<()> {
    for (name, seconds) in [("behind", -3600), ("before", 3600)] {
        let world = World::exclusive(name).await?;
        world.migrate().await?;
        let url = world.database.create_user().await?;
        let gateway = world.gateway().start().await?;
        // Each session of a user without rights on the server runs this statement.
        let clock = format!("SET timestamp = UNIX_TIMESTAMP() + {seconds}");
        let off = async || {
            let worker = world.worker().env("MYSQL_URL", url).start().await?;
            let now = jiff::Timestamp::now().as_second();
            for (number, at) in [(1, now - 60), (1, now), (2, now - 7200)] {
                let (device, time) = (world.device(number), wall_time(at));
                let body = json!({"data": {
                    "deviceSn": device, "heart_rate": 80, "timestamp": time,
                    "exerciseDailyData": {"code": 0, "data": [{"totalTime": 5}]},
                }});
                let url = gateway.url("/upload_health_data");
                let answer = http::post(&url, body.to_string()).await?;
                ensure!(answer.json["details"]["success"] == 1, "{}", answer.text);
                eventually(RECOVERED_WITHIN, "Redis shows what arrived", || async {
                    Ok((world.cache.newest_time(&device).await? == Some(time.clone()))
                        .then_some(()))
                })
                .await?;
            }
            let on_time = "SELECT COUNT(*) FROM t_user_health_data \
                           WHERE ABS(TIMESTAMPDIFF(MINUTE, create_time, NOW())) < 30";
            ensure!(world.database.number(on_time).await? == 0, "the server's clock is right");
            let guard = "SELECT COUNT(*) FROM t_user_health_data_daily AS d \
                         JOIN (SELECT device_sn, MAX(timestamp) AS at FROM t_user_health_data \
                               GROUP BY device_sn) AS h \
                         ON d.device_sn = h.device_sn AND d.exercise_daily_data_at = h.at";
            ensure!(world.database.number(guard).await? == 2, "the days' documents");
            anyhow::Ok(worker)
        };
        let worker = world.database.while_set("init_connect", &clock, off).await?;
        ends_well(world, [gateway, worker], 3).await?;
    }
    Ok(())
}
