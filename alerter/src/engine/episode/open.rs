//! An open episode: its severity, and what of it was notified or is owed.
//!
//! Pure. [`super::Episode`] decides when a breach comes to an open episode.

use serde::{Deserialize, Serialize};

use crate::engine::episode::notify_history::NotifyHistory;
use crate::engine::episode::transition::{StepContext, Transition, TransitionKind};
use crate::engine::routing::{OwedReason, Routed, is_late};
use crate::rules::{Policy, Severity, Verdict};

/// An open episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenEpisode {
    /// Event time of the opening.
    pub opened_at: i64,
    /// Current severity.
    pub severity: Severity,
    /// Whether somebody was notified of the episode.
    pub notified: bool,
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
    pub(super) fn opened(now: &StepContext<'_>, past: &mut NotifyHistory) -> (Self, Transition) {
        past.opens(now.policy, now.at);
        let mut open = Self {
            opened_at: now.at,
            severity: now.policy.severity,
            notified: false,
            steps: 0,
            transitions: 0,
            owed: None,
        };
        let due = past.may_open(now.policy, now.at);
        let inhibited = due && (now.inhibited)(open.severity);
        let routed = (due && !inhibited).then(|| open.settle(false, now, past));
        let transition = open.transition(TransitionKind::Opened, routed, past);
        (open, Transition { inhibited, ..transition })
    }

    /// Takes the steps of the escalation that are due, whether or not anyone can be notified.
    pub(super) fn escalate(
        &mut self,
        now: &StepContext<'_>,
        past: &mut NotifyHistory,
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
        if let Some(owed) = &mut self.owed {
            // The watch has no message of this step yet.
            owed.on_watch = false;
        }
        let inhibited = (now.inhibited)(self.severity);
        let routed = (!inhibited).then(|| self.settle(rise, now, past));
        let transition = self.transition(TransitionKind::Escalated, routed, past);
        Some(Transition { follow_up, eased, inhibited, ..transition })
    }

    /// Whether a notification is due at a breach: one that is owed, the first after a cooldown, or a
    /// reminder. None is while a rule above this one inhibits it.
    pub(super) fn is_due(&self, now: &StepContext<'_>, past: &NotifyHistory) -> bool {
        let StepContext { policy, at, .. } = *now;
        let repeat = policy.repeat_ms.is_some_and(|repeat| past.since_notified(at) >= repeat);
        let due = self.owed.is_some() || (!self.notified || repeat) && past.may_notify(policy, at);
        due && !(now.inhibited)(self.severity)
    }

    /// Whether the first notification of the episode is due once the rule above this one has ended.
    pub(super) fn is_held_back(&self, now: &StepContext<'_>, past: &NotifyHistory) -> bool {
        !self.notified && self.owed.is_none() && past.may_notify(now.policy, now.at)
    }

    /// Tries to make a notification that is due. Only one that reaches someone is a transition, and
    /// the first try that finds no one: the watch gets its message then.
    pub(super) fn notify(
        &mut self,
        now: &StepContext<'_>,
        past: &mut NotifyHistory,
    ) -> Option<Transition> {
        let (was_notified, owed) = (self.notified, self.owed.as_deref().copied());
        let routed = self.settle(false, now, past);
        let on_watch = owed.is_some_and(|owed| owed.on_watch);
        let is_recorded = match routed {
            Routed::Somebody => true,
            Routed::Nobody(reason) => reason.is_unreachable() && !on_watch,
            Routed::NoChannel => false,
        };
        if !is_recorded {
            return None;
        }
        let follow_up = was_notified && !owed.is_some_and(|owed| owed.rise);
        let delayed = owed.is_some_and(|owed| is_late(owed.since, now.wall));
        let transition = self.transition(TransitionKind::Notified, Some(routed), past);
        Some(Transition { follow_up, on_watch, delayed, ..transition })
    }

    /// Settles whom a notification that is due reaches, before anything is scheduled by it.
    fn settle(&mut self, rise: bool, now: &StepContext<'_>, past: &mut NotifyHistory) -> Routed {
        let routed = (now.route)();
        if let Routed::Nobody(reason) = routed {
            let owed = || Box::new(OwedNotification::new(reason, now));
            self.owed.get_or_insert_with(owed).tried(reason, rise);
            return routed;
        }
        self.owed = None;
        if routed == Routed::Somebody {
            self.notified = true;
            past.record_notification(now.at);
        }
        routed
    }

    /// Ends the episode. The end is notified if the episode was, and flapping does not suppress it.
    pub(super) fn ended(mut self, to: TransitionKind, past: &mut NotifyHistory) -> Transition {
        let notify = self.notified && !past.is_muted_by_flapping();
        past.end_notified = notify;
        Transition { notify, follow_up: true, ..self.transition(to, None, past) }
    }

    /// Returns the next transition.
    pub(super) fn transition(
        &mut self,
        to: TransitionKind,
        routed: Option<Routed>,
        past: &NotifyHistory,
    ) -> Transition {
        let seq = self.transitions;
        self.transitions += 1;
        Transition {
            to,
            severity: self.severity,
            eased: false,
            notify: routed == Some(Routed::Somebody),
            routed,
            follow_up: false,
            on_watch: false,
            delayed: false,
            inhibited: false,
            goes_on: None,
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
        let (notified_at, opened_at) = (past.notified_at, self.opened_at);
        let repeat = policy.repeat_ms.map(|repeat| notified_at.unwrap_or(opened_at) + repeat);
        let late = notified_at.map_or(opened_at, |notified_at| notified_at + policy.cooldown_ms);
        let late = Some(late).filter(|_| !self.notified);
        [step, repeat, late].into_iter().flatten().min()
    }
}

/// What an open episode owes: a notification that was due and reached no one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OwedNotification {
    /// Why the last try reached no one.
    pub reason: OwedReason,
    /// Event time at which the notification became due.
    since: i64,
    /// Whether a rise of the severity is owed, which concerns more people than a reminder.
    rise: bool,
    /// Whether the watch has the message, though the watch does not count.
    on_watch: bool,
    /// The latest verdict that had a value.
    pub verdict: Verdict,
}

impl OwedNotification {
    /// A notification that became due by a breach.
    fn new(reason: OwedReason, now: &StepContext<'_>) -> Self {
        Self { reason, since: now.at, rise: false, on_watch: false, verdict: now.verdict }
    }

    /// Takes over a try that reached no one. The watch has its message if recipients were looked
    /// for.
    fn tried(&mut self, reason: OwedReason, rise: bool) {
        // A late breach was not tried, so it says nothing about the reason.
        if reason != OwedReason::Late {
            self.reason = reason;
        }
        self.rise |= rise;
        self.on_watch |= reason.is_unreachable();
    }

    /// Keeps a later verdict.
    fn saw(&mut self, verdict: &Verdict) {
        if *verdict != Verdict::Absent {
            self.verdict = *verdict;
        }
    }
}
