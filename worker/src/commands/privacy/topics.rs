//! Reads what the topics keep of the devices. Kafka deletes no single record, so it stays there until
//! the topics' retention.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ljwx_reading::wire;
use ljwx_service::kafka::partitioner::partition_of;
use ljwx_service::kafka::topic_reader::{OffsetRanges, TopicReader, TopicWatermarks, whole};
use ljwx_service::kafka::topic_settings::TopicSettings;
use rdkafka::message::{BorrowedMessage, Message};

use super::args::SubjectArgs;
use super::subject::{Scope, Subject};
use crate::commands::dlq::args::KeptTopic;
use crate::commands::dlq::record::KeptRecord;

/// The name of these commands in the logs of the brokers.
pub const CLIENT_ID: &str = "worker-privacy";

/// The header of a reject with the user, if the body named one beside its items.
const USER_HEADER: &str = "user_id";

/// When the last record of today is gone from a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeptUntil {
    /// At this time at the latest, in milliseconds since 1970.
    At(i64),
    /// The topic keeps its records for ever.
    Forever,
    /// The brokers do not show the settings of the topic.
    Unknown,
}

/// What a topic keeps of the devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptInTopic {
    /// The topic.
    pub topic: String,
    /// Its records of the devices; `None`: they are not counted.
    pub records: Option<u64>,
    /// When they are gone.
    pub until: KeptUntil,
}

/// Returns what the topics keep. The readings topic holds a week of all devices, so its records are
/// not counted. Topics that do not exist are left out.
pub async fn kept(config: &SubjectArgs, subject: &Subject) -> anyhow::Result<Vec<KeptInTopic>> {
    let readings = &config.kafka.readings_topic;
    let until_then = until(config, readings).await?;
    let mut found = vec![KeptInTopic { topic: readings.clone(), records: None, until: until_then }];
    for (topic, kind) in kept_topics(config) {
        let (config_here, subject, name) = (config.clone(), subject.clone(), topic.clone());
        let counting = tokio::task::spawn_blocking(move || {
            let mut records = 0;
            let there = read_kept(&config_here, &subject, (name.as_str(), kind), |_| {
                records += 1;
                Ok(())
            })?;
            anyhow::Ok(there.then_some(records))
        });
        if let Some(records) = counting.await?? {
            let until = until(config, &topic).await?;
            found.push(KeptInTopic { topic, records: Some(records), until });
        }
    }
    Ok(found)
}

/// Returns the topics of rejects and dead letters.
pub fn kept_topics(config: &SubjectArgs) -> [(String, KeptTopic); 3] {
    let kafka = &config.kafka;
    [
        (kafka.rejects_topic.clone(), KeptTopic::Rejects),
        (kafka.dead_letter_topic(&config.group), KeptTopic::DeadLetters),
        (kafka.dead_letter_topic(&config.alerter_group), KeptTopic::DeadLetters),
    ]
}

/// Passes every reject or dead letter of the devices to `visit`. Returns `false` if there is no such
/// topic. Blocks.
pub fn read_kept(
    config: &SubjectArgs,
    subject: &Subject,
    (topic, kind): (&str, KeptTopic),
    mut visit: impl FnMut(&KeptRecord) -> anyhow::Result<()>,
) -> anyhow::Result<bool> {
    let reader = TopicReader::new(&config.kafka, CLIENT_ID)?;
    let Some(ends) = reader.ends(topic)? else { return Ok(false) };
    reader.read(topic, &whole(&ends), |message| {
        let Some(record) = record_of(subject, message) else { return Ok(()) };
        let is_meant = subject.scopes.iter().any(|scope| is_meant(&record, kind, scope));
        if is_meant { visit(&record) } else { Ok(()) }
    })?;
    Ok(true)
}

/// Copies a record, if its key is one of the devices. Most records are of others.
fn record_of(subject: &Subject, message: &BorrowedMessage<'_>) -> Option<KeptRecord> {
    let key = message.key()?;
    let is_own = |scope: &Scope| scope.device_sn.as_str().as_bytes() == key;
    subject.scopes.iter().any(is_own).then(|| KeptRecord::of(message))
}

/// Whether a reject or dead letter is meant. Of a device that others wore, only one that names the
/// user is.
fn is_meant(record: &KeptRecord, kind: KeptTopic, scope: &Scope) -> bool {
    if record.device() != Some(scope.device_sn.as_str()) {
        return false;
    }
    let Some(user_id) = scope.user_id else { return true };
    let named = match kind {
        KeptTopic::Rejects => record.header(USER_HEADER).and_then(|user| user.parse().ok()),
        KeptTopic::DeadLetters => {
            wire::decode(record.value.as_deref()).ok().and_then(|reading| reading.ids().user_id)
        }
    };
    named == Some(user_id)
}

async fn until(config: &SubjectArgs, topic: &str) -> anyhow::Result<KeptUntil> {
    let settings = config.kafka.topic_settings(CLIENT_ID, topic).await?;
    Ok(kept_until(Timestamp::now().as_millisecond(), settings.as_ref()))
}

/// Kafka deletes whole segments, once their last record is past the retention. A segment takes records
/// for as long as `segment.ms`.
fn kept_until(now_ms: i64, settings: Option<&TopicSettings>) -> KeptUntil {
    let time = |name: &str| settings?.get(name)?.parse::<i64>().ok();
    match (time("retention.ms"), time("segment.ms")) {
        (Some(retention), _) if retention < 0 => KeptUntil::Forever,
        (Some(retention), Some(segment)) => {
            KeptUntil::At(now_ms.saturating_add(retention).saturating_add(segment))
        }
        _ => KeptUntil::Unknown,
    }
}

/// Returns the newest record of each device that came at `since_ms` or later, or that a group has yet
/// to process.
///
/// Times are those of the receipt, in milliseconds since 1970. `positions` are those of the slowest
/// group. Blocks.
pub fn on_the_way(
    reader: &TopicReader,
    topic: &str,
    subject: &Subject,
    positions: &BTreeMap<i32, i64>,
    since_ms: i64,
) -> anyhow::Result<BTreeMap<String, i64>> {
    let mut newest: BTreeMap<String, i64> = BTreeMap::new();
    let Some(ends) = reader.ends(topic)? else { return Ok(newest) };
    let since = reader.at_time(topic, &ends, since_ms)?;
    let ranges = ranges(subject, &ends, &since, positions);
    reader.read(topic, &ranges, |message| {
        let Some(record) = record_of(subject, message) else { return Ok(()) };
        if subject.scopes.iter().any(|scope| may_be_meant(&record, scope)) {
            let device = record.device().unwrap_or_default().to_owned();
            let at_ms = newest.entry(device).or_insert(record.timestamp_ms);
            *at_ms = record.timestamp_ms.max(*at_ms);
        }
        Ok(())
    })?;
    Ok(newest)
}

/// Returns the ranges to search: in the partitions of the devices, from the earlier of time and
/// position on.
fn ranges(
    subject: &Subject,
    ends: &TopicWatermarks,
    since: &BTreeMap<i32, i64>,
    positions: &BTreeMap<i32, i64>,
) -> OffsetRanges {
    let count = i32::try_from(ends.len()).unwrap_or(i32::MAX);
    let own = subject.scopes.iter();
    let own = own.map(|scope| partition_of(scope.device_sn.as_str().as_bytes(), count));
    let range = |partition: i32| {
        let ends = ends.get(&partition)?;
        let starts = [since, positions].map(|offsets| offsets.get(&partition).copied());
        let start = starts.into_iter().flatten().min().unwrap_or(ends.high);
        Some((partition, start.clamp(ends.low, ends.high)..ends.high))
    };
    own.filter_map(range).collect()
}

/// Whether a reading may be meant. A reading that names nobody may be the user's.
fn may_be_meant(record: &KeptRecord, scope: &Scope) -> bool {
    if record.device() != Some(scope.device_sn.as_str()) {
        return false;
    }
    let Some(user_id) = scope.user_id else { return true };
    let reading = wire::decode(record.value.as_deref()).ok();
    let named = reading.and_then(|reading| reading.ids().user_id);
    named.is_none_or(|named| named == user_id)
}

#[cfg(test)]
mod tests {
    use ljwx_reading::DeviceSn;
    use ljwx_service::kafka::topic_reader::Watermarks;

    use super::*;

    fn scope(device_sn: &str, user_id: Option<i64>) -> Scope {
        Scope { device_sn: DeviceSn::new(device_sn).unwrap(), user_id }
    }

    fn record(device: &str, user: Option<&str>, value: &str) -> KeptRecord {
        let header = |user: &str| (USER_HEADER.to_owned(), user.as_bytes().to_vec());
        KeptRecord {
            partition: 0,
            offset: 1,
            timestamp_ms: 2,
            key: Some(device.as_bytes().to_vec()),
            value: Some(value.as_bytes().to_vec()),
            headers: user.map(header).into_iter().collect(),
        }
    }

    fn reading(user: &str) -> String {
        format!(
            "{{\"device_sn\":\"A1\",\"timestamp\":\"2025-09-02 16:09:00\",\
             \"epoch_ms\":1756800540000,\"received_at\":1756800540000,\
             \"upload_method\":\"wifi\",\"heart_rate\":80{user}}}"
        )
    }

    #[test]
    fn of_a_shared_device_a_record_is_kept_of_the_user_whom_it_names() {
        let (rejects, letters) = (KeptTopic::Rejects, KeptTopic::DeadLetters);
        let (five, nobody) = (reading(",\"user_id\":5"), reading(""));
        for (record, kind, of_device, of_user) in [
            (record("A1", None, "x"), rejects, true, false),
            (record("A1", Some("5"), "x"), rejects, true, true),
            (record("A1", Some("6"), "x"), rejects, true, false),
            (record("a1", Some("5"), "x"), rejects, false, false),
            (record("A1", None, &five), letters, true, true),
            (record("A1", None, &nobody), letters, true, false),
            (record("A1", Some("5"), "x"), letters, true, false),
        ] {
            let found = [None, Some(5)].map(|user| is_meant(&record, kind, &scope("A1", user)));
            assert_eq!(found, [of_device, of_user], "{record:?}");
        }
    }

    #[test]
    fn a_reading_on_the_way_may_be_the_user_s_unless_it_names_another() {
        let (five, nobody) = (reading(",\"user_id\":5"), reading(""));
        for (value, expected) in
            [(&*five, [true, false]), (&*nobody, [true, true]), ("x", [true, true])]
        {
            let record = record("A1", None, value);
            let found = [5, 6].map(|user| may_be_meant(&record, &scope("A1", Some(user))));
            assert_eq!(found, expected, "{value}");
            assert!(may_be_meant(&record, &scope("A1", None)));
            assert!(!may_be_meant(&record, &scope("A2", None)));
        }
    }

    #[test]
    fn the_search_begins_at_the_time_or_at_the_slowest_group_and_stays_in_the_topic() {
        let subject = Subject { scopes: vec![scope("A1", None)], user_id: None };
        let ends = TopicWatermarks::from([(0, Watermarks { low: 10, high: 90 })]);
        for (since, position, expected) in [
            (Some(50), Some(80), 50..90),
            (Some(50), Some(40), 40..90),
            (Some(90), None, 90..90),
            (None, Some(3), 10..90),
            (None, Some(99), 90..90),
            (None, None, 90..90),
        ] {
            let of = |offset: Option<i64>| offset.map(|offset| (0, offset)).into_iter().collect();
            let found = ranges(&subject, &ends, &of(since), &of(position));
            assert_eq!(found, BTreeMap::from([(0, expected)]), "{since:?} {position:?}");
        }
    }

    #[test]
    fn a_segment_may_outlast_the_retention_by_the_time_for_which_it_takes_records() {
        let settings = |pairs: &[(&str, &str)]| -> TopicSettings {
            pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
        };
        let known = settings(&[("retention.ms", "100"), ("segment.ms", "20")]);
        assert_eq!(kept_until(7, Some(&known)), KeptUntil::At(127));
        let forever = settings(&[("retention.ms", "-1"), ("segment.ms", "20")]);
        assert_eq!(kept_until(7, Some(&forever)), KeptUntil::Forever);
        assert_eq!(kept_until(7, Some(&settings(&[]))), KeptUntil::Unknown);
        assert_eq!(kept_until(7, None), KeptUntil::Unknown);
    }
}
