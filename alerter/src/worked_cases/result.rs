//! What came of an example, in the words of the examples, and its comparison with what must come.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use ljwx_reading::{DeviceSn, wall_text};
use serde_json::{Map, Value, json};

use crate::engine::Change;
use crate::engine::episode::{Transition, TransitionKind};
use crate::engine::routing::Routed;
use crate::notify::address::Address;
use crate::notify::recipients::choice::Choice;
use crate::notify::recipients::router::PeopleRouter;

/// What came of an example so far.
#[derive(Debug, Default)]
pub(super) struct CaseResult {
    transitions: Vec<Map<String, Value>>,
    /// Words of channels that reached nobody, with the reasons.
    unreachable: Vec<String>,
    /// The events that operators get.
    pub(super) operators: Vec<Value>,
    /// The messages to people.
    messages: Vec<Value>,
    /// `alert_status` of each rule's latest alert.
    status: BTreeMap<String, &'static str>,
    /// The addresses that were notified of each rule's latest episode on a device.
    notified: HashMap<(i64, DeviceSn), BTreeSet<Address>>,
}

/// Returns the elements of a list. Anything else has none.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[][..], Vec::as_slice)
}

impl CaseResult {
    /// Adds what follows from one reading, at this place among the readings, or from an event.
    pub(super) fn add(&mut self, place: Option<usize>, changes: &[Change], router: &PeopleRouter) {
        // What one person learns of one device at one moment is one message.
        let mut messages: BTreeMap<(DeviceSn, Address), Vec<&Change>> = BTreeMap::new();
        for change in changes {
            let choice = choice(change, router);
            self.transitions.push(transition(place, change));
            if !change.transition.on_watch {
                let words = choice.unreachable.iter();
                let words = words.map(|(word, reason)| format!("{word}:{}", reason.as_str()));
                self.unreachable.extend(words);
            }
            self.set_status(change);
            for address in self.notified_by(change, choice) {
                messages.entry((change.device_sn.clone(), address)).or_default().push(change);
            }
        }
        for ((_, address), changes) in messages {
            self.messages.push(message(&address, changes));
        }
    }

    fn set_status(&mut self, change: &Change) {
        let status = self.status.entry(change.rule_id.to_string()).or_default();
        match change.transition.to {
            TransitionKind::Opened => *status = "pending",
            TransitionKind::Resolved => *status = "RESOLVED",
            _ => {}
        }
        if change.transition.notify && *status == "pending" {
            *status = "NOTIFIED";
        }
    }

    /// Returns the addresses that are notified of a change.
    fn notified_by(&mut self, change: &Change, choice: Choice) -> BTreeSet<Address> {
        let transition = change.transition;
        let episode = (change.rule_id, change.device_sn.clone());
        let notified = self.notified.entry(episode).or_default();
        if transition.to == TransitionKind::Opened {
            notified.clear();
        }
        if !transition.notify {
            return BTreeSet::new();
        }
        if !transition.follow_up {
            notified.extend(choice.recipients.into_iter().map(|recipient| recipient.address));
        }
        notified.clone()
    }

    /// Compares with what must come of the example. What it leaves out is not compared.
    pub(super) fn compare(&self, case: &Value) -> Result<(), String> {
        if let Some(expected) = case.get("transitions") {
            self.compare_transitions(list(expected))?;
        }
        for (name, found) in [
            ("unreachable", json!(self.unreachable)),
            ("operators", json!(self.operators)),
            ("told", in_order(&self.messages)),
        ] {
            let Some(expected) = case.get(name) else { continue };
            let expected = if name == "told" { in_order(list(expected)) } else { expected.clone() };
            if found != expected {
                return Err(format!("{name} is {found}, not {expected}"));
            }
        }
        for (rule, expected) in case["status"].as_object().into_iter().flatten() {
            let found = self.status.get(rule).copied().unwrap_or_default();
            if *expected != found {
                return Err(format!("the status of rule {rule} is {found}, not {expected}"));
            }
        }
        Ok(())
    }

    fn compare_transitions(&self, expected: &[Value]) -> Result<(), String> {
        let all = json!(self.transitions);
        if self.transitions.len() != expected.len() {
            return Err(format!("{} transitions must come, not {all}", expected.len()));
        }
        for (found, expected) in self.transitions.iter().zip(expected) {
            for (name, value) in expected.as_object().into_iter().flatten() {
                if found.get(name) != Some(value) {
                    return Err(format!("{name} must be {value} in {}", json!(found)));
                }
            }
        }
        Ok(())
    }
}

/// Chooses the recipients of a change. None if none were looked for.
fn choice(change: &Change, router: &PeopleRouter) -> Choice {
    let looked_for = match change.transition.routed {
        Some(Routed::Somebody) => true,
        Some(Routed::Nobody(reason)) => reason.is_unreachable(),
        Some(Routed::NoChannel) | None => false,
    };
    let channels = change.rule.as_ref().filter(|_| looked_for).map(|rule| rule.channels);
    channels.and_then(|channels| router.choose(change.ids, channels)).unwrap_or_default()
}

fn transition(place: Option<usize>, change: &Change) -> Map<String, Value> {
    let transition = change.transition;
    let mut found = Map::new();
    found.insert("at".into(), wall_text(change.at.wall).into());
    found.insert("rule".into(), change.rule_id.into());
    found.insert("device_sn".into(), change.device_sn.as_str().into());
    found.insert("to".into(), transition.to.as_str().into());
    found.insert("severity".into(), transition.severity.as_str().into());
    found.insert("notify".into(), transition.notify.into());
    if let Some(place) = place {
        found.insert("reading".into(), place.into());
    }
    match transition.routed {
        _ if transition.inhibited => drop(found.insert("why".into(), "inhibited".into())),
        Some(Routed::Nobody(reason)) => drop(found.insert("why".into(), reason.as_str().into())),
        _ => {}
    }
    found
}

/// Returns a message about these changes. The most severe change leads, and ends come last, except an
/// end after which a lower rule goes on.
fn message(address: &Address, mut changes: Vec<&Change>) -> Value {
    changes.sort_by_key(|change| {
        let Transition { to, severity, goes_on, .. } = change.transition;
        (to.is_end() && goes_on.is_none(), Reverse(goes_on.unwrap_or(severity)))
    });
    let alone = |mut all: Vec<Value>| if all.len() == 1 { all.remove(0) } else { all.into() };
    let rules: Vec<Value> = changes.iter().map(|change| change.rule_id.into()).collect();
    let whats: Vec<Value> =
        changes.iter().map(|change| change.transition.to.as_str().into()).collect();
    json!({
        "at": wall_text(changes[0].at.wall), "to": address.to_string(),
        "rule": alone(rules), "what": alone(whats),
    })
}

/// Returns messages by time and address.
fn in_order(messages: &[Value]) -> Value {
    let mut messages = messages.to_vec();
    messages.sort_by_key(|message| (message["at"].to_string(), message["to"].to_string()));
    messages.into()
}
