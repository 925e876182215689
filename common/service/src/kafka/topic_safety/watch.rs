//! Checks topics at the start and for ever after, logs and exports what changes, and keeps the
//! reason why the topics must not be used.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use metrics::gauge;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::findings::findings;
use super::observe::TopicObserver;
use super::settings;
use super::state::{Finding, Level, Requirements, TopicRole};
use crate::kafka::client::KafkaArgs;
use crate::metrics::{TOPIC_UNSAFE, flag};

/// Wait between two checks of topics that are not refused.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Wait before the next check while a topic is refused or Kafka does not answer.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A topic to watch.
#[derive(Debug, Clone)]
pub struct WatchedTopic {
    /// Name of the topic.
    pub name: String,
    /// Its content.
    pub role: TopicRole,
    /// Largest record that the service publishes to the topic, in bytes; 0 for a reader.
    pub record_bytes: usize,
}

/// The result of the last complete check.
#[derive(Debug)]
enum Verdict {
    /// No check is complete yet, for this reason.
    Unchecked(String),
    /// The messages of the refused settings, if there are any.
    Checked(Option<String>),
}

/// Whether the watched topics may be used. Clones share the verdict.
#[derive(Debug, Clone)]
pub struct TopicSafety(Arc<Mutex<Verdict>>);

impl TopicSafety {
    /// Returns the reason against use: a refused setting, or that no check is complete yet.
    pub fn reason(&self) -> Option<String> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Verdict::Unchecked(reason) => Some(reason.clone()),
            Verdict::Checked(refused) => refused.clone(),
        }
    }

    /// Returns the refused settings. `None` before the first complete check.
    pub fn refused(&self) -> Option<String> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Verdict::Unchecked(_) => None,
            Verdict::Checked(refused) => refused.clone(),
        }
    }

    /// Whether the topics may be used: a check is complete, and it refused nothing.
    pub fn allows_use(&self) -> bool {
        matches!(&*self.0.lock().unwrap_or_else(PoisonError::into_inner), Verdict::Checked(None))
    }

    fn set(&self, verdict: Verdict) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = verdict;
    }

    /// Keeps the verdict of a complete check. Without one, `reason` becomes the reason.
    fn keep_or(&self, reason: String) {
        let mut verdict = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Verdict::Unchecked(before) = &mut *verdict {
            *before = reason;
        }
    }
}

/// Watches `topics` in the background until `stop`. Name the readings topic before dead letters.
pub fn start(
    kafka: &KafkaArgs,
    client_id: &'static str,
    topics: Vec<WatchedTopic>,
    stop: CancellationToken,
) -> anyhow::Result<TopicSafety> {
    let observer = TopicObserver::new(kafka, client_id)
        .context("cannot create the client that checks topics; look at --kafka-set")?;
    let unchecked = Verdict::Unchecked("topics not checked yet".into());
    let safety = TopicSafety(Arc::new(Mutex::new(unchecked)));
    let watch = TopicWatch {
        observer,
        topics,
        development: kafka.development,
        require_safe: kafka.require_safe_topics,
        partitions_at_start: BTreeMap::new(),
        found: BTreeMap::new(),
        outage_logged: false,
        checked: false,
        safety: safety.clone(),
    };
    tokio::spawn(watch.run(stop));
    Ok(safety)
}

/// Findings by topic and setting.
type Found = BTreeMap<(String, &'static str), Finding>;

struct TopicWatch {
    observer: TopicObserver,
    topics: Vec<WatchedTopic>,
    development: bool,
    require_safe: bool,
    partitions_at_start: BTreeMap<String, usize>,
    found: Found,
    outage_logged: bool,
    checked: bool,
    safety: TopicSafety,
}

impl TopicWatch {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            let checked = tokio::select! {
                () = stop.cancelled() => return,
                checked = self.check() => checked,
            };
            let wait = match checked {
                Ok(found) => self.take(found),
                Err(error) => self.keep(&error),
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn check(&mut self) -> anyhow::Result<Found> {
        let mut found = Found::new();
        let mut readings_partitions = 0;
        for topic in &self.topics {
            let state = self.observer.observe(&topic.name, topic.role).await?;
            let before = self.partitions_at_start.get(&topic.name).copied();
            if before.is_none() && state.partitions > 0 {
                self.partitions_at_start.insert(topic.name.clone(), state.partitions);
            }
            if topic.role == TopicRole::Readings {
                readings_partitions = state.partitions;
            }
            let letters = topic.role == TopicRole::DeadLetters;
            let requirements = Requirements {
                role: topic.role,
                record_bytes: topic.record_bytes,
                partitions_at_start: before,
                partitions_min: if letters { readings_partitions } else { 0 },
                development: self.development,
                require_safe: self.require_safe,
            };
            for finding in findings(&topic.name, &state, &requirements) {
                found.insert((topic.name.clone(), finding.setting), finding);
            }
        }
        Ok(found)
    }

    /// Takes the result of a check over. Returns the wait before the next one.
    fn take(&mut self, found: Found) -> Duration {
        if self.outage_logged || !self.checked {
            info!("topics checked");
        }
        (self.outage_logged, self.checked) = (false, true);
        log_changes(&self.found, &found);
        for topic in &self.topics {
            for setting in settings::ALL {
                let key = (topic.name.clone(), setting);
                let is_unsafe = flag(found.contains_key(&key));
                let (name, setting) = key;
                gauge!(TOPIC_UNSAFE, "topic" => name, "setting" => setting).set(is_unsafe);
            }
        }
        let refused = found.values().filter(|finding| finding.level == Level::Refused);
        let refused: Vec<_> = refused.map(|finding| finding.message.as_str()).collect();
        let reason = (!refused.is_empty()).then(|| refused.join("; "));
        let wait = if reason.is_some() { RETRY_INTERVAL } else { CHECK_INTERVAL };
        self.safety.set(Verdict::Checked(reason));
        self.found = found;
        wait
    }

    /// Keeps the verdict while Kafka does not answer: a topic does not change meanwhile. Returns
    /// the wait before the next check.
    fn keep(&mut self, error: &anyhow::Error) -> Duration {
        if !self.outage_logged {
            warn!(reason = format!("{error:#}"), "cannot check topics, retrying");
            self.outage_logged = true;
        }
        self.safety.keep_or(format!("topics not checked yet: {error:#}"));
        RETRY_INTERVAL
    }
}

/// Logs each finding that is new, has another value, or is gone. A message alone may change with
/// the rate of the topic.
fn log_changes(before: &Found, now: &Found) {
    for (key, finding) in now {
        let (topic, setting) = key;
        let known = before.get(key);
        if known.is_some_and(|known| (known.level, &known.value) == (finding.level, &finding.value))
        {
            continue;
        }
        let reason = finding.message.as_str();
        match finding.level {
            Level::Refused => {
                warn!(topic, setting, reason, "topic refused until it is fixed");
            }
            Level::Warned => warn!(topic, setting, reason, "topic is unsafe, still in use"),
        }
    }
    for (topic, setting) in before.keys().filter(|key| !now.contains_key(*key)) {
        info!(topic, setting, "topic is safe again");
    }
}
