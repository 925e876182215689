//! Moves what alerters remember of devices to the partitions that the devices have now.
//!
//! Opens and closes no episode. A device takes its last line of the journal and the states of its
//! rules along. Absence counts anew in every partition, from the latest of their clocks, so no device
//! is missing because it has moved.
//!
//! A run that ended half-way is repeated as a whole: a line is added in the new partition before the
//! former one is removed, and the number of partitions is accepted last.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, ensure};
use futures_util::TryStreamExt;
use jiff::Timestamp;
use ljwx_ledger::mysql::{MySqlPool, removal};
use ljwx_service::kafka::KafkaArgs;
use ljwx_service::kafka::partitioner::partition_of;
use ljwx_service::kafka::topic_reader::TopicReader;
use sqlx::{MySql, QueryBuilder};
use tracing::info;

/// Words of a line of the journal. The first is the device, the second the time at which it was seen
/// last, and `=` is the word of the line before. `engine::journal` of the alerter writes the lines.
const WORDS: usize = 6;

/// Lines of one row of the journal, at most.
const ROW_LINES_MAX: usize = 1_024;

/// Rows of one statement, at most.
const ROWS_MAX: usize = 256;

/// The line that counts of a device.
#[derive(Debug, PartialEq, Eq)]
struct DeviceLine {
    partition: i32,
    seen_ms: i64,
    text: String,
}

/// Lines by device.
type Lines = HashMap<String, DeviceLine>;

/// Fails while the group of the alerters has members: they would write the state that they remember.
pub async fn refuse_members(kafka: &KafkaArgs, group: &str) -> anyhow::Result<()> {
    let (kafka, name) = (kafka.clone(), group.to_owned());
    let asked = move || TopicReader::new(&kafka, "ljwx-migrate")?.members(&name);
    let members = tokio::task::spawn_blocking(asked).await??;
    ensure!(
        members.is_empty(),
        "the devices' alert state moves with the partitions, and group {group} has {} member(s): {}. \
         Stop the alerters, wait until their sessions have ended, then run this again",
        members.len(),
        members.join(", ")
    );
    Ok(())
}

/// Moves the state of all devices to their partitions among so many.
pub async fn move_state(pool: &MySqlPool, partitions: i32) -> anyhow::Result<()> {
    let (lines, last_row) = read_journal(pool).await.context("cannot read the journal")?;
    add_lines(pool, &lines, partitions).await.context("cannot write the journal")?;
    move_rule_states(pool, partitions).await.context("cannot move the states of rules")?;
    set_clocks(pool, partitions).await.context("cannot set the clocks of the partitions")?;
    let former = format!(
        "DELETE FROM t_alert_journal WHERE id <= {last_row} ORDER BY id LIMIT {}",
        removal::ROWS_MAX
    );
    removal::remove_all(pool, &former).await.context("cannot remove the former journal")?;
    info!(devices = lines.len(), partitions, "alert state moved");
    Ok(())
}

/// Returns the lines of all devices, and the number of the journal's last row.
async fn read_journal(pool: &MySqlPool) -> Result<(Lines, i64), sqlx::Error> {
    let (mut lines, mut last_row) = (Lines::new(), 0);
    // A connection streams the rows; the pool does not.
    let mut connection = pool.acquire().await?;
    let mut rows = sqlx::query_as::<_, (i64, i32, Vec<u8>)>(
        "SELECT id, kafka_partition, entry FROM t_alert_journal ORDER BY id",
    )
    .fetch(&mut connection);
    while let Some((id, partition, entry)) = rows.try_next().await? {
        take_lines(&mut lines, partition, &String::from_utf8_lossy(&entry));
        last_row = id;
    }
    Ok((lines, last_row))
}

/// Takes a row of the journal. In one partition, the last line of a device counts. A device that sent
/// readings while it moved has lines in two: then the one that was seen later counts.
fn take_lines(lines: &mut Lines, partition: i32, entry: &str) {
    for words in whole_lines(entry) {
        let Ok(seen_ms) = words[1].parse::<i64>() else { continue };
        let is_newer =
            |known: &DeviceLine| partition == known.partition || seen_ms >= known.seen_ms;
        if lines.get(words[0]).is_none_or(is_newer) {
            let line = DeviceLine { partition, seen_ms, text: words.join(" ") };
            lines.insert(words[0].to_owned(), line);
        }
    }
}

/// Returns the words of each line that can be read, without reference to the line before.
fn whole_lines(entry: &str) -> impl Iterator<Item = [&str; WORDS]> {
    let mut before = None;
    entry.lines().filter_map(move |line| {
        before = whole_line(line, before.take());
        before
    })
}

fn whole_line<'a>(line: &'a str, before: Option<[&'a str; WORDS]>) -> Option<[&'a str; WORDS]> {
    let mut words = line.split(' ');
    let mut whole = [""; WORDS];
    for (place, word) in whole.iter_mut().enumerate() {
        *word = match words.next()? {
            "=" => before?[place],
            word => word,
        };
    }
    words.next().is_none().then_some(whole)
}

/// Adds the line of each device to the journal of its partition.
async fn add_lines(pool: &MySqlPool, lines: &Lines, partitions: i32) -> Result<(), sqlx::Error> {
    let mut moved: BTreeMap<i32, Vec<&str>> = BTreeMap::new();
    for (device_sn, line) in lines {
        let partition = partition_of(device_sn.as_bytes(), partitions);
        moved.entry(partition).or_default().push(&line.text);
    }
    for (partition, lines) in moved {
        for lines in lines.chunks(ROW_LINES_MAX) {
            let entry = format!("{}\n", lines.join("\n"));
            sqlx::query(
                "INSERT INTO t_alert_journal (kafka_partition, devices, entry) VALUES (?, ?, ?)",
            )
            .bind(partition)
            .bind(lines.len() as i64)
            .bind(entry.into_bytes())
            .execute(pool)
            .await?;
        }
    }
    Ok(())
}

async fn move_rule_states(pool: &MySqlPool, partitions: i32) -> Result<(), sqlx::Error> {
    let states: Vec<(i64, String, i32)> =
        sqlx::query_as("SELECT rule_id, device_sn, kafka_partition FROM t_alert_state")
            .fetch_all(pool)
            .await?;
    let mut moved: BTreeMap<i32, Vec<(i64, String)>> = BTreeMap::new();
    for (rule_id, device_sn, former) in states {
        let partition = partition_of(device_sn.as_bytes(), partitions);
        if partition != former {
            moved.entry(partition).or_default().push((rule_id, device_sn));
        }
    }
    for (partition, states) in moved {
        for states in states.chunks(ROWS_MAX) {
            let mut query: QueryBuilder<MySql> =
                QueryBuilder::new("UPDATE t_alert_state SET kafka_partition = ");
            query.push_bind(partition).push(" WHERE (rule_id, device_sn) IN ");
            query.push_tuples(states, |mut key, (rule_id, device_sn)| {
                key.push_bind(rule_id).push_bind(device_sn);
            });
            query.build().execute(pool).await?;
        }
    }
    Ok(())
}

/// Gives all partitions the latest clock, and lets every window count from it. A clock that is ahead
/// of this host's counts as this host's: missing data would wait for it everywhere.
async fn set_clocks(pool: &MySqlPool, partitions: i32) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let latest: Option<i64> = sqlx::query_scalar("SELECT MAX(clock_ms) FROM t_alert_partition")
        .fetch_one(&mut *transaction)
        .await?;
    if let Some(latest) = latest {
        let clock_ms = latest.min(Timestamp::now().as_millisecond());
        let mut clocks: QueryBuilder<MySql> =
            QueryBuilder::new("REPLACE INTO t_alert_partition (kafka_partition, clock_ms) ");
        clocks.push_values(0..partitions, |mut row, partition| {
            row.push_bind(partition).push_bind(clock_ms);
        });
        clocks.build().execute(&mut *transaction).await?;
    }
    let windows: Vec<i64> = sqlx::query_scalar(
        "SELECT DISTINCT CAST(window_seconds AS SIGNED) FROM t_alert_no_data_clock",
    )
    .fetch_all(&mut *transaction)
    .await?;
    for window in windows {
        sqlx::query(
            "REPLACE INTO t_alert_no_data_clock (kafka_partition, window_seconds, counted_from) \
             SELECT kafka_partition, ?, clock_ms FROM t_alert_partition",
        )
        .bind(window)
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(rows: &[(i32, &str)]) -> Vec<(String, i32)> {
        let mut lines = Lines::new();
        rows.iter().for_each(|(partition, entry)| take_lines(&mut lines, *partition, entry));
        let mut taken: Vec<_> =
            lines.into_values().map(|line| (line.text, line.partition)).collect();
        taken.sort();
        taken
    }

    #[test]
    fn a_line_says_all_without_the_line_before() {
        let entry = "A1 100 7 - 1 5*41,60*0\nA2 = = = 2 -\nA3 101 - = - 5*41\n";
        let expected =
            ["A1 100 7 - 1 5*41,60*0", "A2 100 7 - 2 -", "A3 101 - - - 5*41"].map(str::to_owned);
        let lines: Vec<_> = whole_lines(entry).map(|words| words.join(" ")).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_is_no_line_is_left_out_with_the_lines_that_refer_to_it() {
        let entry =
            "A1 5 1 - 9 -\nA2 6 2 -\nA3 7 = - - -\nA4 8 4 - - -\nA5 = = = = - -\nA6 x - - - -";
        assert_eq!(
            taken(&[(0, entry)]),
            [("A1 5 1 - 9 -".to_owned(), 0), ("A4 8 4 - - -".to_owned(), 0)]
        );
    }

    #[test]
    fn the_last_line_of_a_partition_counts_and_of_two_partitions_the_later_one() {
        for (rows, text, partition) in [
            (&[(0, "A 5 1 - 9 -"), (0, "A 0 1 - 9 -")][..], "A 0 1 - 9 -", 0),
            (&[(0, "A 5 1 - 9 -"), (2, "A 8 1 - 9 -"), (0, "A 6 - - - -")], "A 8 1 - 9 -", 2),
            (&[(2, "A 8 1 - 9 -"), (0, "A 9 - - - -")], "A 9 - - - -", 0),
            (&[(0, "A 5 1 - 9 -"), (2, "A 5 1 - 9 -")], "A 5 1 - 9 -", 2),
        ] {
            assert_eq!(taken(rows), [(text.to_owned(), partition)], "{rows:?}");
        }
    }
}
