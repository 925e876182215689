//! The episode of one rule on one device: quiet, pending, firing, recovering, quiet.
//!
//! Pure: event time comes as an argument, in milliseconds, never older than before. The episode
//! does not know its recipients. [`Episode::undo_notification`] reverts a notification that reached no
//! recipient.

pub mod condition_state;
pub mod evaluate;
pub mod notify_history;
pub mod transition;
pub mod value_window;

use serde::{Deserialize, Serialize};

use crate::engine::episode::notify_history::NotifyHistory;
use crate::rules::policy::Policy;
use crate::rules::severity::Severity;
use crate::rules::verdict::Verdict;

pub use self::transition::{Transition, TransitionKind};

/// The phase of one rule on one device, and the history of its notifications.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    #[serde(default)]
    phase: Phase,
    #[serde(flatten)]
    past: NotifyHistory,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    #[default]
    Quiet,
    /// Times of consecutive breaches, not enough yet.
    Pending(Vec<i64>),
    Firing(OpenEpisode),
    Recovering(OpenEpisode, u32),
}

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
}

impl Episode {
    /// Advances the episode by one verdict at event time `at`.
    pub fn step(self, policy: &Policy, verdict: &Verdict, at: i64) -> (Self, Option<Transition>) {
        let Self { phase, past } = self;
        match (phase, verdict) {
            (phase, Verdict::Absent) => (Self { phase, past }, None),
            (Phase::Quiet, Verdict::Breach { may_open, .. }) => {
                Self::run(policy, Vec::new(), past, at, *may_open)
            }
            (Phase::Pending(run), Verdict::Breach { may_open, .. }) => {
                Self::run(policy, run, past, at, *may_open)
            }
            (Phase::Firing(open) | Phase::Recovering(open, _), Verdict::Breach { .. }) => {
                Self::breach_again(policy, open, past, at)
            }
            (Phase::Quiet | Phase::Pending(_), Verdict::Clear(_) | Verdict::Between(_)) => {
                // Drop history that can no longer suppress a notification, so that the row can be
                // removed.
                let mut past = past;
                past.expire(policy, at);
                (Self { phase: Phase::Quiet, past }, None)
            }
            (Phase::Firing(open) | Phase::Recovering(open, _), Verdict::Between(_)) => {
                (Self { phase: Phase::Firing(open), past }, None)
            }
            (Phase::Firing(open), Verdict::Clear(_)) => Self::clear(policy, open, 1, past, at),
            (Phase::Recovering(open, clear), Verdict::Clear(_)) => {
                Self::clear(policy, open, clear + 1, past, at)
            }
        }
    }

    fn run(
        policy: &Policy,
        mut run: Vec<i64>,
        mut past: NotifyHistory,
        at: i64,
        may_open: bool,
    ) -> (Self, Option<Transition>) {
        run.push(at);
        run.retain(|breach| at - breach <= policy.window_ms);
        // Outside the effective hours a run continues without an opening. Only its last breaches
        // matter.
        let surplus = run.len().saturating_sub(policy.trend);
        run.drain(..surplus);
        if run.len() < policy.trend || !may_open {
            return (Self { phase: Phase::Pending(run), past }, None);
        }
        past.opens(policy, at);
        let notify = past.may_notify(policy, at);
        if notify {
            past.record_notification(at);
        }
        let severity = policy.severity;
        let mut open =
            OpenEpisode { opened_at: at, severity, notified: notify, steps: 0, transitions: 0 };
        let transition = open.transition(TransitionKind::Opened, notify, &past);
        (Self { phase: Phase::Firing(open), past }, Some(transition))
    }

    /// Continues an open episode by one more breach: escalates, notifies late, or reminds.
    fn breach_again(
        policy: &Policy,
        mut open: OpenEpisode,
        mut past: NotifyHistory,
        at: i64,
    ) -> (Self, Option<Transition>) {
        past.end_flapping(policy, at);
        let lasted = at - open.opened_at;
        let due = policy.escalation.iter().take_while(|step| step.after_ms <= lasted).count();
        let to = if due > open.steps {
            // Several steps may fall due between two readings. The notification names the last
            // step.
            open.steps = due;
            open.severity = policy.escalation[due - 1].to;
            Some(TransitionKind::Escalated)
        } else {
            let repeat = policy.repeat_ms.is_some_and(|repeat| past.since_notified(at) >= repeat);
            let late = !open.notified;
            ((late || repeat) && past.may_notify(policy, at)).then_some(TransitionKind::Notified)
        };
        if to.is_some() {
            open.notified = true;
            past.record_notification(at);
        }
        let transition = to.map(|to| open.transition(to, true, &past));
        (Self { phase: Phase::Firing(open), past }, transition)
    }

    fn clear(
        policy: &Policy,
        mut open: OpenEpisode,
        clear: u32,
        mut past: NotifyHistory,
        at: i64,
    ) -> (Self, Option<Transition>) {
        if clear < policy.clear_after {
            return (Self { phase: Phase::Recovering(open, clear), past }, None);
        }
        // While the rule is flapping, an end is notified no more than an opening. Flapping may have
        // ended by now.
        past.end_flapping(policy, at);
        let notified = open.notified && !past.is_muted_by_flapping();
        let transition = open.transition(TransitionKind::Resolved, notified, &past);
        (Self { phase: Phase::Quiet, past }, Some(transition))
    }

    /// Closes the episode without a notification, because the rule changed. The cooldown continues.
    pub fn supersede(self) -> (Self, Option<Transition>) {
        let transition = match self.phase {
            Phase::Firing(mut open) | Phase::Recovering(mut open, _) => {
                Some(open.transition(TransitionKind::Superseded, false, &self.past))
            }
            Phase::Quiet | Phase::Pending(_) => None,
        };
        (Self { phase: Phase::Quiet, past: self.past }, transition)
    }

    /// Closes an open episode because its device has fallen silent. Notifies if the episode has a
    /// notification and flapping does not suppress it.
    pub fn close_stale(self) -> (Self, Option<Transition>) {
        let Self { phase, past } = self;
        let transition = match phase {
            Phase::Firing(mut open) | Phase::Recovering(mut open, _) => {
                let notified = open.notified && !past.is_muted_by_flapping();
                Some(open.transition(TransitionKind::Stale, notified, &past))
            }
            Phase::Quiet | Phase::Pending(_) => None,
        };
        (Self { phase: Phase::Quiet, past }, transition)
    }

    /// Returns when an open episode that stays in breach must be checked again. The time is its
    /// next step of escalation, its next reminder, or the end of the cooldown that suppresses its
    /// first notification. Without a cooldown, the first notification is due since the opening.
    pub fn next_due(&self, policy: &Policy) -> Option<i64> {
        let open = self.open()?;
        let step = policy.escalation.get(open.steps).map(|step| open.opened_at + step.after_ms);
        let repeat = policy.repeat_ms.map(|repeat| self.past.notified_or(open.opened_at) + repeat);
        let late =
            (!open.notified).then(|| self.past.cooldown_until(policy).unwrap_or(open.opened_at));
        [step, repeat, late].into_iter().flatten().min()
    }

    /// Reverts the notification of the step from `before` to here, because it reached no recipient.
    #[must_use]
    pub fn undo_notification(mut self, before: &Self, to: TransitionKind) -> Self {
        self.past.undo_notification(&before.past);
        let notified = before.open().is_some_and(|open| open.notified);
        if let Phase::Firing(open) | Phase::Recovering(open, _) = &mut self.phase {
            open.notified = notified;
            if to == TransitionKind::Notified {
                // The transition is not recorded, so its number is free again.
                open.transitions -= 1;
            }
        }
        self
    }

    /// Returns the open episode, if any.
    pub fn open(&self) -> Option<&OpenEpisode> {
        match &self.phase {
            Phase::Firing(open) | Phase::Recovering(open, _) => Some(open),
            Phase::Quiet | Phase::Pending(_) => None,
        }
    }

    /// Whether dropping the episode loses nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl OpenEpisode {
    /// Whether the episode has a notification.
    pub fn is_notified(&self) -> bool {
        self.notified
    }

    fn transition(&mut self, to: TransitionKind, notify: bool, past: &NotifyHistory) -> Transition {
        let seq = self.transitions;
        self.transitions += 1;
        let flapping = past.is_flapping();
        Transition { to, severity: self.severity, notify, opened_at: self.opened_at, seq, flapping }
    }
}

#[cfg(test)]
mod tests;
