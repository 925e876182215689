//! Builds the rows of a transition: the alert's row, the notice, the log line, the notifications.
//! Starts its span, under the span of the reading that caused it.
//!
//! [`crate::pipeline::commit`] writes the rows, and [`ljwx_service::telemetry`] exports spans. The
//! recipients are known by then.

use std::time::SystemTime;

use jiff::SignedDuration;
use ljwx_reading::{Reading, wall_text};
use ljwx_service::telemetry::trace::{self, NewSpan};
use metrics::counter;
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanContext, SpanKind, TraceContextExt};
use tracing::info;

use crate::engine::episode::{EpisodeKey, TransitionKind};
use crate::engine::routing::Routed;
use crate::engine::{Change, Silence};
use crate::metrics::TRANSITIONS;
use crate::mysql::alert_rows::{AlertChange, CLOSED, NewAlert, STALE};
use crate::notify::notice::{CLOSED_TEXT, Notice, Routing, stale_text};
use crate::notify::outbox::{NewNotification, Whom};
use crate::notify::recipients::choice::Choice;
use crate::notify::recipients::contacts::Contacts;
use crate::notify::wechat;
use crate::pipeline::partition_batch::PartitionBatch;
use crate::rules::template::TemplateValues;
use crate::rules::{Measurement, Rule, Verdict};

/// Number of offsets of a partition. A reading's source is partition × this number + offset.
const OFFSETS_MAX: i64 = 1 << 40;

/// The cause of a change: a delivery, or a missing one.
#[derive(Debug)]
pub struct Cause<'a> {
    /// The delivery's reading. `None`: the device was silent.
    pub reading: Option<&'a Reading>,
    /// The offset of the delivery, or of the next one.
    pub offset: i64,
    /// The topic of the delivery.
    pub topic: &'a str,
    /// The trace context of the delivery.
    pub context: Option<SpanContext>,
    /// The time at which its evaluation began.
    pub since: SystemTime,
}

impl Cause<'_> {
    /// Adds a span for the change under the reading's own span, and returns its context. `partition`
    /// is that of the delivery.
    fn span(&self, change: &Change, partition: i32) -> Option<String> {
        let mut span = NewSpan::new("alert_check", SpanKind::Consumer)
            .since(self.since)
            .with(vec![
                KeyValue::new("messaging.system", "kafka"),
                KeyValue::new("messaging.operation.name", "process"),
                KeyValue::new("messaging.operation.type", "process"),
                KeyValue::new("messaging.destination.name", self.topic.to_owned()),
                KeyValue::new("messaging.destination.partition.id", partition.to_string()),
                KeyValue::new("messaging.kafka.offset", self.offset),
                KeyValue::new("device.id", change.device_sn.as_str().to_owned()),
                KeyValue::new("rule.id", change.rule_id),
                KeyValue::new("alert.episode_key", change.key().as_str().to_owned()),
                KeyValue::new("alert.transition", change.transition.to.as_str()),
                KeyValue::new("alert.severity", change.transition.severity.as_str()),
                KeyValue::new("alert.notified", change.transition.notify),
            ])
            // Always sampled: an alert is worth a trace.
            .recorded();
        if let Some(parent) = &self.context {
            span = span.under_remote(parent.clone());
        }
        let context = span.start();
        let span = context.span();
        span.end();
        trace::traceparent(span.span_context())
    }
}

impl PartitionBatch {
    /// Adds the rows of a change. A NO_DATA alert has no reading as its cause.
    pub fn add(
        &mut self,
        change: &Change,
        rule: &Rule,
        cause: &Cause<'_>,
        contacts: &Contacts,
        choice: &Choice,
    ) {
        let Some((measured, bound)) = seen(&change.verdict) else { return };
        let notice = notice(change, rule, (measured, bound), contacts, choice.watch_counts);
        let (key, transition) = (change.key(), change.transition);
        let changed = match transition.to {
            TransitionKind::Opened => {
                let vitals = cause.reading.map(Reading::vitals);
                let number = i64::from(self.advance.partition) * OFFSETS_MAX + cause.offset;
                self.opened.push(NewAlert {
                    key: key.clone(),
                    opening: change.clone(),
                    alert_type: rule.alert_type().to_owned(),
                    measured,
                    text: notice.text.clone(),
                    health_id: vitals.map(|_| number),
                    place: vitals.map_or([None; 3], |vitals| {
                        [vitals.longitude, vitals.latitude, vitals.altitude]
                    }),
                });
                None
            }
            TransitionKind::Escalated => Some(AlertChange::Severity(transition.severity)),
            TransitionKind::Resolved => Some(AlertChange::Resolved(wall_text(change.at.wall))),
            TransitionKind::Stale => Some(AlertChange::Closed(STALE)),
            TransitionKind::Closed => Some(AlertChange::Closed(CLOSED)),
            TransitionKind::Notified | TransitionKind::Superseded => None,
        };
        self.changed.extend(changed.map(|changed| (key.clone(), changed)));
        let traceparent = cause.span(change, self.advance.partition);
        log_alert(change, &key, traceparent.as_deref());
        let people = (contacts, choice);
        self.queue_notifications(change, &key, &notice, traceparent.as_deref(), people);
    }

    /// Adds the notifications of a change. Those who were notified of the episode follow it to its
    /// end, also if a rise reaches nobody else and stays owed. Openings, first notifications and rises
    /// also go to the present recipients. So do reminders if nobody was notified, and the watch's
    /// message of what reaches no one.
    fn queue_notifications(
        &mut self,
        change: &Change,
        key: &EpisodeKey,
        notice: &Notice,
        traceparent: Option<&str>,
        (contacts, choice): (&Contacts, &Choice),
    ) {
        let transition = change.transition;
        let follow_up = transition.notify && transition.follow_up;
        let mut queue = |whom| {
            self.notifications.push(NewNotification {
                key: key.clone(),
                transition_seq: transition.seq,
                whom,
                follow_up,
                event_ms: change.at.ms,
                customer_id: change.ids.customer_id.unwrap_or_default(),
                notice: notice.clone(),
                traceparent: traceparent.map(str::to_owned),
            });
        };
        let owed_rise = transition.to == TransitionKind::Escalated
            && !transition.follow_up
            && matches!(transition.routed, Some(Routed::Nobody(reason)) if reason.is_unreachable());
        if transition.notify && transition.to != TransitionKind::Opened || owed_rise {
            queue(Whom::Notified { on_watch: !transition.on_watch });
        }
        if follow_up && transition.routed != Some(Routed::Somebody) {
            return;
        }
        for recipient in &choice.recipients {
            let id = key.client_msg_id(transition.seq, &recipient.address.to_string());
            // A message to the watch is a row, which the sender builds.
            let account = contacts.accounts().of(recipient.address.channel);
            let request =
                account.map(|to| wechat::request(to, &recipient.address.name, &id, notice));
            queue(Whom::Recipient(recipient.clone(), request.unwrap_or_default()));
        }
    }
}

/// Builds the notice of the change.
fn notice(
    change: &Change,
    rule: &Rule,
    (measured, bound): (Measurement, Option<f64>),
    contacts: &Contacts,
    watch_counts: bool,
) -> Notice {
    let wearer = contacts.wearer.as_deref();
    let transition = change.transition;
    let is_absence = rule.is_no_data();
    let silence = if is_absence { change.silence } else { Silence::default() };
    let label = measured.vital.label();
    let facts = TemplateValues {
        device_sn: change.device_sn.as_str(),
        user_name: wearer,
        customer_id: change.ids.customer_id.unwrap_or_default(),
        sign: if silence.is_silent() { label } else { silence.label() },
        measured,
        bound,
        thresholds: rule.thresholds(),
        severity: transition.severity,
        wall: change.at.wall,
        lasted_ms: change.at.ms - transition.opened_at,
    };
    // The value of a stale episode is the silence, and a closed one has none.
    let (text, value) = match transition.to {
        TransitionKind::Stale => (stale_text((measured.value * 1000.0) as i64), None),
        TransitionKind::Closed => (CLOSED_TEXT.to_owned(), None),
        _ => (rule.message.render(&facts), Some(measured.value)),
    };
    // People were not notified of the opening.
    let is_first = transition.to == TransitionKind::Notified && !transition.follow_up;
    let lasted = SignedDuration::from_millis(facts.lasted_ms);
    let vital = rule.named_vital(measured);
    Notice {
        flapping: transition.flapping,
        value,
        // Of several conditions, the deciding one need not be the one to which the value belongs.
        bound: bound.filter(|_| rule.range().is_some()),
        eased: transition.eased,
        goes_on: transition.goes_on,
        silence,
        device_sn: change.device_sn.as_str().to_owned(),
        user: wearer.unwrap_or(change.device_sn.as_str()).to_owned(),
        ward: contacts.ward.as_deref().map(str::to_owned),
        text,
        delayed: transition.delayed,
        since: is_first.then(|| change.at.wall.saturating_sub(lasted)),
        routing: Some(Routing {
            user_id: change.ids.user_id,
            org_id: change.ids.org_id,
            channels: rule.channels,
            watch_counts,
        }),
        ..Notice::new(transition.to, transition.severity, vital, change.at.wall)
    }
}

fn log_alert(change: &Change, key: &EpisodeKey, traceparent: Option<&str>) {
    let transition = change.transition;
    counter!(TRANSITIONS, "transition" => transition.to.as_str()).increment(1);
    info!(
        rule.id = change.rule_id,
        device.id = %change.device_sn,
        alert.transition = transition.to.as_str(),
        alert.severity = transition.severity.as_str(),
        alert.notified = transition.notify,
        alert.episode_key = key.as_str(),
        trace_id = traceparent.and_then(trace::id_in),
        "alert"
    );
}

/// Returns the value of a verdict, and the threshold that it exceeds or falls below.
fn seen(verdict: &Verdict) -> Option<(Measurement, Option<f64>)> {
    match *verdict {
        Verdict::Absent => None,
        Verdict::Clear(measured) | Verdict::Between(measured) => Some((measured, None)),
        Verdict::Breach { measured, bound, .. } => Some((measured, Some(bound))),
    }
}

#[cfg(test)]
#[path = "transition_rows_tests.rs"]
mod tests;
