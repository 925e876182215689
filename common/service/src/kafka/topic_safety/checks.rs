//! Decides what follows from the answers about the watched topics: the result, the lines to log
//! and the wait before the next check.
//!
//! Pure: queries, logs and exports nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::findings::findings;
use super::settings;
use super::state::{Finding, Level, Requirements, TopicRole, TopicState, WatchedTopic};

/// Wait between two checks of topics that are not refused.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Wait before the next check while a topic is refused or Kafka does not answer.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Consecutive answers without settings that count as a denial. A broker also fails for other
/// reasons, which rdkafka does not name.
pub(super) const EMPTY_ANSWERS_MIN: u32 = 5;

/// Consecutive answers after which a topic that existed counts as missing.
pub(super) const MISSING_ANSWERS_MIN: u32 = 2;

/// The result of the last complete check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CheckResult {
    /// No check is complete yet, for this reason.
    Unchecked(String),
    /// The messages of the refused settings, if there are any.
    Checked(Option<String>),
}

/// A line of the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum LogLine {
    /// A check is complete: the first one, or the first one after an outage.
    Checked,
    /// The checks cannot be completed now, for this reason.
    Incomplete(String),
    /// A finding about a topic is new, or has another value.
    Unsafe(String, Finding),
    /// A setting of a topic is no longer unsafe.
    Safe(String, &'static str),
}

/// What follows from one check.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The new result. `None` keeps the last one.
    pub(super) result: Option<CheckResult>,
    /// The lines to log.
    pub(super) lines: Vec<LogLine>,
    /// Wait before the next check.
    pub(super) wait: Duration,
}

/// Findings by topic and setting.
type Found = BTreeMap<(String, &'static str), Finding>;

/// What is known about the watched topics.
pub(super) struct TopicChecks {
    topics: Vec<WatchedTopic>,
    development: bool,
    require_safe: bool,
    histories: BTreeMap<String, TopicHistory>,
    found: Found,
    /// Why the checks cannot be completed now.
    outage: Option<String>,
    is_checked: bool,
}

impl TopicChecks {
    pub(super) fn new(topics: Vec<WatchedTopic>, development: bool, require_safe: bool) -> Self {
        Self {
            topics,
            development,
            require_safe,
            histories: BTreeMap::new(),
            found: Found::new(),
            outage: None,
            is_checked: false,
        }
    }

    /// Returns the topics, in the order in which `take` expects their states.
    pub(super) fn topics(&self) -> &[WatchedTopic] {
        &self.topics
    }

    /// Returns whether the last complete check found `setting` of `topic` unsafe.
    pub(super) fn is_unsafe(&self, topic: &str, setting: &'static str) -> bool {
        self.found.contains_key(&(topic.to_owned(), setting))
    }

    /// Takes the states of all topics, or the reason why they are not known.
    pub(super) fn take(&mut self, states: anyhow::Result<Vec<TopicState>>) -> Outcome {
        let states = states.map_err(|error| format!("{error:#}"));
        match states.and_then(|states| self.judge(&states)) {
            Ok(found) => self.complete(found),
            Err(reason) => self.keep(reason),
        }
    }

    /// Returns all findings, or the reason to ask again first.
    fn judge(&mut self, states: &[TopicState]) -> Result<Found, String> {
        let mut doubts = Vec::new();
        for (topic, state) in self.topics.iter().zip(states) {
            let history = self.histories.entry(topic.name.clone()).or_default();
            doubts.extend(history.take(&topic.name, state));
        }
        if !doubts.is_empty() {
            return Err(doubts.join("; "));
        }
        let mut answers = self.topics.iter().zip(states);
        let readings = answers.find(|(topic, _)| topic.role == TopicRole::Readings);
        let readings_partitions = readings.map_or(0, |(_, state)| state.partitions);
        let mut found = Found::new();
        for (topic, state) in self.topics.iter().zip(states) {
            let requirements = self.requirements(topic, readings_partitions);
            for finding in findings(&topic.name, state, &requirements) {
                found.insert((topic.name.clone(), finding.setting), finding);
            }
            if state.partitions > 0 && state.settings.is_none() {
                self.keep_settings(&topic.name, &mut found);
            }
        }
        Ok(found)
    }

    fn requirements(&self, topic: &WatchedTopic, readings_partitions: usize) -> Requirements {
        let letters = topic.role == TopicRole::DeadLetters;
        let history = self.histories.get(&topic.name);
        Requirements {
            role: topic.role,
            record_bytes: topic.record_bytes,
            partitions_at_start: history.and_then(|history| history.partitions_at_start),
            partitions_min: if letters { readings_partitions } else { 0 },
            development: self.development,
            require_safe: self.require_safe,
        }
    }

    /// Adds the earlier findings about settings that can no longer be seen. They hold until the settings are seen again.
    fn keep_settings(&self, topic: &str, found: &mut Found) {
        for (key, finding) in &self.found {
            let (name, setting) = key;
            if name == topic && settings::is_described(setting) {
                found.entry(key.clone()).or_insert_with(|| finding.clone());
            }
        }
    }

    fn complete(&mut self, found: Found) -> Outcome {
        let mut lines = Vec::new();
        if self.outage.take().is_some() || !self.is_checked {
            lines.push(LogLine::Checked);
        }
        self.is_checked = true;
        lines.extend(changes(&self.found, &found));
        let refused = found.values().filter(|finding| finding.level == Level::Refused);
        let refused: Vec<_> = refused.map(|finding| finding.message.as_str()).collect();
        let reason = (!refused.is_empty()).then(|| refused.join("; "));
        let wait = if reason.is_some() { RETRY_INTERVAL } else { CHECK_INTERVAL };
        self.found = found;
        Outcome { result: Some(CheckResult::Checked(reason)), lines, wait }
    }

    /// Keeps the result of a complete check: a topic rarely changes during an outage.
    fn keep(&mut self, reason: String) -> Outcome {
        let mut lines = Vec::new();
        if self.outage.as_ref() != Some(&reason) {
            lines.push(LogLine::Incomplete(reason.clone()));
        }
        let unchecked = || CheckResult::Unchecked(format!("topics not checked yet: {reason}"));
        let result = (!self.is_checked).then(unchecked);
        self.outage = Some(reason);
        Outcome { result, lines, wait: RETRY_INTERVAL }
    }
}

/// The answers about one topic so far.
#[derive(Debug, Default)]
struct TopicHistory {
    /// Number of partitions when the topic was first seen.
    partitions_at_start: Option<usize>,
    /// Consecutive answers without settings.
    empty_answers: u32,
    /// Consecutive answers that the topic is missing.
    missing_answers: u32,
}

impl TopicHistory {
    /// Takes an answer. Returns the reason to ask again if the answer may be wrong.
    fn take(&mut self, topic: &str, state: &TopicState) -> Option<String> {
        if state.partitions == 0 {
            self.missing_answers = self.missing_answers.saturating_add(1);
            let existed = self.partitions_at_start.is_some();
            return (existed && self.missing_answers < MISSING_ANSWERS_MIN)
                .then(|| format!("topic {topic} seems to be missing"));
        }
        self.missing_answers = 0;
        self.partitions_at_start.get_or_insert(state.partitions);
        if state.settings.is_some() {
            self.empty_answers = 0;
            return None;
        }
        self.empty_answers = self.empty_answers.saturating_add(1);
        (self.empty_answers < EMPTY_ANSWERS_MIN)
            .then(|| format!("the brokers show no settings of topic {topic}"))
    }
}

/// Returns a line for each finding that is new, has another value, or is gone. A message alone may
/// change with the number of brokers.
fn changes(before: &Found, now: &Found) -> Vec<LogLine> {
    let is_known = |(key, finding): &(&(String, &'static str), &Finding)| {
        let known = before.get(*key);
        known.is_some_and(|known| (known.level, &known.value) == (finding.level, &finding.value))
    };
    let new = now.iter().filter(|entry| !is_known(entry));
    let new = new.map(|((topic, _), finding)| LogLine::Unsafe(topic.clone(), finding.clone()));
    let gone = before.keys().filter(|key| !now.contains_key(*key));
    new.chain(gone.map(|(topic, setting)| LogLine::Safe(topic.clone(), setting))).collect()
}
