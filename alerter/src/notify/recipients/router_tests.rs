//! Runs the worked examples of what is owed through the engine and the choice of recipients.

use std::collections::BTreeMap;

use ljwx_reading::wall_text;
use serde_json::{Map, Value, json};

use super::*;
use crate::engine::{Arrival, Change, DeviceLimits, Engine, OwedEpisode, StoredPartition};
use crate::notify::address::Address;
use crate::notify::limits::breaker::AccountHealth;
use crate::notify::recipients::choice::{KnownAddress, TenantContacts};
use crate::notify::wechat::{Accounts, FieldMap, OfficialAccount, WecomAccount, WecomForm};
use crate::rules::index::RuleSet;
use crate::rules::severity::Severity;
use crate::rules::validation::{RuleStatus, check};
use crate::test_support::{object, reading};

/// The sections of the examples whose subject is what is owed.
const SECTIONS: [&str; 4] = ["6.1", "6.3", "6.4", "6.6"];

/// The world of an example.
struct World {
    people: Value,
    /// Devices and the ends of their silences.
    silences: Vec<(String, i64)>,
    now_ms: i64,
}

fn epoch_ms(wall: &Value) -> i64 {
    reading(json!({"device_sn": "A1", "timestamp": wall})).epoch_ms()
}

impl World {
    fn contacts(&self) -> Contacts {
        let accounts = self.people.get("accounts").and_then(Value::as_array);
        let has_accounts = accounts.is_none_or(|kinds| !kinds.is_empty());
        let secret = || "hush".to_owned().into();
        let official = OfficialAccount {
            app_id: "wx7".into(),
            app_secret: secret(),
            template_id: "t1".into(),
            fields: FieldMap::default(),
            default_address: None,
        };
        let wecom = WecomAccount {
            corp_id: "ww7".into(),
            agent_id: 5,
            secret: secret(),
            form: WecomForm::Text,
            default_address: None,
        };
        let accounts = Accounts {
            official: has_accounts.then(|| Arc::new(official)),
            wecom: has_accounts.then(|| Arc::new(wecom)),
        };
        let known = |address: &Value| KnownAddress {
            address: Address::parse(address.as_str().unwrap()).unwrap(),
            is_disabled: false,
        };
        let addresses = self.people["addresses"].as_object().unwrap();
        let addresses = addresses.iter().map(|(user, list)| {
            (user.parse().unwrap(), list.as_array().unwrap().iter().map(known).collect())
        });
        let managers = self.people["managers"].as_object().unwrap().values();
        let managers = managers.flat_map(|list| list.as_array().unwrap());
        let people: Vec<i64> = [&self.people["wearer"]]
            .into_iter()
            .chain(managers)
            .filter_map(Value::as_i64)
            .collect();
        let tenant = TenantContacts {
            kinds: accounts.kinds(),
            accounts: Arc::new(accounts),
            addresses: addresses.collect(),
        };
        Contacts::new(tenant, &people)
    }

    fn choose(&self, channels: Channels) -> Option<Choice> {
        // Without people, somebody is told always.
        (!self.people.is_null()).then(|| self.contacts().choose(channels, &|_| false))
    }
}

impl Router for World {
    fn route(&self, _: Ids, device_sn: &DeviceSn, rule: &Rule) -> Option<Routed> {
        let covers = |(silenced, until): &(String, i64)| {
            silenced == device_sn.as_str() && self.now_ms < *until
        };
        if self.silences.iter().any(covers) {
            return Some(Routed::Nobody(OwedReason::Silenced));
        }
        let choice = self.choose(rule.channels);
        Some(choice.map_or(Routed::Somebody, |choice| choice.routed()))
    }
}

/// A transition in the form of the examples.
fn told(at: &Value, change: &Change) -> Map<String, Value> {
    let transition = change.transition;
    let mut told = object(json!({
        "rule": change.rule_id, "to": transition.to.as_str(),
        "severity": transition.severity.as_str(), "notify": transition.notify,
        "at": at, "device_sn": change.device_sn.as_str(),
    }));
    if let Some(Routed::Nobody(reason)) = transition.routed {
        told.insert("why".into(), reason.as_str().into());
    }
    told
}

fn happens(world: &mut World, engine: &mut Engine, event: &Value) -> Vec<Change> {
    world.now_ms = epoch_ms(&event["at"]);
    match event["do"].as_str().unwrap() {
        "silence" => {
            let device_sn = event["device_sn"].as_str().unwrap().to_owned();
            world.silences.push((device_sn, epoch_ms(&event["until"])));
            Vec::new()
        }
        "people" => {
            for (name, value) in event["set"].as_object().unwrap() {
                world.people[name] = value.clone();
            }
            Vec::new()
        }
        "look" => {
            let (ends, _) = engine.tick(0, world.now_ms, &*world);
            let (owed, _) = engine.look(0, world.now_ms, true, &*world);
            ends.into_iter().chain(owed).collect()
        }
        other => panic!("{other}"),
    }
}

/// The names of what an example says of a transition, except the place of its reading.
const SAID: [&str; 7] = ["rule", "to", "severity", "notify", "at", "device_sn", "why"];

/// An engine with the rules of an example.
fn engine(case: &Value) -> Engine {
    let name = &case["name"];
    let rules = case["rules"].as_array().unwrap().iter().map(|rule| {
        match check(&object(rule.clone()), 1).checked {
            RuleStatus::Valid(rule) => *rule,
            other => panic!("{name}: {other:?}"),
        }
    });
    let zone = jiff::tz::TimeZone::get("Asia/Shanghai").unwrap();
    let mut engine = Engine::new(zone, DeviceLimits::default());
    engine.set_rules(Arc::new(RuleSet::new(rules)));
    engine.load(0, StoredPartition::default());
    engine.realign(0);
    engine
}

fn play(case: &Value) {
    let (name, mut engine) = (&case["name"], engine(case));
    let mut world = World { people: case["people"].clone(), silences: Vec::new(), now_ms: 0 };
    // An event stands before a reading of the same time.
    let mut steps: BTreeMap<(i64, bool, usize), &Value> = BTreeMap::new();
    for (place, event) in case["events"].as_array().into_iter().flatten().enumerate() {
        steps.insert((epoch_ms(&event["at"]), false, place), event);
    }
    for (place, fields) in case["readings"].as_array().unwrap().iter().enumerate() {
        let received = fields.get("received").unwrap_or(&fields["timestamp"]);
        steps.insert((epoch_ms(received), true, place), fields);
    }
    let (mut found, mut unreachable, mut operators) = (Vec::new(), Vec::new(), Vec::new());
    for ((at_ms, is_reading, _), step) in steps {
        world.now_ms = at_ms;
        let changes = if is_reading {
            let mut fields = step.clone();
            fields.as_object_mut().unwrap().remove("received");
            fields["received_at"] = at_ms.into();
            let reading = reading(fields);
            let arrival = Arrival::from(&reading);
            engine.evaluate(0, arrival, &world).changes
        } else {
            happens(&mut world, &mut engine, step)
        };
        let unreached =
            |one: OwedEpisode| one.severity >= Severity::Major && one.reason.is_unreachable();
        if operators.is_empty() && engine.owed().any(unreached) {
            let at = if is_reading { &step["timestamp"] } else { &step["at"] };
            operators.push(json!({"at": at, "event": "no_recipient_reached"}));
        }
        for change in &changes {
            found.push(told(&wall_text(change.at.wall).into(), change));
            let rule = change.rule.as_ref().unwrap();
            if change.transition.routed.is_some() && !change.transition.on_watch {
                let ways = world.choose(rule.channels).unwrap_or_default().unreachable;
                let ways = ways.iter().map(|(word, reason)| format!("{word}:{}", reason.as_str()));
                unreachable.extend(ways);
            }
        }
    }
    let expected = case["transitions"].as_array().unwrap();
    assert_eq!(found.len(), expected.len(), "{name}: {found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        let named = SAID.into_iter().filter(|said| expected.get(said).is_some());
        for said in named {
            assert_eq!(found.get(said), expected.get(said), "{name}: {said} of {found:?}");
        }
        if let Some(place) = expected.get("reading").and_then(Value::as_u64) {
            let reading = &case["readings"][place as usize];
            assert_eq!(found["at"], reading["timestamp"], "{name}: {found:?}");
        }
    }
    if let Some(expected) = case.get("unreachable") {
        assert_eq!(json!(unreachable), *expected, "{name}");
    }
    if let Some(expected) = case.get("operators") {
        assert_eq!(json!(operators), *expected, "{name}");
    }
}

#[test]
fn every_worked_example_of_what_is_owed_comes_out_as_written() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/cases/alert2_cases.json");
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = cases["cases"].as_array().unwrap().iter();
    let cases: Vec<&Value> =
        cases.filter(|case| SECTIONS.iter().any(|one| case["section"] == *one)).collect();
    assert_eq!(cases.len(), 15);
    cases.into_iter().for_each(play);
}

#[test]
fn an_account_that_breaks_within_a_batch_is_passed_over_by_the_next_one() {
    let people = json!({"wearer": 11, "managers": {}, "addresses": {"11": ["openid:o11"]}});
    let world = World { people, silences: Vec::new(), now_ms: 0 };
    let ids = Ids { customer_id: Some(7), ..Ids::default() };
    let limits = Arc::new(AccountLimits::new(50));
    let router = || {
        let mut router = PeopleRouter::new(ActiveSilences::unread(), Arc::clone(&limits), 0);
        router.add(HashMap::from([(ids, world.contacts())]));
        router
    };
    let wechat = Channels { wechat: true, ..Channels::default() };
    let routed = |router: &PeopleRouter| router.choose(ids, wechat).unwrap().routed();
    let before = router();
    let (account, now) = ("official:wx7", Instant::now());
    limits.admit(account, 1, (7, Channel::Official), now).unwrap();
    limits.report(account, AccountHealth::Broken(std::time::Duration::from_secs(300)), now, 0.0);
    assert_eq!(routed(&before), Routed::Somebody);
    assert_eq!(routed(&router()), Routed::Nobody(OwedReason::NoAccount));
}
