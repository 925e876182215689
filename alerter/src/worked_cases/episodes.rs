//! Plays the rules, readings and events of an example through loading, engine and router.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::people::People;
use super::result::{CaseResult, list};
use crate::engine::{Change, DeviceLimits, Engine, StoredPartition};
use crate::notify::limits::AccountLimits;
use crate::notify::recipients::router::PeopleRouter;
use crate::notify::silences::ActiveSilences;
use crate::notify::silences::index::{Silence, SilenceIndex};
use crate::rules::Severity;
use crate::rules::loading::shrinkage::{SourceDecision, SourceGuard};
use crate::rules::loading::versions::RuleVersions;
use crate::rules::validation::lints::RuleWarning;
use crate::rules::validation::together::check_together;
use crate::rules::validation::{CheckedRule, RuleStatus, check};
use crate::test_support::{object, reading};

/// The zone of the examples.
const ZONE: &str = "Asia/Shanghai";

/// Messages of an account a second. No example sends as many.
const ACCOUNT_PER_SECOND: u32 = 50;

/// The parts of the alerter that an example runs through.
struct Stage {
    people: People,
    silences: Vec<Silence>,
    versions: RuleVersions,
    guard: SourceGuard,
    engine: Engine,
    begun: Instant,
    /// Whether operators know of a severe alert that reaches no recipient.
    unreached: bool,
    result: CaseResult,
}

/// Plays an example, and compares what came of it.
pub(super) fn play(case: &Value) -> Result<(), String> {
    let checks = checks(&case["rules"]);
    compare_loads(case, &checks)?;
    let mut stage = Stage::new(case, checks);
    let mut events = list(&case["events"]).iter().peekable();
    for (place, fields) in list(&case["readings"]).iter().enumerate() {
        let received = fields.get("received").unwrap_or(&fields["timestamp"]);
        // An event stands before a reading of the same time.
        while let Some(event) = events.next_if(|event| epoch_ms(&event["at"]) <= epoch_ms(received))
        {
            stage.happens(event)?;
        }
        stage.evaluate(place, fields, received);
    }
    events.try_for_each(|event| stage.happens(event))?;
    stage.result.compare(case)
}

fn epoch_ms(wall: &Value) -> i64 {
    reading(json!({"device_sn": "A1", "timestamp": wall})).epoch_ms()
}

/// Validates rules as the loading does.
fn checks(rules: &Value) -> Vec<CheckedRule> {
    let written = list(rules).iter().enumerate();
    let mut checks: Vec<CheckedRule> =
        written.map(|(place, rule)| check(&object(rule.clone()), place + 1)).collect();
    check_together(&mut checks);
    checks
}

/// Compares what loading says of each rule. A rule that the example says nothing of must be valid.
fn compare_loads(case: &Value, checks: &[CheckedRule]) -> Result<(), String> {
    for check in checks {
        let id = check.id.map_or_else(|| "without a number".to_owned(), |id| id.to_string());
        let mut found = Vec::new();
        match &check.checked {
            RuleStatus::Deleted | RuleStatus::Event => continue,
            RuleStatus::Invalid(problems) => {
                found.push("refused".to_owned());
                found.extend(problems.iter().map(|problem| problem.field.to_owned()));
            }
            RuleStatus::Valid(_) => {
                found.push("valid".to_owned());
                found.extend(check.warnings.iter().filter_map(warning));
            }
        }
        match case["loads"].get(&id) {
            Some(expected) if json!(found) != *expected => {
                return Err(format!("rule {id} loads as {}, not {expected}", json!(found)));
            }
            None if found[0] != "valid" => return Err(format!("rule {id} is {}", json!(found))),
            _ => {}
        }
    }
    Ok(())
}

/// Returns a warning in the words of the examples.
fn warning(warning: &RuleWarning) -> Option<String> {
    match warning {
        RuleWarning::Doubt(_) => None,
        RuleWarning::CannotOpen(_) => Some("cannot_open".to_owned()),
        RuleWarning::Weakens(rules) => {
            let rules: Vec<String> = rules.iter().map(i64::to_string).collect();
            Some(format!("weakens {}", rules.join(", ")))
        }
    }
}

impl Stage {
    fn new(case: &Value, checks: Vec<CheckedRule>) -> Self {
        let mut versions = RuleVersions::default();
        versions.take(checks, 0);
        let mut engine = Engine::new(TimeZone::get(ZONE).unwrap(), DeviceLimits::default());
        engine.set_rules(Arc::new(versions.rules()));
        engine.load(0, StoredPartition::default());
        engine.realign(0);
        Self {
            people: People::new(&case["people"]),
            silences: Vec::new(),
            versions,
            guard: SourceGuard::new(false),
            engine,
            begun: Instant::now(),
            unreached: false,
            result: CaseResult::default(),
        }
    }

    fn router(&self, now_ms: i64) -> PeopleRouter {
        let silences = ActiveSilences::fixed(Some(SilenceIndex::new(self.silences.clone(), 0)));
        PeopleRouter::new(silences, Arc::new(AccountLimits::new(ACCOUNT_PER_SECOND)), now_ms)
    }

    /// Evaluates the reading at this place, which was received at a time.
    fn evaluate(&mut self, place: usize, fields: &Value, received: &Value) {
        let now_ms = epoch_ms(received);
        let mut fields = object(fields.clone());
        fields.remove("received");
        fields.insert("received_at".into(), now_ms.into());
        self.people.fill(&mut fields);
        let reading = reading(Value::Object(fields));
        let mut router = self.router(now_ms);
        let mut evaluated = self.engine.evaluate(0, &reading, &router);
        while !evaluated.unknown.is_empty() {
            router.add(self.people.contacts(&evaluated.unknown));
            self.engine.resume(0, &reading, &router, &mut evaluated);
        }
        self.add(Some(place), received, &evaluated.changes, &router);
    }

    fn happens(&mut self, event: &Value) -> Result<(), String> {
        let now_ms = epoch_ms(&event["at"]);
        let mut router = self.router(now_ms);
        let changes = match event["do"].as_str().unwrap_or_default() {
            "silence" => {
                self.silences.push(Silence {
                    customer_id: None,
                    device_sn: event["device_sn"].as_str().map(str::to_owned),
                    rule_id: event["rule"].as_i64(),
                    starts_at: now_ms,
                    ends_at: epoch_ms(&event["until"]),
                });
                Vec::new()
            }
            "people" => {
                self.people.set(&event["set"]);
                Vec::new()
            }
            "rules" => self.load(event, now_ms),
            "look" => self.look(now_ms, &mut router),
            other => return Err(format!("nothing plays the event {other:?}")),
        };
        self.add(None, &event["at"], &changes, &router);
        Ok(())
    }

    /// Looks at absences and at what is owed.
    fn look(&mut self, now_ms: i64, router: &mut PeopleRouter) -> Vec<Change> {
        let mut changes = Vec::new();
        loop {
            let (ends, mut unknown) = self.engine.tick(0, now_ms, &*router);
            changes.extend(ends);
            if unknown.is_empty() {
                let (owed, of_owed) = self.engine.look(0, now_ms, true, &*router);
                changes.extend(owed);
                unknown = of_owed;
            }
            if unknown.is_empty() {
                return changes;
            }
            router.add(self.people.contacts(&unknown));
        }
    }

    /// Takes over the source of the rules as it is now, unless it has lost too many.
    fn load(&mut self, event: &Value, now_ms: i64) -> Vec<Change> {
        let checks = checks(&event["set"]);
        let now = self.begun + Duration::from_millis(now_ms.unsigned_abs());
        match self.guard.decide(self.versions.active_count(), &checks, now) {
            SourceDecision::Ignore { event_due, .. } => {
                let said = json!({"at": event["at"], "event": "rules_shrunk"});
                self.result.operators.extend(event_due.then_some(said));
                Vec::new()
            }
            SourceDecision::Take => {
                self.versions.take(checks, now_ms);
                self.engine.set_rules(Arc::new(self.versions.rules()));
                self.engine.realign(0)
            }
        }
    }

    fn add(&mut self, place: Option<usize>, at: &Value, changes: &[Change], router: &PeopleRouter) {
        let unreached = self
            .engine
            .owed()
            .any(|one| one.severity >= Severity::Major && one.reason.is_unreachable());
        if unreached && !self.unreached {
            let said = json!({"at": at, "event": "no_recipient_reached"});
            self.result.operators.push(said);
        }
        self.unreached = unreached;
        self.result.add(place, changes, router);
    }
}
