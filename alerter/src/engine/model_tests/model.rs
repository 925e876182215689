//! The model: a second implementation of section 2 of the contract, without regard to speed or
//! memory. The model keeps all readings and transitions, and derives every answer from them.

use std::collections::BTreeMap;

use super::expected_verdict::{ExpectedVerdict, SeenReport, news, see};
use super::spec::{DeviceReport, ExpectedTransition, ModelEvent, Spec};

/// Returns the transitions that the contract demands.
pub(super) fn expected(rules: &[Spec], events: &[ModelEvent]) -> Vec<ExpectedTransition> {
    let mut model = Model {
        rules: rules.iter().map(|spec| (spec.clone(), 0)).collect(),
        heard: Vec::new(),
        courses: BTreeMap::new(),
        lines: Vec::new(),
    };
    for (number, event) in events.iter().enumerate() {
        match event {
            ModelEvent::Reading(report) => model.hear(number, report),
            // A crash must change nothing.
            ModelEvent::Crash => {}
            ModelEvent::Edit(place, watch) => {
                let place = place % model.rules.len();
                model.supersede(number, place);
                let (spec, since) = &mut model.rules[place];
                spec.watch = watch.clone();
                spec.version += 1;
                *since = model.heard.len();
            }
        }
    }
    model.lines
}

struct Model {
    /// Each rule, with the number of readings before it became active.
    rules: Vec<(Spec, usize)>,
    heard: Vec<SeenReport>,
    courses: BTreeMap<(i64, usize), RuleCourse>,
    lines: Vec<ExpectedTransition>,
}

impl Model {
    fn hear(&mut self, event: usize, report: &DeviceReport) {
        if report.ahead {
            return;
        }
        let news = news(&self.heard, report);
        self.heard.push(SeenReport { report: report.clone(), news });
        for (spec, since) in &self.rules {
            let Some(sight) = see(spec, *since, &self.heard) else { continue };
            let course = self.courses.entry((spec.id, report.device)).or_default();
            if course.look(spec, report, sight) {
                self.lines.push(course.line(event, report.device, spec.id));
            }
        }
    }

    fn supersede(&mut self, event: usize, place: usize) {
        let id = self.rules[place].0.id;
        for ((rule, device), course) in &mut self.courses {
            if *rule != id || course.episode().is_empty() {
                continue;
            }
            let severity = course.severity();
            // The time of this transition does not matter.
            course.made.push(MadeTransition {
                second: 0,
                to: "superseded",
                severity,
                ..MadeTransition::default()
            });
            self.lines.push(course.line(event, *device, id));
        }
    }
}

/// All verdicts of one rule on one device, and all transitions that followed.
#[derive(Default)]
struct RuleCourse {
    looks: Vec<ModelStep>,
    made: Vec<MadeTransition>,
}

struct ModelStep {
    second: i64,
    version: i64,
    sight: ExpectedVerdict,
    /// Whether a transition followed. The transition stays, regardless of the rest of its second.
    stands: bool,
}

/// A transition that was made.
#[derive(Debug, Clone, Copy, Default)]
struct MadeTransition {
    second: i64,
    to: &'static str,
    severity: &'static str,
    notify: bool,
    flapping: bool,
}

impl RuleCourse {
    /// Advances by one verdict. Returns whether a transition followed.
    fn look(&mut self, spec: &Spec, report: &DeviceReport, sight: ExpectedVerdict) -> bool {
        let (second, version) = (report.second, spec.version);
        // Earlier readings of the same second are part of this verdict.
        self.looks.pop_if(|last| last.second == second && last.version == version && !last.stands);
        self.looks.push(ModelStep { second, version, sight, stands: false });
        let before = self.made.len();
        match (self.episode().is_empty(), sight) {
            (true, ExpectedVerdict::Breach { may_open }) => self.maybe_open(spec, report, may_open),
            (false, ExpectedVerdict::Breach { .. }) => self.go_on(spec, report),
            (false, ExpectedVerdict::Clear) => self.maybe_resolve(spec, report),
            (_, ExpectedVerdict::Between | ExpectedVerdict::Clear) => {}
        }
        let made = self.made.len() > before;
        if let Some(look) = self.looks.last_mut() {
            look.stands = made;
        }
        made
    }

    fn maybe_open(&mut self, spec: &Spec, report: &DeviceReport, may_open: bool) {
        let run = self.looks.iter().rev();
        let run = run.take_while(|look| {
            look.version == spec.version && matches!(look.sight, ExpectedVerdict::Breach { .. })
        });
        let first = run.take(spec.trend).enumerate().last();
        let long_enough = first.is_some_and(|(place, first)| {
            place + 1 == spec.trend && report.second - first.second <= spec.window
        });
        if may_open && long_enough {
            self.make(spec, report, "opened", spec.severity);
            // The opening itself counts towards flapping.
            let notify = self.may_notify(spec, report.second) && report.reachable;
            self.told(notify);
        }
    }

    fn go_on(&mut self, spec: &Spec, report: &DeviceReport) {
        let second = report.second;
        let opened_at = self.episode()[0].second;
        let due = |at: i64| spec.escalation.iter().rfind(|(after, _)| at - opened_at >= *after);
        let taken = self.episode().iter().rfind(|made| made.to == "escalated");
        let taken = taken.and_then(|made| due(made.second));
        if let Some((_, to)) = due(second)
            && due(second) != taken
        {
            self.make(spec, report, "escalated", to);
            self.told(report.reachable);
            return;
        }
        let late = !self.episode().iter().any(|made| made.notify);
        let told_at = self.told_at();
        let again = spec
            .repeat
            .is_some_and(|repeat| told_at.is_none_or(|told_at| second - told_at >= repeat));
        if (late || again) && self.may_notify(spec, second) && report.reachable {
            self.make(spec, report, "notified", self.severity());
            self.told(true);
        }
    }

    fn maybe_resolve(&mut self, spec: &Spec, report: &DeviceReport) {
        let clear =
            self.looks.iter().rev().take_while(|look| look.sight == ExpectedVerdict::Clear).count();
        if clear < spec.clear_after {
            return;
        }
        let told = self.episode().iter().any(|made| made.notify);
        let silent = self.is_silent(spec, report.second);
        self.make(spec, report, "resolved", self.severity());
        self.told(told && !silent && report.reachable);
    }

    fn make(
        &mut self,
        spec: &Spec,
        report: &DeviceReport,
        to: &'static str,
        severity: &'static str,
    ) {
        self.made.push(MadeTransition {
            second: report.second,
            to,
            severity,
            ..MadeTransition::default()
        });
        let flapping = self.flapping_since(spec, report.second).is_some();
        self.made.last_mut().expect("just pushed").flapping = flapping;
    }

    fn told(&mut self, notify: bool) {
        self.made.last_mut().expect("something was made").notify = notify;
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

    /// Returns the time of the last notification, ends excluded.
    fn told_at(&self) -> Option<i64> {
        let told = self.made.iter().rfind(|made| made.notify && made.to != "resolved");
        told.map(|made| made.second)
    }

    fn may_notify(&self, spec: &Spec, second: i64) -> bool {
        let cool = self.told_at().is_none_or(|told_at| second - told_at >= spec.cooldown);
        cool && !self.is_silent(spec, second)
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
    fn line(&self, event: usize, device: usize, rule: i64) -> ExpectedTransition {
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
            opened_at: episode[0].second,
            seq: episode.len() - 1,
        }
    }
}
