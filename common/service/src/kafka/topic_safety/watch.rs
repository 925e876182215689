//! Checks topics at the start and for ever after, logs and exports what changes, and keeps the
//! reason why the topics must not be used.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use metrics::gauge;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::checks::{CheckResult, LogLine, Outcome, TopicChecks};
use super::observe::TopicObserver;
use super::settings;
use super::state::{Level, TopicRole, TopicState};
use crate::kafka::client::KafkaArgs;
use crate::kafka::topics::DEAD_LETTER_BYTES_MAX;
use crate::lifecycle::EssentialTasks;
use crate::metrics::{TOPIC_UNSAFE, flag};

pub use super::state::WatchedTopic;

/// Whether the watched topics may be used. Clones share the result.
#[derive(Debug, Clone)]
pub struct TopicSafety(Arc<Mutex<CheckResult>>);

impl TopicSafety {
    /// Returns the reason against use: a refused setting, or that no check is complete yet.
    pub fn reason(&self) -> Option<String> {
        match &*self.result() {
            CheckResult::Unchecked(reason) => Some(reason.clone()),
            CheckResult::Checked(refused) => refused.clone(),
        }
    }

    /// Returns the refused settings. `None` before the first complete check.
    pub fn refused(&self) -> Option<String> {
        match &*self.result() {
            CheckResult::Unchecked(_) => None,
            CheckResult::Checked(refused) => refused.clone(),
        }
    }

    /// Whether the topics may be used: a check is complete, and it refused nothing.
    pub fn allows_use(&self) -> bool {
        matches!(&*self.result(), CheckResult::Checked(None))
    }

    fn result(&self) -> MutexGuard<'_, CheckResult> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the topics that a member of a consumer group uses: the readings and the group's dead
/// letters.
pub fn of_group(kafka: &KafkaArgs, group: &str) -> Vec<WatchedTopic> {
    vec![
        WatchedTopic {
            name: kafka.readings_topic.clone(),
            role: TopicRole::Readings,
            record_bytes: 0,
        },
        WatchedTopic {
            name: kafka.dead_letter_topic(group),
            role: TopicRole::DeadLetters,
            record_bytes: DEAD_LETTER_BYTES_MAX,
        },
    ]
}

/// Watches `topics` in the background until `stop`. Returns whether they may be used, now and after
/// each later check. The process ends if the watch does.
pub fn start(
    kafka: &KafkaArgs,
    client_id: &str,
    topics: Vec<WatchedTopic>,
    essential: &EssentialTasks,
    stop: &CancellationToken,
) -> anyhow::Result<TopicSafety> {
    let watch = TopicWatch::new(kafka, client_id, topics)?;
    let safety = watch.safety.clone();
    essential.spawn("the watch of topics", stop, watch.run(stop.clone()));
    Ok(safety)
}

/// Checks topics again and again.
struct TopicWatch {
    observer: TopicObserver,
    checks: TopicChecks,
    safety: TopicSafety,
}

impl TopicWatch {
    /// Creates a watch that connects on its first check. The brokers log it as `client_id`.
    fn new(kafka: &KafkaArgs, client_id: &str, topics: Vec<WatchedTopic>) -> anyhow::Result<Self> {
        let observer = TopicObserver::new(kafka, client_id)
            .context("cannot create the client that checks topics; look at --kafka-set")?;
        let unchecked = CheckResult::Unchecked("topics not checked yet".into());
        Ok(Self {
            observer,
            checks: TopicChecks::new(topics, kafka.development, kafka.require_safe_topics),
            safety: TopicSafety(Arc::new(Mutex::new(unchecked))),
        })
    }

    /// Checks until `stop`.
    async fn run(mut self, stop: CancellationToken) {
        loop {
            let states = tokio::select! {
                () = stop.cancelled() => return,
                states = self.observe() => states,
            };
            let outcome = self.checks.take(states);
            self.publish(&outcome);
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(outcome.wait) => {}
            }
        }
    }

    async fn observe(&self) -> anyhow::Result<Vec<TopicState>> {
        let mut states = Vec::new();
        for topic in self.checks.topics() {
            states.push(self.observer.observe(&topic.name).await?);
        }
        Ok(states)
    }

    fn publish(&self, outcome: &Outcome) {
        if let Some(result) = &outcome.result {
            *self.safety.result() = result.clone();
        }
        outcome.lines.iter().for_each(log);
        if matches!(outcome.result, Some(CheckResult::Checked(_))) {
            self.export();
        }
    }

    fn export(&self) {
        for topic in self.checks.topics() {
            for setting in settings::ALL {
                let is_unsafe = flag(self.checks.is_unsafe(&topic.name, setting));
                let name = topic.name.clone();
                gauge!(TOPIC_UNSAFE, "topic" => name, "setting" => setting).set(is_unsafe);
            }
        }
    }
}

fn log(line: &LogLine) {
    match line {
        LogLine::Checked => info!("topics checked"),
        LogLine::Incomplete(reason) => warn!(reason, "cannot check topics, retrying"),
        LogLine::Unsafe(topic, finding) => {
            let (setting, reason) = (finding.setting, finding.message.as_str());
            match finding.level {
                Level::Refused => warn!(topic, setting, reason, "topic refused until it is fixed"),
                Level::Warned => warn!(topic, setting, reason, "topic is unsafe, still in use"),
            }
        }
        LogLine::Safe(topic, setting) => info!(topic, setting, "topic is safe again"),
    }
}
