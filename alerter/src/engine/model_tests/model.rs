//! The model: a second implementation of section 2 of the contract, without regard to speed or
//! memory. The model keeps all readings and transitions, and derives every answer from them.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::course::{RuleCourse, rank};
use super::expected_verdict::{SeenReport, news, see};
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
            ModelEvent::Look(second, reachable) => model.look(number, *second, *reachable),
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
        let mut rules: Vec<&(Spec, usize)> = self.rules.iter().collect();
        rules.sort_by_key(|(spec, _)| (Reverse(rank(spec.severity)), spec.id));
        for (spec, since) in rules {
            let Some(sight) = see(spec, *since, &self.heard) else { continue };
            let course = self.courses.entry((spec.id, report.device)).or_default();
            if course.look(spec, report, sight) {
                self.lines.push(course.line(event, report.device, spec.id));
            }
        }
    }

    /// Tries what is owed, device by device.
    fn look(&mut self, event: usize, second: i64, reachable: bool) {
        let mut places: Vec<(i64, usize)> = self.courses.keys().copied().collect();
        places.sort_unstable_by_key(|(rule, device)| (*device, *rule));
        for (rule, device) in places {
            let spec = self.rules.iter().find(|(spec, _)| spec.id == rule);
            let course = self.courses.get_mut(&(rule, device));
            let (Some((spec, _)), Some(course)) = (spec, course) else { continue };
            if course.look_at_owed(spec, second, reachable) {
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
