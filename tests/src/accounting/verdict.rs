//! The verdict on a run: compares the clients' answers with the contents of Kafka, MySQL and Redis.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::{TimeZone, offset};

use crate::accounting::history::{Answered, History};
use crate::clients::{kafka, mysql};
use crate::stack::wait::eventually;
use crate::stack::world::World;

/// Most problems of one kind that are listed.
const EXAMPLES_MAX: usize = 5;

/// Least time limit of the wait for the workers: busy servers take seconds to answer, even if no
/// record is left.
const LAG_WITHIN_MIN: Duration = Duration::from_secs(30);

/// The results of the comparison.
#[derive(Debug, Default)]
pub struct Verdict {
    /// The facts that hold, with their figures.
    pub facts: Vec<String>,
    /// The mismatches.
    pub problems: Vec<String>,
}

impl Verdict {
    /// Errors if there is a problem, and lists all problems.
    pub fn into_result(self) -> anyhow::Result<()> {
        if self.problems.is_empty() {
            return Ok(());
        }
        anyhow::bail!("{} problem(s):\n  - {}", self.problems.len(), self.problems.join("\n  - "))
    }

    fn check(&mut self, holds: bool, fact: String) {
        if holds { self.facts.push(fact) } else { self.problems.push(format!("not so: {fact}")) }
    }

    /// Adds a problem with the number of cases found and a few of them, if there are any.
    pub(crate) fn examples(&mut self, what: &str, found: &[String]) {
        if !found.is_empty() {
            let shown = found[..found.len().min(EXAMPLES_MAX)].join(", ");
            self.problems.push(format!("{}: {}, such as {shown}", found.len(), what));
        }
    }
}

/// Waits until the workers have processed every record, then compares everything.
pub async fn of(world: &World, history: &History, within: Duration) -> anyhow::Result<Verdict> {
    let mut verdict = Verdict::default();
    eventually(within.max(LAG_WITHIN_MIN), "the workers pass every record", || async {
        Ok((world.lag().await? == 0).then_some(()))
    })
    .await?;
    let newest = check_rows(world, history, &mut verdict).await?;
    check_ledger(world, &mut verdict).await?;
    check_rejects(world, history, &mut verdict).await?;
    check_redis(world, &newest, within, &mut verdict).await?;
    let (surprises, count) = history.surprises();
    if count > 0 {
        let first = surprises.join("; ");
        verdict.problems.push(format!("{count} answers do not fit what was sent: {first}"));
    }
    Ok(verdict)
}

/// Checks that every acknowledged reading is stored exactly once, and no rejected or unknown
/// reading is stored. Returns the newest time of each device.
async fn check_rows(
    world: &World,
    history: &History,
    verdict: &mut Verdict,
) -> anyhow::Result<HashMap<String, String>> {
    let mut mismatches = Mismatches::default();
    let mut newest = HashMap::new();
    let known: HashMap<&str, &HashMap<i64, Answered>> = history.devices().collect();
    let stored = texts(world, "SELECT DISTINCT device_sn FROM t_user_health_data").await?;
    let sent = known.keys().map(|device| (*device).to_owned());
    let devices: BTreeSet<String> = sent.chain(stored).collect();
    for device in devices {
        // One device at a time: all rows of a long run would not fit into memory.
        let quoted = device.replace('\\', "\\\\").replace('\'', "''");
        let sql = format!("SELECT timestamp FROM t_user_health_data WHERE device_sn = '{quoted}'");
        let times = texts(world, &sql).await?;
        mismatches.add(&device, &times, known.get(device.as_str()).copied(), history.others())?;
        if let Some(last) = times.into_iter().max() {
            newest.insert(device, last);
        }
    }
    verdict.examples("acknowledged but not stored", &mismatches.missing);
    verdict.examples("stored more than once", &mismatches.double);
    verdict.examples("refused but stored", &mismatches.refused);
    verdict.examples("stored but never sent", &mismatches.strange);
    if mismatches.missing.is_empty() && mismatches.double.is_empty() {
        let acknowledged = history.count(Answered::Acknowledged);
        verdict
            .facts
            .push(format!("all {acknowledged} acknowledged readings are stored exactly once"));
    }
    Ok(newest)
}

/// Returns the values of the only column of a query.
async fn texts(world: &World, sql: &str) -> anyhow::Result<Vec<String>> {
    Ok(world.database.rows(sql).await?.into_iter().flatten().flatten().collect())
}

/// The readings whose rows do not fit the answers.
#[derive(Debug, Default)]
struct Mismatches {
    missing: Vec<String>,
    double: Vec<String>,
    refused: Vec<String>,
    strange: Vec<String>,
}

impl Mismatches {
    /// Compares the times of a device's rows with its answers. `others`: whether other clients send,
    /// too.
    fn add(
        &mut self,
        device: &str,
        times: &[String],
        answered: Option<&HashMap<i64, Answered>>,
        others: bool,
    ) -> anyhow::Result<()> {
        let name = |at: i64| format!("{device} at {}", wall_time(at));
        let mut seen: HashMap<i64, u32> = HashMap::with_capacity(times.len());
        for time in times {
            *seen.entry(epoch_seconds(time)?).or_default() += 1;
        }
        for (at, rows) in &seen {
            match answered.and_then(|answered| answered.get(at)) {
                Some(Answered::Refused) => self.refused.push(name(*at)),
                None if !others => self.strange.push(name(*at)),
                _ => {}
            }
            if *rows > 1 {
                self.double.push(name(*at));
            }
        }
        for (at, answered) in answered.into_iter().flatten() {
            if *answered == Answered::Acknowledged && !seen.contains_key(at) {
                self.missing.push(name(*at));
            }
        }
        Ok(())
    }
}

/// Checks that the workers' ledger accounts for every offset and agrees with the number of rows.
async fn check_ledger(world: &World, verdict: &mut Verdict) -> anyhow::Result<()> {
    let ledger = world.database.ledger(&world.worker_group).await?;
    for row in ledger.iter().filter(|row| !row.balances()) {
        verdict.problems.push(format!("the ledger does not balance: {row:?}"));
    }
    let ends = kafka::watermarks(&world.stack.kafka_brokers, &world.readings_topic).await?;
    let lag = mysql::lag(&ledger, &ends);
    verdict.check(lag == 0, format!("the ledger stands at the end of every partition (lag {lag})"));
    let sum = |count: fn(&mysql::LedgerRow) -> i64| ledger.iter().map(count).sum::<i64>();
    let (stored, merged) = (sum(|row| row.stored), sum(|row| row.merged));
    let dead_lettered = sum(|row| row.dead_lettered);
    let rows = world.database.count("t_user_health_data").await?;
    verdict.check(
        stored == rows,
        format!("the ledger's stored ({stored}) are the table's rows ({rows})"),
    );
    let records: i64 = ends.iter().map(|end| end.high - end.low).sum();
    verdict.check(
        records == stored + merged + dead_lettered,
        format!(
            "{records} records = {stored} stored + {merged} merged + {dead_lettered} dead-lettered"
        ),
    );
    Ok(())
}

/// Checks that no item of an acknowledged body is lost: every rejected item is in the rejects
/// topic.
async fn check_rejects(
    world: &World,
    history: &History,
    verdict: &mut Verdict,
) -> anyhow::Result<()> {
    let records = kafka::records(&world.stack.kafka_brokers, &world.rejects_topic).await?;
    // The topic also holds fields that were dropped from accepted readings. They are no rejections.
    let rejects =
        records.iter().filter(|record| record.header("code").as_deref() != Some("field_dropped"));
    let found = rejects.count() as u64;
    let (least, most) = history.rejected();
    verdict.check(
        found >= least && (found <= most || history.others()),
        format!("the rejects topic holds {found} items for {least} to {most} rejected ones"),
    );
    Ok(())
}

/// Checks that Redis has the newest stored reading of each device.
async fn check_redis(
    world: &World,
    newest: &HashMap<String, String>,
    within: Duration,
    verdict: &mut Verdict,
) -> anyhow::Result<()> {
    let mut stale = Vec::new();
    for (device, time) in newest {
        // Redis follows the commit, so it may be a moment late. After the first stale device there
        // is no reason to wait longer.
        let patience = if stale.is_empty() { within } else { Duration::from_millis(1) };
        let current = eventually(patience, "Redis is current", || async {
            Ok((world.cache.newest_time(device).await?.as_ref() == Some(time)).then_some(()))
        })
        .await;
        if current.is_err() {
            let shown = world.cache.newest_time(device).await?.unwrap_or_else(|| "nothing".into());
            stale.push(format!("{device} shows {shown} instead of {time}"));
        }
    }
    verdict.examples("devices whose Redis hash is not the newest reading", &stale);
    if stale.is_empty() {
        let devices = newest.len();
        verdict.facts.push(format!("Redis shows the newest reading of all {devices} devices"));
    }
    Ok(())
}

/// Returns the wall-clock time that the simulated devices show at `at`.
pub fn wall_time(at: i64) -> String {
    let instant = jiff::Timestamp::from_second(at).unwrap_or_default();
    instant.to_zoned_datetime(TimeZone::fixed(offset(8))).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Returns the instant, in seconds since 1970, at which the simulated devices show `wall`.
pub fn epoch_seconds(wall: &str) -> anyhow::Result<i64> {
    let wall: DateTime = wall.parse()?;
    Ok(wall.to_zoned_datetime(TimeZone::fixed(offset(8)))?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_goes_both_ways() {
        let at = 1_756_800_540;
        assert_eq!(wall_time(at), "2025-09-02 16:09:00");
        assert_eq!(epoch_seconds("2025-09-02 16:09:00").unwrap(), at);
    }

    #[test]
    fn rows_are_compared_with_the_answers_of_their_device() {
        use Answered::{Acknowledged, Refused, Unknown};
        let at = |second: i64| wall_time(1_756_800_540 + second);
        let answered: HashMap<_, _> = [Acknowledged, Acknowledged, Refused, Unknown, Unknown]
            .into_iter()
            .zip(1_756_800_540..)
            .map(|(answered, at)| (at, answered))
            .collect();
        let rows = [at(0), at(0), at(2), at(3), at(9)];
        let mut found = Mismatches::default();
        found.add("a", &rows, Some(&answered), false).unwrap();
        let name = |second| vec![format!("a at {}", at(second))];
        assert_eq!((found.missing, found.double), (name(1), name(0)));
        assert_eq!((found.refused, found.strange), (name(2), name(9)));
        let mut found = Mismatches::default();
        found.add("b", &rows[..1], None, true).unwrap();
        assert!(found.strange.is_empty(), "another client may have sent it");
    }
}
