//! Assembles the report on the alerts of a period, by rule and tenant.
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

use super::aggregate::{Aggregation, RuleStats};
use super::counts::{NotSent, NotificationCounts, NotificationGroup};
use super::findings::{AllDay, NeverFired, all_day, never_fired};
use super::query::ReportQuery;
use crate::rules::rule::Rule;

/// The figures of one rule and tenant. Times are in milliseconds. `None`: there is nothing to
/// measure.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RuleSummary {
    /// The rule. 0: notifications that belong to no single existing alert.
    pub rule_id: i64,
    /// The tenant.
    pub customer_id: i64,
    /// The platform's word for the kind of alert.
    pub alert_type: String,
    /// Episodes that opened in the period.
    pub episodes: u64,
    /// Of these, episodes that someone was notified of.
    pub told: u64,
    /// Of these, episodes that ended.
    pub ended: u64,
    /// Open episodes, including those that opened before the period.
    pub open: u64,
    /// Median duration of the episodes that ended.
    pub lasted_p50_ms: Option<i64>,
    /// Median time from the event to the first delivery.
    pub event_to_delivery_p50_ms: Option<i64>,
    /// 95th percentile of the time from the event to the first delivery.
    pub event_to_delivery_p95_ms: Option<i64>,
    /// Median time from the recording of the first notification to the first delivery.
    pub recorded_to_delivery_p50_ms: Option<i64>,
    /// 95th percentile of the time from the recording to the first delivery.
    pub recorded_to_delivery_p95_ms: Option<i64>,
    /// Whether these times cover only a part of the episodes, because there are many.
    pub sampled: bool,
    /// Number of times that a device began to flap. `None` if the rule no longer exists.
    pub flaps: Option<u64>,
    /// Suppressed notifications, by reason.
    pub suppressed: BTreeMap<String, i64>,
    /// Recorded notifications, by outcome.
    pub notifications: Vec<NotificationGroup>,
}

/// The report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AlertReport {
    /// Start of the period, by event time.
    pub from: String,
    /// End of the period, by event time, exclusive.
    pub to: String,
    /// The zone of both times.
    pub time_zone: String,
    /// The only tenant of the report. `None`: all tenants.
    pub customer_id: Option<i64>,
    /// The figures of each rule and tenant.
    pub lines: Vec<RuleSummary>,
    /// Active rules without an open episode in the period.
    pub never_fired: Vec<NeverFired>,
    /// Rules that fire all day.
    pub all_day: Vec<AllDay>,
    /// Notes on what the figures do not include.
    pub notes: Vec<String>,
}

/// Makes the report. `rules` are the valid rules, and `now_ms` is the present time.
pub async fn make(
    connection: &mut MySqlConnection,
    question: &ReportQuery,
    rules: Vec<Rule>,
    now_ms: i64,
) -> anyhow::Result<AlertReport> {
    let policies: HashMap<_, _> = rules.iter().map(|rule| (rule.id, rule.policy.clone())).collect();
    let mut fold = Aggregation::new(question.from_ms, question.to_ms, &policies);
    super::episodes::read(&mut *connection, question, &mut fold).await?;
    let notifications = super::counts::notifications(&mut *connection, question).await?;
    let not_sent = super::counts::not_sent(connection, question).await?;
    Ok(assemble(question, rules, fold.finish(), (notifications, not_sent), now_ms))
}

fn assemble(
    question: &ReportQuery,
    rules: Vec<Rule>,
    tallies: Vec<RuleStats>,
    (notifications, not_sent): (Vec<NotificationCounts>, Vec<NotSent>),
    now_ms: i64,
) -> AlertReport {
    let all_day = all_day(&tallies);
    let seen: BTreeSet<_> = tallies.iter().map(|tally| tally.rule_id).collect();
    let names: HashMap<_, _> =
        rules.iter().map(|rule| (rule.id, rule.alert_type().to_owned())).collect();
    let mut lines: BTreeMap<_, _> = tallies
        .into_iter()
        .map(|tally| ((tally.rule_id, tally.customer_id), RuleSummary::from(tally)))
        .collect();
    // A notification, or a suppressed one, may belong to an episode before the period.
    let blank = |rule_id, customer_id| RuleSummary {
        rule_id,
        customer_id,
        alert_type: names.get(&rule_id).cloned().unwrap_or_default(),
        ..RuleSummary::default()
    };
    for NotificationCounts { rule_id, customer_id, what } in notifications {
        let line = lines.entry((rule_id, customer_id));
        line.or_insert_with(|| blank(rule_id, customer_id)).notifications.push(what);
    }
    for NotSent { rule_id, customer_id, reason, suppressed } in not_sent {
        let line = lines.entry((rule_id, customer_id));
        let line = line.or_insert_with(|| blank(rule_id, customer_id));
        line.suppressed.insert(reason, suppressed);
    }
    let lines: Vec<_> = lines.into_values().collect();
    AlertReport {
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

impl From<RuleStats> for RuleSummary {
    fn from(tally: RuleStats) -> Self {
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
