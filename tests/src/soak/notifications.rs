//! The patients' rule, and the comparison of the patients' episodes with the messages that people received:
//! one for each beginning, one for each end, and another only if it says that it may be a repeat.
//!
//! While no account works, a beginning is owed. What lasts is then notified by a later message that names the
//! minute of the beginning. What is over by then is notified to nobody, neither beginning nor end.

use std::collections::{BTreeMap, BTreeSet};

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

/// Ends the time of a message that names the minute of the beginning.
const SINCE: &str = "起";

/// A device, and the stored time of an episode's beginning.
type Beginning = (String, String);

/// Returns the episodes of which no notification was ever written, and how many openings the alerters have
/// counted that no account could send.
pub(super) async fn never_sent(world: &World) -> anyhow::Result<(BTreeSet<Beginning>, i64)> {
    let database = &world.database;
    let alerts = "SELECT device_sn, DATE_FORMAT(occur_at, '%Y-%m-%d %H:%i:%s') FROM t_alert_info \
                  WHERE NOT EXISTS (SELECT 1 FROM t_alert_outbox WHERE episode_key = dedup_key)";
    let text = |value: Option<String>| value.unwrap_or_default();
    let pair = |row: Vec<Option<String>>| {
        let mut values = row.into_iter().map(text);
        (values.next().unwrap_or_default(), values.next().unwrap_or_default())
    };
    let alerts = database.rows(alerts).await?.into_iter().map(pair).collect();
    let owed = "SELECT CAST(COALESCE(SUM(suppressed), 0) AS SIGNED) FROM t_alert_suppressed \
                WHERE reason = 'no_account'";
    Ok((alerts, database.number(owed).await?))
}

/// Compares the messages with the episodes, and adds what holds or does not to the verdict. `never_sent` are
/// the episodes of which nothing was sent because they were over before an account worked.
pub(super) fn compare(
    episodes: &[Episode],
    messages: &[Message],
    never_sent: &BTreeSet<Beginning>,
    verdict: &mut Verdict,
) {
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
        let begun = wall_time(*opened);
        if never_sent.contains(&(device.clone(), begun.clone())) {
            continue;
        }
        for (ends, at) in [(false, opened), (true, ended)] {
            let transition = (device.clone(), ends, wall_time(*at));
            let name = name(&transition);
            let minute = begun.get(.."yyyy-MM-dd HH:mm".len()).unwrap_or_default();
            let since = (device.clone(), ends, format!("{minute}{SINCE}"));
            match received.remove(&transition).or_else(|| received.remove(&since)) {
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
        let (count, all) = (episodes.len() - never_sent.len(), messages.len());
        verdict.facts.push(format!(
            "{count} episodes were notified from beginning to end by {all} messages, {marked} of \
             them marked as a repeat; {} were over before an account worked",
            never_sent.len()
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
        let late = || {
            let mut late = message("持续 心率过高 151", "高级", AT);
            let since = format!("{}{SINCE}", &wall_time(AT)[.."yyyy-MM-dd HH:mm".len()]);
            if let Some((_, time)) = late.fields.last_mut() {
                *time = since;
            }
            late
        };
        for (messages, problem) in [
            (vec![opening(), end()], None),
            (vec![opening(), again(), again(), end()], None),
            (vec![again(), end()], None),
            (vec![opening()], Some("1: transitions of which nobody was notified, such as the end")),
            (vec![opening(), opening(), end()], Some("1: transitions notified again")),
            (vec![opening(), end(), other()], Some("1: messages about no transition")),
            (vec![late(), end()], None),
            (vec![late()], Some("1: transitions of which nobody was notified, such as the end")),
        ] {
            let mut verdict = Verdict::default();
            let none = BTreeSet::new();
            compare(std::slice::from_ref(&episode), &messages, &none, &mut verdict);
            let found = verdict.problems.join("; ");
            assert!(found.starts_with(problem.unwrap_or_default()), "{messages:?}: {found}");
            assert_eq!(verdict.problems.len(), usize::from(problem.is_some()), "{found}");
        }
    }

    #[test]
    fn what_was_over_before_an_account_worked_needs_no_message_and_may_have_none() {
        let episode = Episode { device: "a".to_owned(), opened: AT, ended: AT + 60 };
        let over = BTreeSet::from([("a".to_owned(), wall_time(AT))]);
        let end = message("已恢复 心率 88", ENDED, AT + 60);
        for (messages, problems) in [(vec![], 0), (vec![end], 1)] {
            let mut verdict = Verdict::default();
            compare(std::slice::from_ref(&episode), &messages, &over, &mut verdict);
            assert_eq!(verdict.problems.len(), problems, "{:?}", verdict.problems);
        }
    }
}
