//! The model: a second implementation of section 2 of the contract, without regard to speed or
//! memory. The model keeps all readings and transitions, and derives every answer from them.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::course::{RuleCourse, rank};
use super::expected_verdict::{SeenReport, Weighed, held_value, is_nearer_to_max, news, see};
use super::ladder::{Height, Rung, height_below, is_inhibited};
use super::spec::{DeviceReport, ExpectedTransition, ModelEvent, Spec};

/// Returns the transitions that the contract demands.
pub(super) fn expected(rules: &[Spec], events: &[ModelEvent]) -> Vec<ExpectedTransition> {
    let mut model = Model {
        rules: rules.iter().map(|spec| (spec.clone(), 0)).collect(),
        seen: Vec::new(),
        courses: BTreeMap::new(),
        lines: Vec::new(),
    };
    for (number, event) in events.iter().enumerate() {
        match event {
            ModelEvent::Reading(report) => model.evaluate(number, report),
            ModelEvent::Look(second, reachable) => model.look(number, *second, *reachable),
            // A crash must change nothing.
            ModelEvent::Crash => {}
            ModelEvent::Edit(place, watch) => {
                let place = place % model.rules.len();
                model.supersede(number, place);
                let (spec, since) = &mut model.rules[place];
                spec.watch = watch.clone();
                spec.version += 1;
                *since = model.seen.len();
            }
        }
    }
    model.lines
}

struct Model {
    /// Each rule, with the number of readings before it became active.
    rules: Vec<(Spec, usize)>,
    seen: Vec<SeenReport>,
    courses: BTreeMap<(i64, usize), RuleCourse>,
    lines: Vec<ExpectedTransition>,
}

impl Model {
    fn evaluate(&mut self, event: usize, report: &DeviceReport) {
        if report.ahead {
            return;
        }
        let news = news(&self.seen, report);
        self.seen.push(SeenReport { report: report.clone(), news });
        // The most severe rule comes first.
        let mut rules = self.rules.clone();
        rules.sort_by_key(|(spec, _)| (Reverse(rank(spec.severity)), spec.id));
        let mut ended: Vec<(&Spec, &str)> = Vec::new();
        for (spec, since) in &rules {
            let Some(sight) = see(spec, *since, &self.seen) else { continue };
            let rungs = self.rungs(spec, report.device, report.second);
            let course = self.courses.entry((spec.id, report.device)).or_default();
            let inhibited = |severity: &str| is_inhibited(&rungs, spec, severity, sight.1);
            if course.look(spec, report, sight, &inhibited) {
                let line = course.line(event, report.device, spec.id);
                if line.to == "resolved" && line.notify {
                    ended.push((spec, line.severity));
                }
                self.lines.push(line);
            }
        }
        self.step_down(event, report, &ended);
    }

    /// Notifies of rules that were held back by others, which have ended.
    fn step_down(&mut self, event: usize, report: &DeviceReport, ended: &[(&Spec, &str)]) {
        let mut below: Vec<(Height, Spec)> = Vec::new();
        for end in ended {
            let rules = self.rules.iter().map(|(spec, _)| spec);
            let severity = |spec: &Spec| {
                self.courses.get(&(spec.id, report.device)).and_then(RuleCourse::open_severity)
            };
            below.extend(rules.filter_map(|spec| {
                Some((height_below(spec, severity(spec)?, *end)?, spec.clone()))
            }));
        }
        // From the top: the highest one holds back those below it.
        below.sort_by_key(|(height, _)| Reverse(*height));
        for (_, spec) in &below {
            let rungs = self.rungs(spec, report.device, report.second);
            let weighed = held_value(spec, report)
                .map(|value| Weighed { value, is_over: is_nearer_to_max(spec, value) });
            let course = self.courses.get_mut(&(spec.id, report.device));
            let (Some(course), Some(_)) = (course, weighed) else { continue };
            let inhibited = |severity: &str| is_inhibited(&rungs, spec, severity, weighed);
            if course.step_down(spec, report, &inhibited) {
                self.lines.push(course.line(event, report.device, spec.id));
            }
        }
    }

    /// Returns the open episodes of the other rules on a device, as of a second.
    fn rungs(&self, spec: &Spec, device: usize, second: i64) -> Vec<Rung> {
        let others = self.rules.iter().filter(|(other, _)| other.id != spec.id);
        let rung = |(other, _): &(Spec, usize)| {
            Rung::of(other, self.courses.get(&(other.id, device))?, second)
        };
        others.filter_map(rung).collect()
    }

    /// Tries what is owed, device by device.
    fn look(&mut self, event: usize, second: i64, reachable: bool) {
        let mut places: Vec<(i64, usize)> = self.courses.keys().copied().collect();
        places.sort_unstable_by_key(|(rule, device)| (*device, *rule));
        for (rule, device) in places {
            let spec = self.rules.iter().find(|(spec, _)| spec.id == rule).cloned();
            let Some((spec, _)) = &spec else { continue };
            let rungs = self.rungs(spec, device, second);
            let Some(course) = self.courses.get_mut(&(rule, device)) else { continue };
            let weighed = course.weighed();
            let inhibited = |severity: &str| is_inhibited(&rungs, spec, severity, weighed);
            if course.owes() && course.look_at_owed(spec, second, reachable, &inhibited) {
                self.lines.push(course.line(event, device, rule));
            }
        }
    }

    fn supersede(&mut self, event: usize, place: usize) {
        let id = self.rules[place].0.id;
        for ((rule, device), course) in &mut self.courses {
            if *rule == id && course.supersede() {
                self.lines.push(course.line(event, *device, id));
            }
        }
    }
}
