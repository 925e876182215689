//! `worker audit`: finds nothing while everything is accounted for, and finds every mismatch.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ljwx_tests::accounting::verdict::wall_time;
use ljwx_tests::clients::kafka;
use ljwx_tests::stack::wait::eventually;
use ljwx_tests::stack::world::World;
use serde_json::json;

use crate::support::{
    audit, codes, ensure_holds, finish, letters, partition_of, send, settled, used,
};

async fn ensure_fails(world: &World, corruption: &str, expected: &[&str]) -> Result<()> {
    // Only a full count reads rows again that an earlier audit has counted.
    let (code, report) = audit(world, &["--full"]).await?;
    let found = codes(&report, "failure");
    ensure!(code == Some(1), "{corruption}: exit {code:?}, {report:#}");
    ensure!(found == expected, "{corruption}: {found:?} instead of {expected:?}: {report:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_run_holds_in_every_view() -> Result<()> {
    let (world, gateway, worker) = used("healthy").await?;
    let report = ensure_holds(&world, &[]).await?;
    let totals = &report["totals"];
    for (name, value) in [("stored", 20), ("merged", 3), ("dead_lettered", 1), ("explained", 24)] {
        ensure!(totals[name] == value, "{name}: {totals:#}");
    }
    ensure!(totals["rows"] == 20 && totals["letters"] == 1, "{totals:#}");
    ensure!(totals["difference"] == 0 && totals["lag"] == 0, "{totals:#}");
    let device = world.device(1);
    let report = ensure_holds(&world, &["--device", &device]).await?;
    let expected = json!({"records": 9, "stored": 8, "dead_lettered": 1, "unknown": 0,
                          "missing": 0, "named": []});
    ensure!(report["readings"] == expected, "{:#}", report["readings"]);
    let report = ensure_holds(&world, &["--from", "2020-01-01 00:00:00"]).await?;
    ensure!(report["readings"]["records"] == 24, "{:#}", report["readings"]);
    let report = ensure_holds(&world, &["--to", "2020-01-01 00:00:00"]).await?;
    ensure!(report["readings"]["records"] == 0, "{:#}", report["readings"]);
    let table = world.launch("worker", &["audit"]).finish().await?;
    ensure!(table.code == Some(0) && table.text.contains("\nholds\n"), "{}", table.text);
    let refused = world.launch("worker", &["audit", "--from", "soon"]).finish().await?;
    ensure!(refused.code == Some(2), "{}", refused.text);
    let silent = world.launch("worker", &["audit"]).env("MYSQL_URL", "mysql://u@127.0.0.1:9/x");
    let silent = silent.env("MYSQL_ACQUIRE_TIMEOUT", "1s").finish().await?;
    ensure!(silent.code == Some(3), "{:?}: {}", silent.code, silent.text);
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_to_the_ledger_is_found() -> Result<()> {
    let (world, gateway, worker) = used("ledger").await?;
    // A worker would claim a partition again whose row is moved.
    ensure!(worker.terminate().await?.success(), "the worker failed");
    let partition = partition_of(&world, 1).await?;
    let row = format!("consumer_group = '{}' AND `partition` = {partition}", world.worker_group);
    // The first record of partition 0 has the id 0. Its row counts as the workers' only if the
    // ledger begins at offset 0.
    let (first_moved, unclaimed): (&[&str], &[&str]) = if partition == 0 {
        (&["equation", "rows", "deliveries"], &["unclaimed", "other_rows"])
    } else {
        (&["equation"], &["unclaimed"])
    };
    for (change, undo, expected) in [
        (
            "`stored` = `stored` + 1",
            "`stored` = `stored` - 1",
            &["equation", "rows", "deliveries"][..],
        ),
        ("merged = merged - 1", "merged = merged + 1", &["equation", "deliveries"]),
        ("next_offset = next_offset - 1", "next_offset = next_offset + 1", &["equation"]),
        (
            "next_offset = next_offset + 1",
            "next_offset = next_offset - 1",
            &["equation", "beyond_topic"],
        ),
        ("first_offset = first_offset + 1", "first_offset = first_offset - 1", first_moved),
        ("skipped_gap = skipped_gap + 1", "skipped_gap = skipped_gap - 1", &["equation"]),
        ("rewound = rewound + 1", "rewound = rewound - 1", &["equation"]),
        (
            "dead_lettered = dead_lettered + 1",
            "dead_lettered = dead_lettered - 1",
            &["equation", "dead_letters"],
        ),
        // A delivery counted as processed, which only an alerter does, in a ledger that balances.
        (
            "`stored` = `stored` - 1, processed = processed + 1",
            "`stored` = `stored` + 1, processed = processed - 1",
            &["processed", "rows", "deliveries"],
        ),
        // A dead letter that does not exist, in a ledger that balances.
        (
            "dead_lettered = dead_lettered + 1, merged = merged - 1",
            "dead_lettered = dead_lettered - 1, merged = merged + 1",
            &["dead_letters", "deliveries"],
        ),
        // Offsets skipped that do not exist yet, in a ledger that balances.
        (
            "next_offset = next_offset + 5, skipped_gap = skipped_gap + 5",
            "next_offset = next_offset - 5, skipped_gap = skipped_gap - 5",
            &["beyond_topic"],
        ),
        ("`partition` = 99", "`partition` = 99", &["no_such_partition", "rows"]),
    ] {
        let set = |what: &str, row: &str| format!("UPDATE ingest_progress SET {what} WHERE {row}");
        world.database.execute(&set(change, &row)).await?;
        if change.starts_with("`partition`") {
            let (code, report) = audit(&world, &[]).await?;
            let found = codes(&report, "failure");
            ensure!(code == Some(1) && found.contains(&expected[0].to_owned()), "{report:#}");
            ensure!(codes(&report, "note") == unclaimed, "{report:#}");
            let moved = row.replace(&format!("= {partition}"), "= 99");
            world.database.execute(&set(&format!("`partition` = {partition}"), &moved)).await?;
        } else {
            ensure_fails(&world, change, expected).await?;
            world.database.execute(&set(undo, &row)).await?;
        }
    }
    ensure_holds(&world, &["--full"]).await?;
    finish(world, [gateway]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_to_the_rows_is_found() -> Result<()> {
    let (world, gateway, worker) = used("rows").await?;
    let row = format!("device_sn = '{}' AND timestamp = '2025-09-02 17:00:00'", world.device(1));
    let table = "t_user_health_data";
    world
        .database
        .execute(&format!("CREATE TABLE kept AS SELECT * FROM {table} WHERE {row}"))
        .await?;
    let restore = format!("REPLACE INTO {table} SELECT * FROM kept");
    for (change, expected) in [
        (format!("DELETE FROM {table} WHERE {row}"), &["rows", "deliveries"][..]),
        (format!("UPDATE {table} SET deliveries = deliveries + 1 WHERE {row}"), &["deliveries"]),
        (format!("UPDATE {table} SET deliveries = deliveries - 1 WHERE {row}"), &["deliveries"]),
        (format!("UPDATE {table} SET id = id + (1 << 40) WHERE {row}"), &["rows"]),
        (
            format!(
                "INSERT INTO {table} (device_sn, timestamp, id, last_source) \
                 SELECT device_sn, '2025-09-02 18:00:00', id, last_source FROM kept"
            ),
            &["rows", "deliveries"],
        ),
    ] {
        world.database.execute(&change).await?;
        ensure_fails(&world, &change, expected).await?;
        world.database.execute(&restore).await?;
        let added = format!("DELETE FROM {table} WHERE timestamp = '2025-09-02 18:00:00'");
        world.database.execute(&added).await?;
    }
    // The search by device names the missing reading.
    world.database.execute(&format!("DELETE FROM {table} WHERE {row}")).await?;
    let device = world.device(1);
    let (code, report) = audit(&world, &["--device", &device]).await?;
    ensure!(code == Some(1), "{report:#}");
    ensure!(codes(&report, "failure").contains(&"missing_readings".to_owned()), "{report:#}");
    let named = &report["readings"]["named"];
    ensure!(named[0]["timestamp"] == "2025-09-02 17:00:00" && named[1].is_null(), "{named:#}");
    world.database.execute(&restore).await?;
    // Rows of other programs are not the workers'.
    let other = format!("INSERT INTO {table} (device_sn, timestamp) VALUES ('OTHER', NOW())");
    world.database.execute(&other).await?;
    let report = ensure_holds(&world, &["--full"]).await?;
    ensure!(codes(&report, "note") == ["other_rows"], "{report:#}");
    let again = ensure_holds(&world, &[]).await?;
    ensure!(again["totals"] == report["totals"], "{again:#}");
    finish(world, [gateway, worker]).await
}

/// Longest time until a table of several million rows is filled.
const FILLED_WITHIN: Duration = Duration::from_secs(1800);

/// Lets a thousand devices send a reading a second, and waits until all are stored.
async fn fill(world: &World, seconds: std::ops::Range<i64>) -> Result<()> {
    let record = |second: i64, device: usize| {
        let epoch = 1_756_800_540 + second;
        let value = json!({"device_sn": world.device(device), "timestamp": wall_time(epoch),
                           "epoch_ms": epoch * 1000, "received_at": epoch * 1000,
                           "upload_method": "wifi", "heart_rate": 80});
        (world.device(device), value.to_string().into_bytes())
    };
    for from in seconds.clone().step_by(100) {
        let seconds = from..seconds.end.min(from + 100);
        let records =
            seconds.flat_map(|second| (0..1000).map(move |device| record(second, device)));
        let records: Vec<_> = records.collect();
        kafka::fill(&world.stack.kafka_brokers, &world.readings_topic, &records).await?;
    }
    let all_stored = || async { Ok((world.lag().await? == 0).then_some(())) };
    eventually(FILLED_WITHIN, "everything is stored", all_stored).await
}

/// Returns how many rows the server has read.
async fn rows_read(world: &World) -> Result<i64> {
    let status = world.database.rows("SHOW GLOBAL STATUS LIKE 'Handler\\_read\\_%'").await?;
    let values = status.iter().filter_map(|row| row.get(1)?.as_deref()?.parse::<i64>().ok());
    Ok(values.sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_reads_what_is_new_and_not_the_table() -> Result<()> {
    // AUDIT_ROWS: for a table of another size.
    let rows: i64 = std::env::var("AUDIT_ROWS").map_or(Ok(60_000), |rows| rows.parse())?;
    // The server's counters count for all tests that use it.
    let world = World::exclusive("counted").await?;
    world.migrate().await?;
    let (gateway, worker) = tokio::try_join!(world.gateway().start(), world.worker().start())?;
    fill(&world, 0..rows / 1000).await?;
    let first = ensure_holds(&world, &[]).await?;
    ensure!(first["totals"]["rows"] == rows, "{:#}", first["totals"]);
    fill(&world, rows / 1000..rows / 1000 + 2).await?;
    ensure!(worker.terminate().await?.success(), "the worker stops");
    let before = rows_read(&world).await?;
    let report = ensure_holds(&world, &[]).await?;
    let read = rows_read(&world).await? - before;
    println!("{rows} rows and 2000 new ones: the audit read {read}");
    ensure!(report["totals"]["rows"] == rows + 2_000, "{:#}", report["totals"]);
    // Each new row is read by its id, counted by its id, and looked up.
    ensure!(read < 20_000, "{read} rows read for 2,000 new ones among {rows}");
    let worker = world.worker().start().await?;
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_counted_rows_is_counted_with_them() -> Result<()> {
    let (world, gateway, worker) = used("below").await?;
    ensure_holds(&world, &[]).await?;
    // Repeated readings merge into counted rows. The dead letter of `used` goes back with its first
    // place, which lies in the counted range.
    for number in 1..=6 {
        send(&gateway, &world.device(number), "2025-09-02 16:09", &[80, 81, 82]).await?;
    }
    send(&gateway, &world.device(2), "2025-09-02 18:00", &[85]).await?;
    world.database.execute("ALTER TABLE t_user_health_data MODIFY heart_rate INT NULL").await?;
    let replay = world.launch("worker", &["dlq", "replay"]).finish().await?;
    ensure!(replay.code == Some(0) && replay.text.contains("1 reading(s) sent"), "{replay:?}");
    settled(&world).await?;
    let counted = ensure_holds(&world, &[]).await?;
    let all = ensure_holds(&world, &["--full"]).await?;
    ensure!(counted["totals"] == all["totals"], "{counted:#} instead of {all:#}");
    // A rewind writes rows anew whose ids were counted.
    ensure!(worker.terminate().await?.success(), "the worker stops");
    world.database.execute("DELETE FROM t_user_health_data").await?;
    let rewind = world.launch("worker", &["offsets", "--to-start", "--execute"]).finish().await?;
    ensure!(rewind.code == Some(0), "{rewind:?}");
    let worker = world.worker().start().await?;
    settled(&world).await?;
    let counted = audit(&world, &[]).await?;
    let all = audit(&world, &["--full"]).await?;
    ensure!(counted.0 == all.0, "{counted:?} instead of {all:?}");
    ensure!(counted.1["totals"] == all.1["totals"], "{counted:?} instead of {all:?}");
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_too_many_are_found_and_expired_ones_are_not_missed() -> Result<()> {
    let (world, gateway, worker) = used("forged").await?;
    let brokers = &world.stack.kafka_brokers;
    let topic = format!("{}.{}.dlq", world.readings_topic, world.worker_group);
    let partition = partition_of(&world, 1).await?;
    let letters = kafka::records(brokers, &topic).await?;
    let letter = letters.first().context("a letter")?;
    let source: i64 = letter.header("dlq.source.offset").context("offset")?.parse()?;
    let headers = |offset: i64| {
        [
            ("dlq.source.topic", world.readings_topic.clone()),
            ("dlq.source.partition", partition.to_string()),
            ("dlq.source.offset", offset.to_string()),
        ]
    };
    // The same dead letter a second time, as after a crash between publishing and commit.
    kafka::produce(brokers, &topic, partition, &letter.value, &headers(source)).await?;
    let report = ensure_holds(&world, &[]).await?;
    ensure!(report["dead_letter_records"] == 2, "{report:#}");
    // A dead letter whose transaction is not committed yet.
    kafka::produce(brokers, &topic, partition, b"later", &headers(1_000)).await?;
    let report = ensure_holds(&world, &[]).await?;
    ensure!(codes(&report, "note") == ["letters_in_flight"], "{report:#}");
    // A dead letter whose reading is stored as well.
    let readings = kafka::records(brokers, &world.readings_topic).await?;
    let other = readings.iter().find(|reading| reading.partition == partition).context("none")?;
    kafka::produce(brokers, &topic, partition, &other.value, &headers(other.offset)).await?;
    let report = ensure_holds(&world, &[]).await?;
    ensure!(codes(&report, "note").contains(&"letters_stored".to_owned()), "{report:#}");
    // A dead letter of a delivery that was never dead-lettered.
    kafka::produce(brokers, &topic, partition, b"forged", &headers(source - 1)).await?;
    ensure_fails(&world, "a forged letter", &["dead_letters"]).await?;
    let end = kafka::watermarks(brokers, &topic).await?;
    let end = end.iter().find(|end| end.partition == partition).context("partition")?.high;
    kafka::delete_before(brokers, &topic, partition, end).await?;
    let report = ensure_holds(&world, &[]).await?;
    ensure!(codes(&report, "note") == ["letters_expired"], "{report:#}");
    finish(world, [gateway, worker]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_is_clean_after_a_purge() -> Result<()> {
    let (world, gateway, worker) = used("purged").await?;
    let since = ["--from", "2020-01-01 00:00:00"];
    let before = ensure_holds(&world, &since).await?;
    let purge = ["dlq", "--to", "2099-01-01 00:00:00", "purge"];
    let shown = world.launch("worker", &purge).finish().await?;
    ensure!(shown.text.contains("1 record(s)") && letters(&world).await?.len() == 1, "{shown:?}");
    ensure!(world.database.count("ingest_purged_letter").await? == 0, "recorded, not deleted");
    let execute = [&purge[..], &["--execute"]].concat();
    // A second purge finds nothing left and changes nothing.
    for deleted in ["1 record(s)", "0 record(s)"] {
        let done = world.launch("worker", &execute).finish().await?;
        ensure!(done.code == Some(0) && done.text.contains(deleted), "{done:?}");
        ensure!(letters(&world).await?.is_empty(), "not deleted");
        ensure!(world.database.count("ingest_purged_letter").await? == 1, "not recorded once");
        let report = ensure_holds(&world, &since).await?;
        ensure!(report["readings"] == before["readings"], "{:#}", report["readings"]);
        ensure!(report["totals"]["letters"] == 1, "{:#}", report["totals"]);
        ensure!(codes(&report, "note") == codes(&before, "note"), "{report:#}");
    }
    // Without the record, the purged letter looks like a lost reading.
    world.database.execute("DELETE FROM ingest_purged_letter").await?;
    let (code, report) = audit(&world, &since).await?;
    ensure!(code == Some(1), "{report:#}");
    ensure!(codes(&report, "failure") == ["missing_readings"], "{report:#}");
    finish(world, [gateway, worker]).await
}
