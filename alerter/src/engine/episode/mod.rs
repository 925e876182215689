//! The episode of one rule on one device: quiet, pending, firing, recovering, quiet.
//!
//! Pure: event time comes as an argument, in milliseconds. Readings never bring an older time than
//! before. The episode does not know its recipients: it asks whom a notification can reach before
//! the notification counts, and owes what reaches no one.

pub mod condition_state;
pub mod episode_key;
pub mod evaluate;
pub mod notify_history;
mod open;
pub mod pressure_state;
pub mod transition;
pub mod value_window;

use serde::{Deserialize, Serialize};

use crate::engine::episode::notify_history::NotifyHistory;
use crate::engine::routing::is_late;
use crate::rules::{Policy, Verdict};

pub use self::episode_key::EpisodeKey;
pub use self::open::OpenEpisode;
pub use self::transition::{StepContext, Transition, TransitionKind};

/// The phase of one rule on one device, and the history of its notifications.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    #[serde(default)]
    phase: Phase,
    #[serde(flatten)]
    past: NotifyHistory,
}

/// An episode after a step, and the transition that the step has made.
pub type Stepped = (Episode, Option<Transition>);

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

impl Phase {
    fn open_mut(&mut self) -> Option<&mut OpenEpisode> {
        match self {
            Self::Firing(open) | Self::Recovering(open, _) => Some(open),
            Self::Quiet | Self::Pending(_) => None,
        }
    }
}

impl Episode {
    /// Advances the episode by one verdict.
    pub fn step(mut self, now: &StepContext<'_>) -> Stepped {
        if let Some(open) = self.phase.open_mut() {
            open.saw(&now.verdict);
        }
        let Self { phase, mut past } = self;
        if now.verdict != Verdict::Absent {
            past.turn_back(now.at);
        }
        match (phase, now.verdict) {
            (phase, Verdict::Absent) => (Self { phase, past }, None),
            (Phase::Quiet, Verdict::Breach { .. }) => Self::run(now, Vec::new(), past),
            (Phase::Pending(run), Verdict::Breach { .. }) => Self::run(now, run, past),
            (Phase::Firing(open) | Phase::Recovering(open, _), Verdict::Breach { .. }) => {
                Self::breach_again(now, open, past)
            }
            (Phase::Quiet | Phase::Pending(_), Verdict::Clear(_) | Verdict::Between(_)) => {
                // Drop history that can no longer suppress a notification, so that the row can be
                // removed.
                past.expire(now.policy, now.at);
                (Self { phase: Phase::Quiet, past }, None)
            }
            (Phase::Firing(open) | Phase::Recovering(open, _), Verdict::Between(_)) => {
                (Self { phase: Phase::Firing(open), past }, None)
            }
            (Phase::Firing(open), Verdict::Clear(_)) => Self::clear(now, open, 1, past),
            (Phase::Recovering(open, clear), Verdict::Clear(_)) => {
                Self::clear(now, open, clear + 1, past)
            }
        }
    }

    fn run(now: &StepContext<'_>, mut run: Vec<i64>, mut past: NotifyHistory) -> Stepped {
        let StepContext { policy, at, verdict, .. } = *now;
        run.push(at);
        run.retain(|breach| at - breach <= policy.window_ms);
        // Outside the effective hours a run continues without an opening. Only its last breaches
        // matter.
        let surplus = run.len().saturating_sub(policy.trend);
        run.drain(..surplus);
        let may_open = matches!(verdict, Verdict::Breach { may_open: true, .. });
        if run.len() < policy.trend || !may_open {
            return (Self { phase: Phase::Pending(run), past }, None);
        }
        let (open, transition) = OpenEpisode::opened(now, &mut past);
        (Self { phase: Phase::Firing(open), past }, Some(transition))
    }

    /// Continues an open episode by one more breach: escalates, notifies late, or reminds.
    fn breach_again(
        now: &StepContext<'_>,
        mut open: OpenEpisode,
        mut past: NotifyHistory,
    ) -> Stepped {
        past.end_flapping(now.policy, now.at);
        let transition = match open.escalate(now, &mut past) {
            None if open.is_due(now, &past) => open.notify(now, &mut past),
            escalated => escalated,
        };
        (Self { phase: Phase::Firing(open), past }, transition)
    }

    fn clear(
        now: &StepContext<'_>,
        open: OpenEpisode,
        clear: u32,
        mut past: NotifyHistory,
    ) -> Stepped {
        if clear < now.policy.clear_after {
            return (Self { phase: Phase::Recovering(open, clear), past }, None);
        }
        // While the rule is flapping, an end is notified no more than an opening. Flapping may have
        // ended by now.
        past.end_flapping(now.policy, now.at);
        let transition = open.ended(TransitionKind::Resolved, &mut past);
        let transition = Transition { delayed: is_late(now.at, now.wall), ..transition };
        (Self { phase: Phase::Quiet, past }, Some(transition))
    }

    /// Tries to notify what an open episode owes, without a reading, unless it is inhibited.
    pub fn look(mut self, now: &StepContext<'_>) -> Stepped {
        let Self { phase, past } = &mut self;
        let open = phase.open_mut().filter(|open| open.owed().is_some());
        let open = open.filter(|open| !(now.inhibited)(open.severity));
        let transition = open.and_then(|open| open.notify(now, past));
        // The wall clock may be ahead of the next reading, so what it shows is not recorded.
        let flapping = past.is_flapping_at(now.policy, now.at);
        (self, transition.map(|transition| Transition { flapping, ..transition }))
    }

    /// Makes the first notification of an open episode whose rule was inhibited until now, if one is
    /// due. The reading need not breach the rule.
    pub fn step_down(mut self, now: &StepContext<'_>) -> Stepped {
        let Self { phase, past } = &mut self;
        past.end_flapping(now.policy, now.at);
        let open = phase.open_mut().filter(|open| open.is_held_back(now, past));
        let open = open.filter(|open| !(now.inhibited)(open.severity));
        let transition = open.and_then(|open| open.notify(now, past));
        (self, transition)
    }

    /// Closes an open episode for good. `notify`: its end is notified like that of any other.
    pub fn close(self, notify: bool) -> Option<Transition> {
        let (open, mut past) = self.split();
        let end = open?.ended(TransitionKind::Closed, &mut past);
        Some(Transition { notify: end.notify && notify, ..end })
    }

    /// Closes the episode without a notification, because the rule changed. The cooldown continues.
    pub fn supersede(self) -> Stepped {
        let (open, past) = self.split();
        let superseded = TransitionKind::Superseded;
        let transition = open.map(|mut open| open.transition(superseded, None, &past));
        (Self { phase: Phase::Quiet, past }, transition)
    }

    /// Closes an open episode because its device has fallen silent. Notifies if the episode has a
    /// notification and flapping does not suppress it.
    pub fn close_stale(self) -> Stepped {
        let (open, mut past) = self.split();
        let transition = open.map(|open| open.ended(TransitionKind::Stale, &mut past));
        (Self { phase: Phase::Quiet, past }, transition)
    }

    /// Returns the open episode, if any, and the history.
    fn split(self) -> (Option<OpenEpisode>, NotifyHistory) {
        let open = match self.phase {
            Phase::Firing(open) | Phase::Recovering(open, _) => Some(open),
            Phase::Quiet | Phase::Pending(_) => None,
        };
        (open, self.past)
    }

    /// Returns when an open episode that stays in breach must be checked again. The time is its
    /// next step of escalation, its next reminder, or the end of the cooldown that suppresses its
    /// first notification. What is owed is tried by [`Self::look`].
    pub fn next_due(&self, policy: &Policy) -> Option<i64> {
        self.open()?.next_due(policy, &self.past)
    }

    /// Returns the open episode, if any.
    pub fn open(&self) -> Option<&OpenEpisode> {
        match &self.phase {
            Phase::Firing(open) | Phase::Recovering(open, _) => Some(open),
            Phase::Quiet | Phase::Pending(_) => None,
        }
    }

    /// Whether people know of the open episode, or only its cooldown or flapping keeps it from them.
    pub fn is_known_or_muted(&self, policy: &Policy, at: i64) -> bool {
        let open = self.open().filter(|open| open.owed().is_none());
        open.is_some_and(|open| open.notified || self.past.is_muted_at(policy, at))
    }

    /// Whether the episode owes a notification.
    pub fn owes(&self) -> bool {
        self.open().is_some_and(|open| open.owed().is_some())
    }

    /// Whether dropping the episode loses nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod owed_tests;

#[cfg(test)]
mod tests;
