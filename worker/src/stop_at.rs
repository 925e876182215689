//! Where a worker that is not to go on for ever stops: at the records that are there, or at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use common::config::When;
use common::kafka::{KafkaArgs, REQUEST_TIMEOUT};
use common::ledger::Accepted;
use common::topic::Reader;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::watch;
use tracing::{info, warn};

/// How long to wait before Kafka is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// What `--stop-at` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopAt {
    /// What is in the topic when the worker starts.
    End,
    /// The first reading received then or later.
    Time(When),
}

impl StopAt {
    /// Reads `end`, or a time.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "end" {
            return Ok(Self::End);
        }
        When::parse(text).map(Self::Time).map_err(|error| format!("write end, or: {error}"))
    }

    /// The time, in milliseconds since 1970.
    pub fn at_ms(self, zone: &TimeZone) -> Option<i64> {
        match self {
            Self::End => None,
            Self::Time(when) => Some(when.at_ms(zone)),
        }
    }
}

/// The offset that is not taken any more, by partition.
type Stops = BTreeMap<i32, i64>;

/// Where the partitions stop; empty until it is known.
#[derive(Debug, Clone)]
pub struct Stopping {
    at_ms: Option<i64>,
    stops: watch::Receiver<Option<Stops>>,
    /// Partitions that were seen to go beyond the time.
    beyond: Stops,
}

impl Stopping {
    /// Asks Kafka where `stop_at` is: at once, or when its time has come.
    pub async fn start(
        stop_at: StopAt,
        kafka: &KafkaArgs,
        accepted: &Accepted,
        zone: &TimeZone,
    ) -> anyhow::Result<Self> {
        let at_ms = stop_at.at_ms(zone);
        let now_ms = Timestamp::now().as_millisecond();
        let (sender, stops) = watch::channel(None);
        if let Some(wait_ms) = at_ms.map(|at_ms| at_ms - now_ms).filter(|wait_ms| *wait_ms > 0) {
            let (kafka, accepted) = (kafka.clone(), accepted.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(wait_ms.unsigned_abs())).await;
                loop {
                    match ask(&kafka, &accepted, at_ms).await {
                        Ok(stops) => break drop(sender.send(Some(stops))),
                        Err(error) => warn!(%error, "cannot tell yet where to stop"),
                    }
                    tokio::time::sleep(ASK_AGAIN).await;
                }
            });
        } else {
            sender.send_replace(Some(ask(kafka, accepted, at_ms).await?));
        }
        Ok(Self { at_ms, stops, beyond: Stops::new() })
    }

    /// Whether a delivery is still to be taken.
    pub fn admits(&mut self, partition: i32, offset: i64, kafka_ms: i64) -> bool {
        if self.stop_of(partition).is_some_and(|stop| offset >= stop) {
            return false;
        }
        if self.at_ms.is_some_and(|at_ms| kafka_ms >= at_ms) {
            self.beyond.insert(partition, offset);
            return false;
        }
        true
    }

    /// Whether partitions that stand at these offsets are all at their end.
    pub fn reached(&self, positions: &[(i32, i64)]) -> bool {
        let done = |(partition, next): &(i32, i64)| {
            self.stop_of(*partition).is_some_and(|stop| *next >= stop)
        };
        !positions.is_empty() && positions.iter().all(done)
    }

    fn stop_of(&self, partition: i32) -> Option<i64> {
        let known = self.stops.borrow().as_ref().and_then(|stops| stops.get(&partition).copied());
        let beyond = self.beyond.get(&partition).copied();
        known.into_iter().chain(beyond).min()
    }
}

async fn ask(kafka: &KafkaArgs, accepted: &Accepted, at_ms: Option<i64>) -> anyhow::Result<Stops> {
    let (kafka, accepted) = (kafka.clone(), accepted.clone());
    let stops = tokio::task::spawn_blocking(move || stops(&kafka, &accepted, at_ms)).await??;
    info!(?stops, "going on up to these offsets");
    Ok(stops)
}

/// Blocks.
fn stops(kafka: &KafkaArgs, accepted: &Accepted, at_ms: Option<i64>) -> anyhow::Result<Stops> {
    let topic = &kafka.readings_topic;
    let reader = Reader::new(kafka, "worker-stop-at")?;
    reader.count_as(topic, accepted, REQUEST_TIMEOUT)?;
    let ends = reader.ends(topic)?.with_context(|| format!("there is no topic {topic}"))?;
    let stops: Stops = match at_ms {
        Some(at_ms) => reader.at_time(topic, &ends, at_ms)?,
        None => ends.iter().map(|(partition, ends)| (*partition, ends.high)).collect(),
    };
    // Nobody ever stands behind offsets without a record.
    let low = |partition| ends.get(partition).map_or(0, |ends| ends.low);
    let stretches = stops.iter().map(|(partition, stop)| (*partition, low(partition)..*stop));
    reader.record_ends(topic, &stretches.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_beyond_is_taken_and_the_end_is_known_once_all_are_there() {
        let (sender, stops) = watch::channel(None);
        let mut stopping = Stopping { at_ms: Some(1000), stops, beyond: Stops::new() };
        assert!(stopping.admits(0, 5, 999));
        assert!(!stopping.reached(&[(0, 6)]), "not known yet");
        assert!(!stopping.admits(0, 7, 1000));
        assert!(!stopping.admits(0, 8, 900), "order before time");
        assert!(stopping.reached(&[(0, 7)]));
        sender.send_replace(Some(Stops::from([(0, 6), (1, 3)])));
        assert!(!stopping.admits(0, 6, 900));
        assert!(!stopping.reached(&[(0, 6), (1, 2)]));
        assert!(stopping.reached(&[(0, 6), (1, 3)]));
        assert!(!stopping.reached(&[]), "no partition yet");
    }

    #[test]
    fn the_end_or_a_time() {
        assert_eq!(StopAt::parse("end"), Ok(StopAt::End));
        assert!(matches!(StopAt::parse("2025-09-02 16:00:00"), Ok(StopAt::Time(_))));
        assert!(StopAt::parse("later").is_err_and(|error| error.contains("end")));
    }
}
