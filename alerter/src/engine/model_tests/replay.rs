//! Runs the engine on a stream of events as the pipeline runs it, with transactions, crashes and
//! edited rules.

use std::sync::Arc;

use ljwx_reading::{DeviceSn, Ids, Reading};

use super::spec::{DeviceReport, ExpectedTransition, ModelEvent, START_MS, Spec};
use crate::engine::episode::TransitionKind;
use crate::engine::journal::read;
use crate::engine::routing::{OwedReason, Routed, Router};
use crate::engine::{Arrival, Change, Engine, RuleState, StateChanges, StoredPartition};
use crate::rules::Rule;
use crate::rules::index::RuleSet;

/// The only partition.
const PARTITION: i32 = 0;

/// Returns the transitions that the engine makes.
pub(super) fn played(rules: &[Spec], events: &[ModelEvent]) -> Vec<ExpectedTransition> {
    let mut played = Played {
        rules: rules.to_vec(),
        engine: Engine::default(),
        stored: StoredPartition::default(),
        lines: Vec::new(),
        committed: (0, 0),
    };
    played.start();
    for (number, event) in events.iter().enumerate() {
        match event {
            ModelEvent::Reading(report) => played.evaluate(number, report),
            ModelEvent::Look(second, reachable) => played.look(number, *second, *reachable),
            ModelEvent::Crash => played.crash(&events[..number]),
            ModelEvent::Edit(place, watch) => {
                let place = place % rules.len();
                played.rules[place].watch = watch.clone();
                played.rules[place].version += 1;
                played.edited(number);
            }
        }
    }
    played.lines
}

/// Returns the engine's changes at a reading. Only this function calls the evaluation.
fn evaluated(engine: &mut Engine, reading: &Reading, report: &DeviceReport) -> Vec<Change> {
    let evaluated_ms = START_MS + report.wall * 1000;
    let arrival = Arrival { evaluated_ms, ..Arrival::from(reading) };
    let mut router = LookedUp { answer: answer(report.reachable), known: false };
    let mut evaluated = engine.evaluate(PARTITION, arrival, &router);
    while !evaluated.unknown.is_empty() {
        router.known = true;
        engine.resume(PARTITION, arrival, &router, &mut evaluated);
    }
    evaluated.changes
}

fn answer(reachable: bool) -> Routed {
    if reachable { Routed::Somebody } else { Routed::Nobody(OwedReason::NoRecipient) }
}

/// Knows people once they are looked up.
struct LookedUp {
    answer: Routed,
    known: bool,
}

impl Router for LookedUp {
    fn route(&self, _: Ids, _: &DeviceSn, _: &Rule) -> Option<Routed> {
        self.known.then_some(self.answer)
    }
}

struct Played {
    rules: Vec<Spec>,
    engine: Engine,
    /// The tables of the state.
    stored: StoredPartition,
    lines: Vec<ExpectedTransition>,
    /// Events and lines that the last transaction covers.
    committed: (usize, usize),
}

impl Played {
    fn start(&mut self) {
        self.engine = Engine::default();
        self.take_rules();
        self.engine.load(PARTITION, self.stored.clone());
        assert!(self.engine.realign(PARTITION).is_empty(), "a start is no edit");
    }

    fn take_rules(&mut self) {
        let rules = self.rules.iter().map(Spec::rule);
        self.engine.set_rules(Arc::new(RuleSet::new(rules)));
    }

    fn evaluate(&mut self, event: usize, report: &DeviceReport) {
        for change in evaluated(&mut self.engine, &report.reading(), report) {
            self.lines.push(line(event, &change));
        }
        if report.committed {
            self.commit(event);
        }
    }

    /// Looks at what is owed. A look is a transaction of its own.
    fn look(&mut self, event: usize, second: i64, reachable: bool) {
        let now_ms = START_MS + second * 1000;
        let mut router = LookedUp { answer: answer(reachable), known: false };
        let (mut changes, unknown) = self.engine.look(PARTITION, now_ms, true, &router);
        assert!(changes.is_empty(), "nobody is known");
        if !unknown.is_empty() {
            router.known = true;
            changes = self.engine.look(PARTITION, now_ms, true, &router).0;
        }
        self.lines.extend(changes.iter().map(|change| line(event, change)));
        self.commit(event);
    }

    /// Closes the episodes that the edit ends, device by device.
    fn edited(&mut self, event: usize) {
        self.take_rules();
        let changes = self.engine.realign(PARTITION);
        let lines = changes.iter().map(|change| {
            assert_eq!(
                change.transition.to,
                TransitionKind::Superseded,
                "an edit opens and ends nothing"
            );
            line(event, change)
        });
        let mut lines: Vec<ExpectedTransition> =
            lines.map(|line| ExpectedTransition { flapping: false, ..line }).collect();
        lines.sort_by_key(|line| (line.rule, line.device));
        self.lines.extend(lines);
        self.commit(event);
    }

    fn commit(&mut self, event: usize) {
        let StateChanges { journal, tracked, clock, .. } = self.engine.take_changes(PARTITION);
        for line in journal.rows.iter().flat_map(|row| read(&row.text)) {
            let (sn, read) = line.expect("its own form");
            self.stored.devices.entry(sn).or_default().take_times(read);
        }
        if let Some(clock) = clock {
            self.stored.clock = clock;
        }
        for (rule, sn, tracked) in tracked {
            let device = self.stored.devices.entry(sn).or_default();
            match tracked {
                Some(tracked) => device.tracked.insert(rule, read_back(&tracked)),
                None => device.tracked.remove(&rule),
            };
        }
        self.committed = (event + 1, self.lines.len());
    }

    /// Goes back to the last transaction, and evaluates the readings after it again.
    fn crash(&mut self, events: &[ModelEvent]) {
        let (events_done, lines_done) = self.committed;
        self.lines.truncate(lines_done);
        self.start();
        // The waits of what is owed begin now.
        let last = events.iter().filter_map(ModelEvent::wall).max().unwrap_or_default();
        let begun = self.engine.look(PARTITION, START_MS + last * 1000, true, &Routed::Somebody);
        assert!(begun.0.is_empty(), "{begun:?}");
        for (number, event) in events.iter().enumerate().skip(events_done) {
            if let ModelEvent::Reading(report) = event {
                self.evaluate(number, report);
            }
        }
    }
}

fn read_back(tracked: &RuleState) -> RuleState {
    let text = serde_json::to_string(tracked).expect("plain structs");
    RuleState { version: tracked.version, ..serde_json::from_str(&text).expect("its own form") }
}

fn line(event: usize, change: &Change) -> ExpectedTransition {
    let transition = change.transition;
    let device = change.device_sn.as_str().trim_start_matches("MODEL");
    ExpectedTransition {
        event,
        device: device.parse().expect("a number"),
        rule: change.rule_id,
        to: transition.to.as_str(),
        severity: transition.severity.as_str(),
        notify: transition.notify,
        flapping: transition.flapping,
        follow_up: transition.follow_up,
        on_watch: transition.on_watch,
        delayed: transition.delayed,
        opened_at: (transition.opened_at - START_MS) / 1000,
        seq: transition.seq as usize,
    }
}
