//! How good the alerts of a span of time were, by rule and tenant.
//!
//! ```text
//! t_alert_info, outbox, log ─ episodes ─► aggregate ─┐
//! outbox, log, t_alert_suppressed ─ counts ──────────┼─► Report ─► print
//! t_alert_rules ─ findings ──────────────────────────┘
//! ```
//!
//! Changes nothing. `aggregate`, `percentiles` and `findings` are pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ljwx_ledger::mysql::MySqlConnection;
use serde::Serialize;

use super::aggregate::{Fold, Tally};
use super::counts::{Counted, NotSent, Notifications};
use super::findings::{AllDay, NeverFired, all_day, never_fired};
use super::query::Question;
use crate::rules::rule::Rule;

/// What is said of one rule and tenant. Times are in milliseconds; `None` where there is nothing to
/// measure.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Line {
    /// The rule; 0 for notifications of no single alert that is there.
    pub rule_id: i64,
    /// The tenant.
    pub customer_id: i64,
    /// The platform's word for the kind of alert.
    pub alert_type: String,
    /// Episodes that opened in the span.
    pub episodes: u64,
    /// Of these, those that somebody was told of.
    pub told: u64,
    /// Of these, those that ended.
    pub ended: u64,
    /// Episodes that go on, those that opened earlier included.
    pub open: u64,
    /// Half of those that ended lasted no longer.
    pub lasted_p50_ms: Option<i64>,
    /// From the event to the first delivery.
    pub event_to_delivery_p50_ms: Option<i64>,
    /// See there.
    pub event_to_delivery_p95_ms: Option<i64>,
    /// From the first notification's recording to the first delivery.
    pub recorded_to_delivery_p50_ms: Option<i64>,
    /// See there.
    pub recorded_to_delivery_p95_ms: Option<i64>,
    /// Whether these are of a part of the episodes only, because there are so many.
    pub sampled: bool,
    /// How often a device began to flap; `None` where the rule is gone.
    pub flaps: Option<u64>,
    /// Notifications that were not sent, by reason.
    pub suppressed: BTreeMap<String, i64>,
    /// What became of those that were recorded.
    pub notifications: Vec<Notifications>,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Event time from which on.
    pub from: String,
    /// Event time before which.
    pub to: String,
    /// The zone of both.
    pub time_zone: String,
    /// The only tenant it is about.
    pub customer_id: Option<i64>,
    /// What is said of each rule and tenant.
    pub lines: Vec<Line>,
    /// Rules in force of which no episode was open in the span.
    pub never_fired: Vec<NeverFired>,
    /// Rules that fire all day.
    pub all_day: Vec<AllDay>,
    /// What the numbers do not include.
    pub notes: Vec<String>,
}

/// Makes the report; `rules` are the valid ones, `now_ms` is the time.
pub async fn make(
    connection: &mut MySqlConnection,
    question: &Question,
    rules: Vec<Rule>,
    now_ms: i64,
) -> anyhow::Result<Report> {
    let policies: HashMap<_, _> = rules.iter().map(|rule| (rule.id, rule.policy.clone())).collect();
    let mut fold = Fold::new(question.from_ms, question.to_ms, &policies);
    super::episodes::read(&mut *connection, question, &mut fold).await?;
    let notifications = super::counts::notifications(&mut *connection, question).await?;
    let not_sent = super::counts::not_sent(connection, question).await?;
    Ok(assemble(question, rules, fold.finish(), (notifications, not_sent), now_ms))
}

fn assemble(
    question: &Question,
    rules: Vec<Rule>,
    tallies: Vec<Tally>,
    (notifications, not_sent): (Vec<Counted>, Vec<NotSent>),
    now_ms: i64,
) -> Report {
    let all_day = all_day(&tallies);
    let seen: BTreeSet<_> = tallies.iter().map(|tally| tally.rule_id).collect();
    let names: HashMap<_, _> =
        rules.iter().map(|rule| (rule.id, rule.alert_type().to_owned())).collect();
    let mut lines: BTreeMap<_, _> = tallies
        .into_iter()
        .map(|tally| ((tally.rule_id, tally.customer_id), Line::from(tally)))
        .collect();
    // A notification, or one that was not sent, may be of an episode before the span.
    let blank = |rule_id, customer_id| Line {
        rule_id,
        customer_id,
        alert_type: names.get(&rule_id).cloned().unwrap_or_default(),
        ..Line::default()
    };
    for Counted { rule_id, customer_id, what } in notifications {
        let line = lines.entry((rule_id, customer_id));
        line.or_insert_with(|| blank(rule_id, customer_id)).notifications.push(what);
    }
    for NotSent { rule_id, customer_id, reason, suppressed } in not_sent {
        let line = lines.entry((rule_id, customer_id));
        let line = line.or_insert_with(|| blank(rule_id, customer_id));
        line.suppressed.insert(reason, suppressed);
    }
    let lines: Vec<_> = lines.into_values().collect();
    Report {
        from: question.wall(question.from_ms),
        to: question.wall(question.to_ms),
        time_zone: question.zone.iana_name().unwrap_or("fixed offset").to_owned(),
        customer_id: question.customer_id,
        never_fired: never_fired(rules, question.customer_id, &seen),
        all_day,
        notes: super::findings::notes(question, now_ms, lines.iter().any(|line| line.sampled)),
        lines,
    }
}

impl From<Tally> for Line {
    fn from(tally: Tally) -> Self {
        let [lasted] = tally.lasted.percentiles([50]);
        let [event_p50, event_p95] = tally.since_event.percentiles([50, 95]);
        let [recorded_p50, recorded_p95] = tally.since_recorded.percentiles([50, 95]);
        Self {
            rule_id: tally.rule_id,
            customer_id: tally.customer_id,
            alert_type: tally.alert_type,
            episodes: tally.episodes,
            told: tally.told,
            ended: tally.ended,
            open: tally.open,
            lasted_p50_ms: lasted,
            event_to_delivery_p50_ms: event_p50,
            event_to_delivery_p95_ms: event_p95,
            recorded_to_delivery_p50_ms: recorded_p50,
            recorded_to_delivery_p95_ms: recorded_p95,
            sampled: tally.lasted.is_partial() || tally.since_event.is_partial(),
            flaps: tally.flaps,
            suppressed: BTreeMap::new(),
            notifications: Vec::new(),
        }
    }
}
