//! Judges a topic. Pure: the state of the topic and the requirements are arguments.

use std::fmt::Display;

use super::settings::{
    CLEANUP, COMPRESSION, EXISTENCE, INSYNC, MESSAGE_BYTES, PARTITIONS, REPLICATION, REQUIRED_SAFE,
    RETENTION_BYTES, RETENTION_MS, RIGHTS, TIMESTAMP_AFTER, TIMESTAMP_BEFORE, TIMESTAMP_TYPE,
    UNCLEAN,
};
use super::state::{Finding, Level, Requirements, TopicRole, TopicState};
use crate::kafka::topic_settings::TopicSettings;
use crate::kafka::topics::{DEAD_LETTER_BYTES_MAX, MESSAGE_BYTES_MAX, REJECTS_RETENTION_BYTES};

/// One hour in milliseconds: least retention of readings, below which a short outage loses some.
const HOUR_MS: i64 = 3_600_000;

/// Retention of readings below which a night's outage loses some.
const READINGS_RETENTION_MS: i64 = 24 * HOUR_MS;

/// Retention of rejects and dead letters below which a person on holiday misses some.
const REJECTS_RETENTION_MS: i64 = 7 * 24 * HOUR_MS;

/// Least distance of timestamps from the broker's clock that a topic must allow.
const CLOCK_DISTANCE_MS: i64 = 600_000;

/// Replicas with which one broker may be lost while another one restarts.
const REPLICAS_SAFE: usize = 3;

/// Returns what is unsafe about a topic.
pub fn findings(topic: &str, state: &TopicState, requirements: &Requirements) -> Vec<Finding> {
    let mut judge = Judge { topic, state, needs: requirements, findings: Vec::new() };
    if state.partitions == 0 {
        judge.missing();
        return judge.findings;
    }
    judge.partitions();
    judge.replication();
    if state.settings.is_none() {
        judge.rights();
    }
    judge.insync();
    judge.election();
    judge.message_bytes();
    judge.cleanup();
    judge.retention();
    judge.batches();
    judge.timestamps();
    judge.findings
}

/// Returns the problems of an existing topic of rejects or dead letters that a topic of `worker
/// migrate` does not have, each with its fix.
pub fn differences(topic: &str, settings: &TopicSettings, role: TopicRole) -> Vec<String> {
    let mut found = Vec::new();
    let bytes = settings.get(MESSAGE_BYTES).and_then(|bytes| bytes.parse::<usize>().ok());
    if let (TopicRole::DeadLetters, Some(bytes)) = (role, bytes)
        && bytes < DEAD_LETTER_BYTES_MAX
    {
        found.push(cut_dead_letters(topic, bytes));
    }
    if settings.get(RETENTION_BYTES).is_some_and(|bytes| bytes == "-1") {
        let remedy = set(topic, RETENTION_BYTES, REJECTS_RETENTION_BYTES);
        found.push(format!(
            "{RETENTION_BYTES} of topic {topic} has no limit, so a flood may fill the brokers' disks; \
             with a limit Kafka deletes the oldest records beyond it: {remedy}"
        ));
    }
    found
}

/// Returns the problem of a dead-letter topic that accepts at most `bytes`, and its fix.
fn cut_dead_letters(topic: &str, bytes: usize) -> String {
    let remedy = set(topic, MESSAGE_BYTES, DEAD_LETTER_BYTES_MAX);
    format!(
        "{MESSAGE_BYTES} of topic {topic} is {bytes}, so a large dead letter would be cut: {remedy}"
    )
}

fn set(topic: &str, setting: &str, value: impl Display) -> String {
    format!(
        "kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config \
         {setting}={value}"
    )
}

/// Collects the findings of one topic.
struct Judge<'a> {
    topic: &'a str,
    state: &'a TopicState,
    needs: &'a Requirements,
    findings: Vec<Finding>,
}

impl Judge<'_> {
    fn add(
        &mut self,
        level: Level,
        setting: &'static str,
        value: impl Display,
        why: &str,
        remedy: &str,
    ) {
        let message = format!("{setting} of topic {} is {value}: {why}; {remedy}", self.topic);
        self.push(level, setting, value, message);
    }

    fn push(&mut self, level: Level, setting: &'static str, value: impl Display, message: String) {
        let required = self.needs.require_safe && REQUIRED_SAFE.contains(&setting);
        let level = if required { Level::Refused } else { level };
        self.findings.push(Finding { setting, value: value.to_string(), level, message });
    }

    fn set(&self, setting: &str, value: impl Display) -> String {
        set(self.topic, setting, value)
    }

    fn missing(&mut self) {
        let topic = self.topic;
        let message = format!(
            "topic {topic} does not exist, or this account may not describe it: run `worker \
             migrate`, or grant Describe"
        );
        self.push(Level::Refused, EXISTENCE, "missing", message);
    }

    fn rights(&mut self) {
        let topic = self.topic;
        let message = format!(
            "DescribeConfigs on topic {topic} is denied or fails, its settings are not checked: \
             kafka-acls.sh --add --operation DescribeConfigs --topic {topic} --allow-principal \
             User:NAME"
        );
        self.push(Level::Warned, RIGHTS, "denied", message);
    }

    fn partitions(&mut self) {
        let (topic, now) = (self.topic, self.state.partitions);
        if now < self.needs.partitions_min {
            let least = self.needs.partitions_min;
            let message = format!(
                "topic {topic} has {now} partitions, the readings topic has {least}, so a dead \
                 letter may not find its own: run `worker migrate` with this group"
            );
            self.push(Level::Refused, PARTITIONS, now, message);
            return;
        }
        // `worker migrate` adds partitions for dead letters, which moves no device.
        let kept = self.needs.role == TopicRole::DeadLetters;
        let before = self.needs.partitions_at_start.filter(|before| !kept && *before != now);
        if let Some(before) = before {
            let message = format!(
                "topic {topic} has {now} partitions, it had {before} when this process started: \
                 devices move between partitions; accept the partitions as docs/commands.md says, \
                 then restart this process"
            );
            self.push(Level::Warned, PARTITIONS, now, message);
        }
    }

    fn replication(&mut self) {
        let (replicas, brokers) = (self.state.replicas, self.state.brokers);
        let possible = brokers >= REPLICAS_SAFE;
        if replicas >= REPLICAS_SAFE || (self.needs.development && !possible) {
            return;
        }
        let remedy = if possible {
            "raise it to 3 with kafka-reassign-partitions.sh"
        } else {
            "add brokers, or set DEVELOPMENT=true"
        };
        let why = "lost disks lose acknowledged readings";
        self.add(Level::Warned, REPLICATION, replicas, why, remedy);
    }

    fn insync(&mut self) {
        let Some(insync) = self.state.setting::<usize>(INSYNC) else { return };
        let replicas = self.state.replicas;
        if insync > replicas {
            let why = format!("there are {replicas} replicas, so no record is ever acknowledged");
            let remedy = self.set(INSYNC, replicas.saturating_sub(1).max(1));
            self.add(Level::Refused, INSYNC, insync, &why, &remedy);
        } else if insync < 2 && replicas >= REPLICAS_SAFE {
            let why = "an acknowledged reading may be in the memory of one broker only";
            let remedy = self.set(INSYNC, 2);
            self.add(Level::Warned, INSYNC, insync, why, &remedy);
        } else if insync == replicas && replicas > 1 {
            // With one replica the finding is that of the replication.
            let why = "it equals the replicas, so the restart of one broker stops the intake";
            let remedy = self.set(INSYNC, replicas - 1);
            self.add(Level::Warned, INSYNC, insync, why, &remedy);
        }
    }

    fn election(&mut self) {
        if self.state.setting::<bool>(UNCLEAN) == Some(true) {
            let why = "a broker that misses acknowledged readings may become the leader";
            let remedy = self.set(UNCLEAN, false);
            self.add(Level::Warned, UNCLEAN, true, why, &remedy);
        }
    }

    fn message_bytes(&mut self) {
        let Some(bytes) = self.state.setting::<usize>(MESSAGE_BYTES) else { return };
        let needed = self.needs.record_bytes;
        if bytes < needed && self.needs.role == TopicRole::DeadLetters {
            let message = cut_dead_letters(self.topic, bytes);
            self.push(Level::Refused, MESSAGE_BYTES, bytes, message);
        } else if bytes < needed {
            let why = format!("a body may become a record of {needed}");
            let remedy = self.set(MESSAGE_BYTES, MESSAGE_BYTES_MAX);
            self.add(Level::Refused, MESSAGE_BYTES, bytes, &why, &remedy);
        } else if bytes < MESSAGE_BYTES_MAX {
            let why = format!("topics of this system accept {MESSAGE_BYTES_MAX}");
            let remedy = self.set(MESSAGE_BYTES, MESSAGE_BYTES_MAX);
            self.add(Level::Warned, MESSAGE_BYTES, bytes, &why, &remedy);
        }
    }

    fn cleanup(&mut self) {
        let policy = self.state.setting::<String>(CLEANUP).unwrap_or_default();
        if policy.split(',').any(|word| word.trim() == "compact") {
            let why = "Kafka removes all but the newest record of a device";
            let remedy = self.set(CLEANUP, "delete");
            self.add(Level::Refused, CLEANUP, policy, why, &remedy);
        }
    }

    fn retention(&mut self) {
        let readings = self.needs.role == TopicRole::Readings;
        // A negative retention is for ever.
        let time = self.state.setting::<i64>(RETENTION_MS).filter(|time| *time >= 0);
        if let Some(time) = time {
            let safe = if readings { READINGS_RETENTION_MS } else { REJECTS_RETENTION_MS };
            let level = if readings && time < HOUR_MS { Level::Refused } else { Level::Warned };
            let hours = safe / HOUR_MS;
            let why = format!("Kafka removes records before {hours} h have passed");
            let remedy = self.set(RETENTION_MS, safe);
            if time < safe {
                self.add(level, RETENTION_MS, time, &why, &remedy);
            }
        }
        let bytes = self.state.setting::<i64>(RETENTION_BYTES).filter(|bytes| *bytes >= 0);
        if let (true, Some(bytes)) = (readings, bytes) {
            let why = "Kafka removes readings before their time where a partition has more bytes";
            let remedy = self.set(RETENTION_BYTES, -1);
            self.add(Level::Warned, RETENTION_BYTES, bytes, why, &remedy);
        }
    }

    fn batches(&mut self) {
        let codec = self.state.setting::<String>(COMPRESSION);
        if let Some(codec) = codec.filter(|codec| codec != "producer") {
            let why = "the broker compresses each batch again";
            let remedy = self.set(COMPRESSION, "producer");
            self.add(Level::Warned, COMPRESSION, codec, why, &remedy);
        }
    }

    fn timestamps(&mut self) {
        let kind = self.state.setting::<String>(TIMESTAMP_TYPE);
        if let Some(kind) = kind.filter(|kind| kind == "LogAppendTime") {
            let why = "the broker replaces the time at which the gateway published a record";
            let remedy = self.set(TIMESTAMP_TYPE, "CreateTime");
            self.add(Level::Warned, TIMESTAMP_TYPE, kind, why, &remedy);
        }
        for setting in [TIMESTAMP_AFTER, TIMESTAMP_BEFORE] {
            let distance = self.state.setting::<i64>(setting);
            if let Some(distance) = distance.filter(|distance| *distance < CLOCK_DISTANCE_MS) {
                let why = "a wrong clock of a gateway makes Kafka refuse all its records";
                let remedy = self.set(setting, HOUR_MS);
                self.add(Level::Warned, setting, distance, why, &remedy);
            }
        }
    }
}
