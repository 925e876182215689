//! Builds the rows of a transition: the alert's row, the notice, the log line, the notifications.
//!
//! [`crate::pipeline::commit`] writes the rows. The recipients are known by then.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use ljwx_reading::{Reading, wall_text};
use ljwx_service::telemetry::trace;
use metrics::counter;
use tracing::info;

use crate::engine::episode::TransitionKind;
use crate::engine::routing::Routed;
use crate::engine::{Change, Silence};
use crate::metrics::TRANSITIONS;
use crate::mysql::alert_rows::{AlertChange, EpisodeKey, NewAlert};
use crate::notify::notice::{CLOSED_TEXT, Notice, Routing, stale_text};
use crate::notify::outbox::{NewNotification, Whom};
use crate::notify::recipients::choice::Choice;
use crate::notify::recipients::contacts::Contacts;
use crate::notify::wechat;
use crate::pipeline::alert_span::Cause;
use crate::pipeline::partition_batch::PartitionBatch;
use crate::rules::rule::{Rule, Trigger};
use crate::rules::template::TemplateValues;
use crate::rules::verdict::{Measurement, Verdict};

/// Number of offsets of a partition. A reading's source is partition × this number + offset.
const OFFSETS_MAX: i64 = 1 << 40;

/// The measurement of a transition: a value, and the threshold that it exceeds or falls below.
#[derive(Debug, Clone, Copy)]
struct Seen {
    measured: Measurement,
    bound: Option<f64>,
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
        let Some(seen) = seen(&change.verdict) else { return };
        let notice = notice(change, rule, seen, contacts, choice.watch_counts);
        let key = change.key();
        self.alert_row(change, &key, rule, cause, seen.measured, &notice.text);
        let traceparent = cause.span(change);
        log_alert(change, &key, traceparent.as_deref());
        let people = (contacts, choice);
        self.queue_notifications(change, &key, &notice, traceparent.as_deref(), people);
    }

    /// Adds the alert's row, or the change of the row.
    fn alert_row(
        &mut self,
        change: &Change,
        key: &EpisodeKey,
        rule: &Rule,
        cause: &Cause<'_>,
        measured: Measurement,
        text: &str,
    ) {
        let (transition, key) = (change.transition, key.clone());
        let wall = wall_text(change.at.wall);
        match transition.to {
            TransitionKind::Opened => {
                let vitals = cause.reading.map(Reading::vitals);
                self.opened.push(NewAlert {
                    key,
                    rule_id: change.rule_id,
                    alert_type: rule.alert_type().to_owned(),
                    device_sn: change.device_sn.clone(),
                    ids: change.ids,
                    measured,
                    text: text.to_owned(),
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
            TransitionKind::Escalated => {
                self.changed.push(AlertChange::Severity(key, transition.severity))
            }
            TransitionKind::Resolved => self.changed.push(AlertChange::Resolved(key, wall)),
            TransitionKind::Stale => self.changed.push(AlertChange::Stale(key)),
            TransitionKind::Closed => self.changed.push(AlertChange::Closed(key)),
            TransitionKind::Notified | TransitionKind::Superseded => {}
        }
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
    Seen { measured, bound }: Seen,
    contacts: &Contacts,
    watch_counts: bool,
) -> Notice {
    let wearer = contacts.wearer.as_deref();
    let transition = change.transition;
    let is_absence = matches!(rule.trigger, Trigger::NoData(_));
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
    let text = match transition.to {
        TransitionKind::Stale => stale_text((measured.value * 1000.0) as i64),
        TransitionKind::Closed => CLOSED_TEXT.to_owned(),
        _ => rule.message.render(&facts),
    };
    // The value of a stale episode is the silence, and a closed one has none.
    let has_value = !matches!(transition.to, TransitionKind::Stale | TransitionKind::Closed);
    // People were not notified of the opening.
    let is_first = transition.to == TransitionKind::Notified && !transition.follow_up;
    let lasted = SignedDuration::from_millis(facts.lasted_ms);
    Notice {
        transition: transition.to,
        severity: transition.severity,
        flapping: transition.flapping,
        vital: rule.named_vital(measured),
        value: has_value.then_some(measured.value),
        // Of several conditions, the deciding one need not be the one to which the value belongs.
        bound: bound.filter(|_| matches!(rule.trigger, Trigger::Range(_))),
        eased: transition.eased,
        goes_on: transition.goes_on,
        silence,
        device_sn: change.device_sn.as_str().to_owned(),
        user: wearer.unwrap_or(change.device_sn.as_str()).to_owned(),
        ward: contacts.ward.as_deref().map(str::to_owned),
        wall: change.at.wall,
        text,
        delayed: transition.delayed,
        repeat: false,
        test: false,
        since: is_first.then(|| change.at.wall.saturating_sub(lasted)),
        plain_fields: BTreeSet::new(),
        digest_of: None,
        beside: Vec::new(),
        routing: Some(Routing {
            user_id: change.ids.user_id,
            org_id: change.ids.org_id,
            channels: rule.channels,
            watch_counts,
        }),
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

fn seen(verdict: &Verdict) -> Option<Seen> {
    match *verdict {
        Verdict::Absent => None,
        Verdict::Clear(measured) | Verdict::Between(measured) => {
            Some(Seen { measured, bound: None })
        }
        Verdict::Breach { measured, bound, .. } => Some(Seen { measured, bound: Some(bound) }),
    }
}

#[cfg(test)]
#[path = "transition_rows_tests.rs"]
mod tests;
