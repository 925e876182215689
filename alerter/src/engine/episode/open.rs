//! An open episode: its severity, and what of it was notified or is owed.
//!
//! Pure. [`super::Episode`] decides when a breach comes to an open episode.

use serde::{Deserialize, Serialize};

use crate::engine::episode::notify_history::NotifyHistory;
use crate::engine::episode::owed::OwedNotification;
use crate::engine::episode::step_context::StepContext;
use crate::engine::episode::transition::{Transition, TransitionKind};
use crate::engine::routing::{OwedReason, Routed};
use crate::rules::policy::Policy;
use crate::rules::severity::Severity;
use crate::rules::verdict::Verdict;

/// An open episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenEpisode {
    /// Event time of the opening.
    pub opened_at: i64,
    /// Current severity.
    pub severity: Severity,
    /// Whether the episode has a notification.
    notified: bool,
    /// Steps of the escalation so far.
    steps: usize,
    /// Transitions so far, the opening included.
    transitions: u32,
    /// The notification that was due and reached no one. Boxed, because few episodes owe any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owed: Option<Box<OwedNotification>>,
}

impl OpenEpisode {
    /// Opens an episode.
    pub(super) fn opened(
        now: &StepContext<'_>,
        past: &mut NotifyHistory,
        verdict: &Verdict,
    ) -> (Self, Transition) {
        past.opens(now.policy, now.at);
        let mut open = Self {
            opened_at: now.at,
            severity: now.policy.severity,
            notified: false,
            steps: 0,
            transitions: 0,
            owed: None,
        };
        let routed = past.may_open(now.policy, now.at).then(|| now.routed());
        if let Some(routed) = routed {
            open.settle(routed, false, now, past, verdict);
        }
        let transition = open.transition(TransitionKind::Opened, past);
        (open, Transition { notify: routed == Some(Routed::Somebody), routed, ..transition })
    }

    /// Takes the steps of the escalation that are due, whether or not anyone can be notified.
    pub(super) fn escalate(
        &mut self,
        now: &StepContext<'_>,
        past: &mut NotifyHistory,
        verdict: &Verdict,
    ) -> Option<Transition> {
        let lasted = now.at - self.opened_at;
        let steps = now.policy.escalation.iter();
        let due = steps.take_while(|step| step.after_ms <= lasted).count();
        if due <= self.steps {
            return None;
        }
        // Several steps may fall due between two readings. The notification names the last step.
        self.steps = due;
        let before = std::mem::replace(&mut self.severity, now.policy.escalation[due - 1].to);
        let (rise, eased) = (self.severity > before, self.severity < before);
        let follow_up = self.notified && !rise;
        let routed = now.routed();
        self.settle(routed, rise, now, past, verdict);
        let transition = self.transition(TransitionKind::Escalated, past);
        let notify = routed == Routed::Somebody;
        Some(Transition { notify, routed: Some(routed), follow_up, eased, ..transition })
    }

    /// Whether a notification is due at a breach: one that is owed, the first after a cooldown, or a
    /// reminder.
    pub(super) fn is_due(&self, now: &StepContext<'_>, past: &NotifyHistory) -> bool {
        let StepContext { policy, at, .. } = *now;
        let repeat = policy.repeat_ms.is_some_and(|repeat| past.since_notified(at) >= repeat);
        self.owed.is_some() || (!self.notified || repeat) && past.may_notify(policy, at)
    }

    /// Tries to make a notification that is due. Only one that reaches someone is a transition.
    pub(super) fn notify(
        &mut self,
        now: &StepContext<'_>,
        past: &mut NotifyHistory,
        verdict: &Verdict,
    ) -> Option<Transition> {
        let routed = now.routed();
        match (routed, &mut self.owed) {
            (Routed::Somebody, _) => {}
            (Routed::NoChannel, owed) => {
                *owed = None;
                return None;
            }
            // A late breach was not tried, so it says nothing about the reason.
            (Routed::Nobody(OwedReason::Late), Some(_)) => return None,
            (Routed::Nobody(reason), Some(owed)) => {
                owed.reason = reason;
                return None;
            }
            (Routed::Nobody(reason), owed) => {
                *owed = OwedNotification::new(reason, now.at, verdict).map(Box::new);
                return None;
            }
        }
        let owed = self.owed.take();
        let owed = owed.as_deref();
        let follow_up = self.notified && !owed.is_some_and(|owed| owed.rise);
        let on_watch = owed.is_some_and(|owed| owed.on_watch);
        let delayed = owed.is_some_and(|owed| owed.is_delayed(now.at));
        self.notified = true;
        past.record_notification(now.at);
        let transition = self.transition(TransitionKind::Notified, past);
        let routed = Some(routed);
        Some(Transition { notify: true, routed, follow_up, on_watch, delayed, ..transition })
    }

    /// Settles whom an opening or an escalation reaches, before anything is scheduled by it.
    fn settle(
        &mut self,
        routed: Routed,
        rise: bool,
        now: &StepContext<'_>,
        past: &mut NotifyHistory,
        verdict: &Verdict,
    ) {
        match routed {
            Routed::Somebody => {
                self.notified = true;
                self.owed = None;
                past.record_notification(now.at);
            }
            Routed::NoChannel => self.owed = None,
            Routed::Nobody(reason) => {
                let owed = self.owed.take().map(|owed| *owed);
                let owed = owed.or_else(|| OwedNotification::new(reason, now.at, verdict));
                self.owed = owed.map(|owed| Box::new(owed.recorded(reason, rise)));
            }
        }
    }

    /// Ends the episode. The end is notified if the episode was, and flapping does not suppress it.
    pub(super) fn ended(mut self, to: TransitionKind, past: &mut NotifyHistory) -> Transition {
        let notify = self.notified && !past.is_muted_by_flapping();
        past.record_end(notify);
        Transition { notify, follow_up: true, ..self.transition(to, past) }
    }

    /// Returns the next transition, of which no one is notified.
    pub(super) fn transition(&mut self, to: TransitionKind, past: &NotifyHistory) -> Transition {
        let seq = self.transitions;
        self.transitions += 1;
        Transition {
            to,
            severity: self.severity,
            eased: false,
            notify: false,
            routed: None,
            follow_up: false,
            on_watch: false,
            delayed: false,
            opened_at: self.opened_at,
            seq,
            flapping: past.is_flapping(),
        }
    }

    /// Keeps the value of a verdict for a notification that is owed.
    pub(super) fn saw(&mut self, verdict: &Verdict) {
        if let Some(owed) = &mut self.owed {
            owed.saw(verdict);
        }
    }

    /// Returns what the episode owes.
    pub fn owed(&self) -> Option<&OwedNotification> {
        self.owed.as_deref()
    }

    pub(super) fn next_due(&self, policy: &Policy, past: &NotifyHistory) -> Option<i64> {
        let step = policy.escalation.get(self.steps).map(|step| self.opened_at + step.after_ms);
        if self.owed.is_some() {
            return step;
        }
        let repeat = policy.repeat_ms.map(|repeat| past.notified_or(self.opened_at) + repeat);
        let late = (!self.notified).then(|| past.cooldown_until(policy).unwrap_or(self.opened_at));
        [step, repeat, late].into_iter().flatten().min()
    }
}
