//! The course of one rule on one device in the model, derived from all verdicts and transitions so
//! far, of which [`super::history`] tells.

use super::expected_verdict::{ExpectedVerdict, Weighed};
use super::spec::{DeviceReport, LATE_ABOVE, Spec, TriggerSpec};

/// Severities in rising order.
const SEVERITIES: [&str; 5] = ["info", "minor", "moderate", "major", "critical"];

/// Returns the place of a severity among all.
pub(super) fn rank(severity: &str) -> Option<usize> {
    SEVERITIES.iter().position(|one| *one == severity)
}

/// All verdicts of one rule on one device, and all transitions that followed.
#[derive(Default)]
pub(super) struct RuleCourse {
    pub(super) looks: Vec<ModelStep>,
    pub(super) made: Vec<MadeTransition>,
    pub(super) owed: Option<ModelOwed>,
    /// Second of the wall clock at which what is owed was tried last.
    tried: Option<i64>,
}

/// A notification that was due and reached nobody.
#[derive(Debug, Clone, Copy)]
pub(super) struct ModelOwed {
    since: i64,
    rise: bool,
    on_watch: bool,
}

impl ModelOwed {
    fn since(since: i64) -> Self {
        Self { since, rise: false, on_watch: false }
    }
}

/// A verdict.
pub(super) struct ModelStep {
    pub(super) second: i64,
    version: i64,
    sight: ExpectedVerdict,
    pub(super) weighed: Option<Weighed>,
    /// Whether a transition followed. The transition stays, regardless of the rest of its second.
    stands: bool,
    /// What was owed before the step.
    owed: Option<ModelOwed>,
}

/// A transition that was made.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MadeTransition {
    pub(super) second: i64,
    pub(super) to: &'static str,
    pub(super) severity: &'static str,
    pub(super) notify: bool,
    pub(super) flapping: bool,
    pub(super) follow_up: bool,
    pub(super) on_watch: bool,
    pub(super) delayed: bool,
    /// Verdicts before the transition and with it.
    pub(super) looks: usize,
}

/// Distance between two tries of what is owed, in seconds.
const TRY_AGAIN: i64 = 60;

impl RuleCourse {
    /// Advances by one verdict. Returns whether a transition followed. `inhibited` tells whether
    /// another rule holds back this one at a severity.
    pub(super) fn look(
        &mut self,
        spec: &Spec,
        report: &DeviceReport,
        (sight, weighed): (ExpectedVerdict, Option<Weighed>),
        inhibited: &dyn Fn(&str) -> bool,
    ) -> bool {
        let (second, version) = (report.second, spec.version);
        // Of one vital the worst reading of a second counts, once.
        let is_single = matches!(spec.watch, TriggerSpec::Single { .. });
        let weighs_less = |last: &ModelStep| {
            (last.second, last.version) == (second, version) && sight.rank() <= last.sight.rank()
        };
        if is_single && self.looks.last().is_some_and(weighs_less) {
            return false;
        }
        // Earlier readings of the same second are part of this verdict.
        let same =
            |last: &mut ModelStep| last.second == second && last.version == version && !last.stands;
        if let Some(part) = self.looks.pop_if(same) {
            self.owed = part.owed;
        }
        let owed = self.owed;
        self.looks.push(ModelStep { second, version, sight, weighed, stands: false, owed });
        let before = self.made.len();
        let asked = match (self.episode().is_empty(), sight) {
            (true, ExpectedVerdict::Breach { may_open }) => {
                self.maybe_open(spec, report, may_open, inhibited)
            }
            (false, ExpectedVerdict::Breach { .. }) => self.go_on(spec, report, inhibited),
            (false, ExpectedVerdict::Clear) => {
                self.maybe_resolve(spec, report);
                false
            }
            (_, ExpectedVerdict::Between | ExpectedVerdict::Clear) => false,
        };
        self.settled(report, asked, before)
    }

    /// Makes the first notification, because a rule above this one has ended.
    pub(super) fn step_down(
        &mut self,
        spec: &Spec,
        report: &DeviceReport,
        inhibited: &dyn Fn(&str) -> bool,
    ) -> bool {
        let before = self.made.len();
        let is_open = !self.episode().is_empty();
        let notified = self.episode().iter().any(|made| made.notify);
        let free = || {
            self.is_cool(spec, report.second)
                && !self.is_silent(spec, report.second)
                && !inhibited(self.severity())
        };
        if !is_open || notified || self.owed.is_some() || !free() {
            return false;
        }
        self.notify_or_owe(spec, report);
        self.settled(report, true, before)
    }

    /// Notes when what is owed was tried, and returns whether a transition was made.
    fn settled(&mut self, report: &DeviceReport, asked: bool, before: usize) -> bool {
        if self.owed.is_none() {
            self.tried = None;
        } else if asked && !report.is_late() || self.tried.is_none() {
            self.tried = Some(report.wall);
        }
        let made = self.made.len() > before;
        if let Some(look) = self.looks.last_mut() {
            look.stands |= made;
        }
        made
    }

    /// Returns whether anybody was asked for, as the functions below do.
    fn maybe_open(
        &mut self,
        spec: &Spec,
        report: &DeviceReport,
        may_open: bool,
        inhibited: &dyn Fn(&str) -> bool,
    ) -> bool {
        let run = self.looks.iter().rev();
        let run = run.take_while(|look| {
            look.version == spec.version && matches!(look.sight, ExpectedVerdict::Breach { .. })
        });
        let first = run.take(spec.trend).enumerate().last();
        let long_enough = first.is_some_and(|(place, first)| {
            place + 1 == spec.trend && report.second - first.second <= spec.window
        });
        if !may_open || !long_enough {
            return false;
        }
        // People believe that it is over.
        let over = self.made.last().is_some_and(|end| end.to == "resolved" && end.notify);
        let anew = over && spec.severity == "critical";
        self.make(spec, report.second, "opened", spec.severity);
        // The opening itself counts towards flapping.
        let silent = self.is_silent(spec, report.second);
        let due = !silent && (anew || self.is_cool(spec, report.second));
        let due = due && !inhibited(spec.severity);
        if due {
            self.notified_or_owed(report, false);
        }
        due
    }

    fn go_on(
        &mut self,
        spec: &Spec,
        report: &DeviceReport,
        inhibited: &dyn Fn(&str) -> bool,
    ) -> bool {
        let second = report.second;
        let opened_at = self.episode()[0].second;
        let due = |at: i64| spec.escalation.iter().rfind(|(after, _)| at - opened_at >= *after);
        let taken = self.episode().iter().rfind(|made| made.to == "escalated");
        let taken = taken.and_then(|made| due(made.second));
        let notified = self.episode().iter().any(|made| made.notify);
        if let Some((_, to)) = due(second)
            && due(second) != taken
        {
            let rise = rank(to) > rank(self.severity());
            self.make(spec, second, "escalated", to);
            self.last().follow_up = notified && !rise;
            if inhibited(to) {
                // The watch has no message of this step yet.
                if let Some(owed) = &mut self.owed {
                    owed.on_watch = false;
                }
                return false;
            }
            self.notified_or_owed(report, rise);
            return true;
        }
        let notified_at = self.notified_at();
        let again = spec.repeat.is_some_and(|repeat| {
            notified_at.is_none_or(|notified_at| second - notified_at >= repeat)
        });
        let due =
            (!notified || again) && self.is_cool(spec, second) && !self.is_silent(spec, second);
        if self.owed.is_none() && !due || inhibited(self.severity()) {
            return false;
        }
        self.notify_or_owe(spec, report);
        true
    }

    fn notify_or_owe(&mut self, spec: &Spec, report: &DeviceReport) {
        if report.is_late() {
            self.owed.get_or_insert(ModelOwed::since(report.second));
        } else {
            self.notify(spec, report.second, report.wall, report.reachable);
        }
    }

    /// Makes a notification of an open episode. One that reaches nobody is recorded once.
    fn notify(&mut self, spec: &Spec, second: i64, wall: i64, reachable: bool) {
        let notified = self.episode().iter().any(|made| made.notify);
        let owed = self.owed.take();
        let on_watch = owed.is_some_and(|owed| owed.on_watch);
        if !reachable {
            let owed = owed.unwrap_or(ModelOwed::since(second));
            self.owed = Some(ModelOwed { on_watch: true, ..owed });
            if on_watch {
                return;
            }
        }
        self.make(spec, second, "notified", self.severity());
        let last = self.last();
        (last.notify, last.on_watch) = (reachable, on_watch);
        last.follow_up = notified && !owed.is_some_and(|owed| owed.rise);
        last.delayed = owed.is_some_and(|owed| wall - owed.since > LATE_ABOVE);
    }

    pub(super) fn look_at_owed(
        &mut self,
        spec: &Spec,
        second: i64,
        reachable: bool,
        inhibited: &dyn Fn(&str) -> bool,
    ) -> bool {
        let is_due = self.tried.is_some_and(|tried| second - tried >= TRY_AGAIN);
        if !is_due || inhibited(self.severity()) {
            return false;
        }
        let before = self.made.len();
        self.notify(spec, second, second, reachable);
        self.tried = self.owed.map(|_| second);
        let made = self.made.len() > before;
        if let Some(look) = self.looks.last_mut() {
            look.stands |= made;
        }
        made
    }

    fn maybe_resolve(&mut self, spec: &Spec, report: &DeviceReport) {
        let clear =
            self.looks.iter().rev().take_while(|look| look.sight == ExpectedVerdict::Clear).count();
        if clear < spec.clear_after {
            return;
        }
        let notified = self.episode().iter().any(|made| made.notify);
        let silent = self.is_silent(spec, report.second);
        self.make(spec, report.second, "resolved", self.severity());
        let last = self.last();
        (last.notify, last.follow_up, last.delayed) = (notified && !silent, true, report.is_late());
        self.owed = None;
    }

    /// Settles whether the transition that was just made reaches anybody.
    fn notified_or_owed(&mut self, report: &DeviceReport, rise: bool) {
        if report.reachable && !report.is_late() {
            self.last().notify = true;
            self.owed = None;
        } else {
            let owed = self.owed.get_or_insert(ModelOwed::since(report.second));
            owed.rise |= rise;
            owed.on_watch = !report.is_late();
        }
    }

    fn make(&mut self, spec: &Spec, second: i64, to: &'static str, severity: &'static str) {
        let looks = self.looks.len();
        self.made.push(MadeTransition { second, to, severity, looks, ..MadeTransition::default() });
        self.last().flapping = self.flapping_since(spec, second).is_some();
    }

    /// Returns the transition that was just made.
    fn last(&mut self) -> &mut MadeTransition {
        self.made.last_mut().expect("something was made")
    }

    /// Closes the open episode, if any, without a notification. Returns whether one was open.
    pub(super) fn supersede(&mut self) -> bool {
        if self.episode().is_empty() {
            return false;
        }
        let (to, severity) = ("superseded", self.severity());
        (self.owed, self.tried) = (None, None);
        // The time of this transition does not matter.
        self.made.push(MadeTransition { to, severity, ..MadeTransition::default() });
        true
    }
}
