//! The patients' rule, and the comparison of the patients' episodes with the messages that people received:
//! one for each beginning, one for each end, and another only if it says that it may be a repeat.

use std::collections::BTreeMap;

use crate::accounting::verdict::{Verdict, wall_time};
use crate::fakes::platform::{self, Rule};
use crate::fakes::wechat::Message;
use crate::stack::world::World;

/// The rule whose episodes are known: each breach opens one, each reading after it ends one. A
/// critical alert is never in a digest, also after an outage.
const RULE: Rule = Rule {
    rule_type: "HEARTRATE_HIGH_ALERT",
    sign: "heart_rate",
    min: None,
    max: Some(120.0),
    trend: 1,
    cooldown: 0,
    severity: "critical",
    message: "{device_sn}",
};

/// The level of a message that reports an end.
const ENDED: &str = "已恢复";

/// The mark of a message that may be a repeat.
const REPEAT: &str = "重复?";

/// A breach, from its first reading to the first reading after it, in epoch seconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Episode {
    pub(super) device: String,
    pub(super) opened: i64,
    pub(super) ended: i64,
}

/// Writes the patients' rule into the platform's tables.
pub(super) async fn seed(world: &World) -> anyhow::Result<()> {
    platform::seed(world, &[RULE]).await?;
    // Flapping would suppress notifications.
    world.database.execute("UPDATE t_alert_rules SET flap_openings = 1000").await
}

/// The transition that a message reports: device, whether it is an end, and the reading's time.
type Transition = (String, bool, String);

/// The messages about a transition.
#[derive(Debug, Default)]
struct Messages {
    plain: u32,
    marked: u32,
}

/// Compares the messages with the episodes, and adds what holds or does not to the verdict.
pub(super) fn compare(episodes: &[Episode], messages: &[Message], verdict: &mut Verdict) {
    let mut received: BTreeMap<Transition, Messages> = BTreeMap::new();
    for message in messages {
        let ends = field(message, "keyword3") == ENDED;
        let transition =
            (field(message, "keyword1").to_owned(), ends, field(message, "keyword4").to_owned());
        let about = received.entry(transition).or_default();
        let repeats = field(message, "keyword2").contains(REPEAT);
        *(if repeats { &mut about.marked } else { &mut about.plain }) += 1;
    }
    let marked: u32 = received.values().map(|about| about.marked).sum();
    let (mut missing, mut repeated) = (Vec::new(), Vec::new());
    for Episode { device, opened, ended } in episodes {
        for (ends, at) in [(false, opened), (true, ended)] {
            let transition = (device.clone(), ends, wall_time(*at));
            let name = name(&transition);
            match received.remove(&transition) {
                None => missing.push(name),
                Some(about) if about.plain > 1 => repeated.push(name),
                Some(_) => {}
            }
        }
    }
    let strange: Vec<String> = received.keys().map(name).collect();
    verdict.examples("transitions of which nobody was notified", &missing);
    verdict.examples("transitions notified again without a mark", &repeated);
    verdict.examples("messages about no transition", &strange);
    if missing.is_empty() && repeated.is_empty() && strange.is_empty() {
        let (count, all) = (episodes.len(), messages.len());
        verdict.facts.push(format!(
            "{count} episodes were notified from beginning to end by {all} messages, {marked} of \
             them marked as a repeat"
        ));
    }
}

/// Returns a field of a message as it is shown.
fn field<'a>(message: &'a Message, name: &str) -> &'a str {
    let found = message.fields.iter().find(|(field, _)| field == name);
    found.map_or("", |(_, value)| value.as_str())
}

fn name((device, ends, at): &Transition) -> String {
    format!("{} of {device} at {at}", if *ends { "the end" } else { "the beginning" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::wechat::Kind;

    const AT: i64 = 1_756_800_540;

    fn message(event: &str, level: &str, at: i64) -> Message {
        let fields = [("keyword1", "a".to_owned()), ("keyword2", event.to_owned())];
        let more = [("keyword3", level.to_owned()), ("keyword4", wall_time(at))];
        Message {
            number: 0,
            arrived: std::time::Duration::ZERO,
            kind: Kind::Official,
            account: "wx1".to_owned(),
            touser: "o1".to_owned(),
            client_msg_id: None,
            fields: fields
                .into_iter()
                .chain(more)
                .map(|(name, value)| (name.into(), value))
                .collect(),
        }
    }

    #[test]
    fn each_transition_is_notified_once_and_again_only_with_its_mark() {
        let episode = Episode { device: "a".to_owned(), opened: AT, ended: AT + 60 };
        let opening = || message("心率过高 151", "高级", AT);
        let again = || message("重复? 心率过高 151", "高级", AT);
        let end = || message("已恢复 心率 88", ENDED, AT + 60);
        let other = || message("已恢复 心率 88", ENDED, AT + 61);
        for (messages, problem) in [
            (vec![opening(), end()], None),
            (vec![opening(), again(), again(), end()], None),
            (vec![again(), end()], None),
            (vec![opening()], Some("1: transitions of which nobody was notified, such as the end")),
            (vec![opening(), opening(), end()], Some("1: transitions notified again")),
            (vec![opening(), end(), other()], Some("1: messages about no transition")),
        ] {
            let mut verdict = Verdict::default();
            compare(std::slice::from_ref(&episode), &messages, &mut verdict);
            let found = verdict.problems.join("; ");
            assert!(found.starts_with(problem.unwrap_or_default()), "{messages:?}: {found}");
            assert_eq!(verdict.problems.len(), usize::from(problem.is_some()), "{found}");
        }
    }
}
