//! The course of one rule on one device in the model, derived from all verdicts and transitions so
//! far.

use super::expected_verdict::ExpectedVerdict;
use super::spec::{DeviceReport, ExpectedTransition, LATE_ABOVE, Spec};

/// Severities in rising order.
const SEVERITIES: [&str; 5] = ["info", "minor", "moderate", "major", "critical"];

/// Returns the rank of a severity.
pub(super) fn rank(severity: &str) -> Option<usize> {
    SEVERITIES.iter().position(|one| *one == severity)
}

/// All verdicts of one rule on one device, and all transitions that followed.
#[derive(Default)]
pub(super) struct RuleCourse {
    looks: Vec<ModelStep>,
    made: Vec<MadeTransition>,
    owed: Option<ModelOwed>,
    /// Second of the wall clock at which what is owed was tried last.
    tried: Option<i64>,
}

/// A notification that was due and reached nobody.
#[derive(Debug, Clone, Copy)]
struct ModelOwed {
    since: i64,
    rise: bool,
    on_watch: bool,
}

impl ModelOwed {
    fn since(since: i64) -> Self {
        Self { since, rise: false, on_watch: false }
    }
}

struct ModelStep {
    second: i64,
    version: i64,
    sight: ExpectedVerdict,
    /// Whether a transition followed. The transition stays, regardless of the rest of its second.
    stands: bool,
    /// What was owed before the step.
    owed: Option<ModelOwed>,
}

/// A transition that was made.
#[derive(Debug, Clone, Copy, Default)]
struct MadeTransition {
    second: i64,
    to: &'static str,
    severity: &'static str,
    notify: bool,
    flapping: bool,
    follow_up: bool,
    on_watch: bool,
    delayed: bool,
    /// Verdicts before the transition and with it.
    looks: usize,
}

/// Distance between two tries of what is owed, in seconds.
const TRY_AGAIN: i64 = 60;

impl RuleCourse {
    /// Advances by one verdict. Returns whether a transition followed.
    pub(super) fn look(
        &mut self,
        spec: &Spec,
        report: &DeviceReport,
        sight: ExpectedVerdict,
    ) -> bool {
        let (second, version) = (report.second, spec.version);
        // Earlier readings of the same second are part of this verdict.
        let same =
            |last: &mut ModelStep| last.second == second && last.version == version && !last.stands;
        if let Some(part) = self.looks.pop_if(same) {
            self.owed = part.owed;
        }
        self.looks.push(ModelStep { second, version, sight, stands: false, owed: self.owed });
        let before = self.made.len();
        let asked = match (self.episode().is_empty(), sight) {
            (true, ExpectedVerdict::Breach { may_open }) => self.maybe_open(spec, report, may_open),
            (false, ExpectedVerdict::Breach { .. }) => self.go_on(spec, report),
            (false, ExpectedVerdict::Clear) => {
                self.maybe_resolve(spec, report);
                false
            }
            (_, ExpectedVerdict::Between | ExpectedVerdict::Clear) => false,
        };
        if self.owed.is_none() {
            self.tried = None;
        } else if asked && !report.is_late() || self.tried.is_none() {
            self.tried = Some(report.wall);
        }
        let made = self.made.len() > before;
        if let Some(look) = self.looks.last_mut() {
            look.stands = made;
        }
        made
    }

    /// Returns whether anybody was asked for, as the functions below do.
    fn maybe_open(&mut self, spec: &Spec, report: &DeviceReport, may_open: bool) -> bool {
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
        if due {
            self.told_or_owed(report, false);
        }
        due
    }

    fn go_on(&mut self, spec: &Spec, report: &DeviceReport) -> bool {
        let second = report.second;
        let opened_at = self.episode()[0].second;
        let due = |at: i64| spec.escalation.iter().rfind(|(after, _)| at - opened_at >= *after);
        let taken = self.episode().iter().rfind(|made| made.to == "escalated");
        let taken = taken.and_then(|made| due(made.second));
        let told = self.episode().iter().any(|made| made.notify);
        if let Some((_, to)) = due(second)
            && due(second) != taken
        {
            let rise = rank(to) > rank(self.severity());
            self.make(spec, second, "escalated", to);
            self.last().follow_up = told && !rise;
            self.told_or_owed(report, rise);
            return true;
        }
        let told_at = self.told_at();
        let again = spec
            .repeat
            .is_some_and(|repeat| told_at.is_none_or(|told_at| second - told_at >= repeat));
        let due = (!told || again) && self.is_cool(spec, second) && !self.is_silent(spec, second);
        if self.owed.is_none() && !due {
            return false;
        }
        if report.is_late() {
            self.owed.get_or_insert(ModelOwed::since(second));
        } else {
            self.tell(spec, second, report.wall, report.reachable);
        }
        true
    }

    /// Makes a notification of an open episode. One that reaches nobody is recorded once.
    fn tell(&mut self, spec: &Spec, second: i64, wall: i64, reachable: bool) {
        let told = self.episode().iter().any(|made| made.notify);
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
        last.follow_up = told && !owed.is_some_and(|owed| owed.rise);
        last.delayed = owed.is_some_and(|owed| wall - owed.since > LATE_ABOVE);
    }

    pub(super) fn look_at_owed(&mut self, spec: &Spec, second: i64, reachable: bool) -> bool {
        if self.tried.is_none_or(|tried| second - tried < TRY_AGAIN) {
            return false;
        }
        let before = self.made.len();
        self.tell(spec, second, second, reachable);
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
        let told = self.episode().iter().any(|made| made.notify);
        let silent = self.is_silent(spec, report.second);
        self.make(spec, report.second, "resolved", self.severity());
        let last = self.last();
        (last.notify, last.follow_up, last.delayed) = (told && !silent, true, report.is_late());
        self.owed = None;
    }

    /// Settles whether the transition that was just made reaches anybody.
    fn told_or_owed(&mut self, report: &DeviceReport, rise: bool) {
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

    /// Returns the transitions of the open episode; none if no episode is open.
    fn episode(&self) -> &[MadeTransition] {
        let over = |made: &MadeTransition| matches!(made.to, "resolved" | "superseded");
        match self.made.last() {
            Some(last) if !over(last) => self.latest(),
            _ => &[],
        }
    }

    /// Returns the transitions of the latest episode.
    fn latest(&self) -> &[MadeTransition] {
        let opening = self.made.iter().rposition(|made| made.to == "opened");
        opening.map_or(&[], |opening| &self.made[opening..])
    }

    fn severity(&self) -> &'static str {
        self.made.last().expect("an episode is open").severity
    }

    /// Returns the time of the last notification, ends excluded. A reading of an earlier time that
    /// came after it takes its place.
    fn told_at(&self) -> Option<i64> {
        let told = self.made.iter().rfind(|made| made.notify && made.to != "resolved")?;
        let later = self.looks[told.looks..].iter().map(|look| look.second);
        later.chain([told.second]).min()
    }

    fn is_cool(&self, spec: &Spec, second: i64) -> bool {
        self.told_at().is_none_or(|told_at| second - told_at >= spec.cooldown)
    }

    /// Returns the opening with which flapping began, unless flapping has ended.
    fn flapping_since(&self, spec: &Spec, second: i64) -> Option<usize> {
        let openings = self.made.iter().enumerate().filter(|(_, made)| made.to == "opened");
        let openings: Vec<(usize, i64)> = openings.map(|(n, made)| (n, made.second)).collect();
        let mut since = None;
        for (count, (number, opening)) in openings.iter().enumerate() {
            if count > 0 && opening - openings[count - 1].1 >= spec.flap_window {
                since = None;
            }
            let first = (count + 1).checked_sub(spec.flap_openings);
            if first.is_some_and(|first| opening - openings[first].1 < spec.flap_window) {
                since = since.or(Some(*number));
            }
        }
        let last = openings.last()?.1;
        since.filter(|_| second - last < spec.flap_window)
    }

    /// Whether the rule is flapping, and a notification has reported the flapping.
    fn is_silent(&self, spec: &Spec, second: i64) -> bool {
        let since = self.flapping_since(spec, second);
        since.is_some_and(|since| {
            self.made[since..].iter().any(|made| made.notify && made.to != "resolved")
        })
    }

    /// Returns the last transition, for the comparison.
    pub(super) fn line(&self, event: usize, device: usize, rule: i64) -> ExpectedTransition {
        let episode = self.latest();
        let last = episode.last().expect("something was made");
        ExpectedTransition {
            event,
            device,
            rule,
            to: last.to,
            severity: last.severity,
            notify: last.notify,
            flapping: last.flapping,
            follow_up: last.follow_up,
            on_watch: last.on_watch,
            delayed: last.delayed,
            opened_at: episode[0].second,
            seq: episode.len() - 1,
        }
    }
}
