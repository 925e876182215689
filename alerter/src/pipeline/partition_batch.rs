//! A stretch of one partition and what is written about it: alerts, notices, spans.
//!
//! Puts together; [`crate::pipeline::commit`] writes.

use std::time::SystemTime;

use ljwx_ledger::ledger::{Advance, Counts};
use ljwx_reading::{Reading, wall_text};
use ljwx_service::telemetry::trace::{self, NewSpan};
use metrics::counter;
use opentelemetry::trace::{SpanContext, SpanKind, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use tracing::info;

use crate::engine::episode::To;
use crate::engine::{Change, StateChanges};
use crate::metrics::{NOTIFICATIONS, TRANSITIONS};
use crate::mysql::alert_rows::{Changed, EpisodeKey, Opened};
use crate::mysql::suppressed_counts::{self, SILENCED, Suppressed};
use crate::notify::notice::{Notice, stale_text};
use crate::notify::outbox::NewNotification;
use crate::notify::recipients::Reach;
use crate::notify::wechat;
use crate::rules::rule::{Rule, Watch};
use crate::rules::template::Facts;
use crate::rules::verdict::{Measured, Verdict};

/// Offsets of one partition below this make the lower part of a reading's number.
const OFFSETS_MAX: i64 = 1 << 40;

/// What follows from a stretch of one partition.
#[derive(Debug)]
pub struct Stretch {
    /// Where it begins and ends.
    pub advance: Advance,
    /// State to be written.
    pub state: StateChanges,
    /// Alerts to be added.
    pub opened: Vec<Opened>,
    /// Alerts to be changed, after that.
    pub changed: Vec<Changed>,
    /// Notifications to be sent.
    pub notifications: Vec<NewNotification>,
    /// Notifications that are not sent, to be counted.
    pub suppressed: Suppressed,
}

impl Stretch {
    /// A stretch of `partition` under `epoch`, which moves nothing yet.
    pub fn new(partition: i32, epoch: i64, from: i64) -> Self {
        let advance = Advance {
            partition,
            epoch,
            from,
            to: from,
            redis_offset: None,
            counts: Counts::default(),
        };
        Self {
            advance,
            state: StateChanges::default(),
            opened: Vec::new(),
            changed: Vec::new(),
            notifications: Vec::new(),
            suppressed: Suppressed::default(),
        }
    }

    /// Accounts for one delivery, and for the offsets before it that hold no record.
    pub fn pass(&mut self, offset: i64) {
        self.advance.counts.skipped_gap += offset - self.advance.to;
        self.advance.counts.processed += 1;
        self.advance.to = offset + 1;
    }

    /// Whether there is nothing to write, not even a move.
    pub fn is_empty(&self) -> bool {
        self.advance.from == self.advance.to
            && self.state == StateChanges::default()
            && self.opened.is_empty()
            && self.changed.is_empty()
    }

    /// Adds what follows from a change; an absence has no reading for its cause.
    pub fn add(
        &mut self,
        change: &Change,
        rule: &Rule,
        cause: &Cause<'_>,
        reach: &Reach,
        named: &Named,
    ) {
        let wearer = named.wearer.as_deref();
        let transition = change.transition;
        let key = change.key();
        let Some((measured, bound)) = seen(&change.verdict) else { return };
        let facts = Facts {
            device_sn: change.device_sn.as_str(),
            user_name: wearer,
            customer_id: change.ids.customer_id.unwrap_or_default(),
            measured,
            bound,
            thresholds: rule.thresholds(),
            severity: transition.severity,
            wall: change.at.wall,
            lasted_ms: change.at.ms - transition.opened_at,
        };
        let text = match transition.to {
            To::Stale => stale_text((measured.value * 1000.0) as i64),
            _ => rule.message.render(&facts),
        };
        let wall = wall_text(change.at.wall);
        match transition.to {
            To::Opened => {
                let vitals = cause.reading.map(Reading::vitals);
                self.opened.push(Opened {
                    key: key.clone(),
                    rule_id: change.rule_id,
                    alert_type: rule.alert_type().to_owned(),
                    device_sn: change.device_sn.clone(),
                    ids: change.ids,
                    measured,
                    text: text.clone(),
                    severity: transition.severity,
                    occur_at: wall,
                    health_id: cause
                        .reading
                        .map(|_| i64::from(self.advance.partition) * OFFSETS_MAX + cause.offset),
                    place: vitals.map_or([None; 3], |vitals| {
                        [vitals.longitude, vitals.latitude, vitals.altitude]
                    }),
                });
            }
            To::Escalated => self.changed.push(Changed::Severity(key.clone(), transition.severity)),
            To::Resolved => self.changed.push(Changed::Resolved(key.clone(), wall)),
            To::Stale => self.changed.push(Changed::Stale(key.clone())),
            To::Notified | To::Superseded => {}
        }
        let notice = Notice {
            to: transition.to,
            severity: transition.severity,
            flapping: transition.flapping,
            sign: rule.named_sign(measured),
            // What a stale episode has measured is the silence, and no value of its sign.
            value: (transition.to != To::Stale).then_some(measured.value),
            // Of several conditions, the one that decided need not be the one the value belongs to.
            bound: bound.filter(|_| matches!(rule.watch, Watch::Range(_))),
            eased: change.before.open().is_some_and(|open| open.severity > transition.severity),
            device_sn: change.device_sn.as_str().to_owned(),
            user: wearer.unwrap_or(change.device_sn.as_str()).to_owned(),
            ward: named.ward.clone(),
            wall: change.at.wall,
            text,
            delayed: false,
            repeat: false,
            digest_of: None,
        };
        let traceparent = cause.span(change);
        let trace_id = traceparent.as_deref().and_then(trace::id_in);
        counter!(TRANSITIONS, "to" => transition.to.as_str()).increment(1);
        info!(
            rule.id = change.rule_id,
            device.id = %change.device_sn,
            alert.to = transition.to.as_str(),
            alert.severity = transition.severity.as_str(),
            alert.notify = transition.notify,
            alert.episode_key = key.as_str(),
            trace_id,
            "alert"
        );
        self.notify(change, &key, &notice, traceparent, reach);
    }

    fn notify(
        &mut self,
        change: &Change,
        key: &EpisodeKey,
        notice: &Notice,
        traceparent: Option<String>,
        reach: &Reach,
    ) {
        if !change.transition.notify {
            return;
        }
        let (accounts, addresses) = match reach {
            Reach::Through(accounts, addresses) => (accounts, addresses),
            Reach::Nobody(SILENCED) => {
                counter!(NOTIFICATIONS, "outcome" => SILENCED, "channel" => "none", "errcode" => "none").increment(1);
                return;
            }
            Reach::Nobody(reason) => {
                let (outcome, channel) = ("unreachable", "none");
                counter!(NOTIFICATIONS, "outcome" => outcome, "channel" => channel, "errcode" => *reason)
                    .increment(1);
                return;
            }
        };
        for address in addresses.iter() {
            let recipient = address.to_string();
            let id = key.client_msg_id(change.transition.seq, &recipient);
            // The watch's message is a row, made when its turn comes.
            let payload = wechat::request(accounts, address, &id, notice).unwrap_or_default();
            self.notifications.push(NewNotification {
                key: key.clone(),
                transition_seq: change.transition.seq,
                to: change.transition.to,
                recipient,
                customer_id: change.ids.customer_id.unwrap_or_default(),
                notice: notice.clone(),
                payload,
                traceparent: traceparent.clone(),
            });
        }
    }

    /// Counts a change that people would hear of and do not.
    pub fn suppress(&mut self, change: &Change, reach: &Reach) {
        let nobody = match reach {
            Reach::Nobody(reason) => Some(*reason),
            Reach::Through(..) => None,
        };
        if let Some(reason) = suppressed_counts::reason(change.transition, nobody) {
            let day = change.at.wall.date();
            let customer_id = change.ids.customer_id.unwrap_or_default();
            self.suppressed.count(day, change.rule_id, customer_id, reason);
        }
    }

    /// Adds that an episode was closed because its rule changed.
    pub fn supersede(&mut self, change: &Change) {
        self.changed.push(Changed::Superseded(change.key()));
        counter!(TRANSITIONS, "to" => change.transition.to.as_str()).increment(1);
        info!(rule.id = change.rule_id, device.id = %change.device_sn, "alert closed, its rule changed");
    }
}

impl Change {
    /// The name of the episode.
    pub fn key(&self) -> EpisodeKey {
        EpisodeKey::new(self.rule_id, self.rule_version, &self.device_sn, self.transition.opened_at)
    }
}

/// Whose an alert is, in words that people know.
#[derive(Debug, Default)]
pub struct Named {
    /// Who wears the device.
    pub wearer: Option<String>,
    /// Their organisation.
    pub ward: Option<String>,
}

/// What caused a change: a delivery, or that none came.
#[derive(Debug)]
pub struct Cause<'a> {
    /// What the delivery says; `None`: a device was silent.
    pub reading: Option<&'a Reading>,
    /// Where it stands, or the next one will.
    pub partition: i32,
    /// See `partition`.
    pub offset: i64,
    /// The topic.
    pub topic: &'a str,
    /// The context it carries.
    pub context: Option<SpanContext>,
    /// When its judgement began.
    pub since: SystemTime,
}

impl Cause<'_> {
    /// A span for what the reading led to, under the reading's own; returns its context.
    fn span(&self, change: &Change) -> Option<String> {
        let mut span = NewSpan::new("alert_check", SpanKind::Consumer)
            .since(self.since)
            .with(vec![
                KeyValue::new("messaging.system", "kafka"),
                KeyValue::new("messaging.operation.name", "process"),
                KeyValue::new("messaging.operation.type", "process"),
                KeyValue::new("messaging.destination.name", self.topic.to_owned()),
                KeyValue::new("messaging.destination.partition.id", self.partition.to_string()),
                KeyValue::new("messaging.kafka.offset", self.offset),
                KeyValue::new("device.id", change.device_sn.as_str().to_owned()),
                KeyValue::new("rule.id", change.rule_id),
                KeyValue::new("alert.episode_key", change.key().as_str().to_owned()),
                KeyValue::new("alert.to", change.transition.to.as_str()),
                KeyValue::new("alert.severity", change.transition.severity.as_str()),
                KeyValue::new("alert.notify", change.transition.notify),
            ])
            // Somebody will ask for it.
            .recorded();
        if let Some(parent) = &self.context {
            span = span.under_remote(parent.clone());
        }
        let context: Context = span.start();
        let span = context.span();
        span.end();
        trace::traceparent(span.span_context())
    }
}

fn seen(verdict: &Verdict) -> Option<(Measured, Option<f64>)> {
    match verdict {
        Verdict::Absent => None,
        Verdict::Clear(measured) | Verdict::Between(measured) => Some((*measured, None)),
        Verdict::Breach { measured, bound, .. } => Some((*measured, Some(*bound))),
    }
}

#[cfg(test)]
#[path = "partition_batch_tests.rs"]
mod tests;
