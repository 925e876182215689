//! Tries to notify what is owed, by the wall clock and without readings.
//!
//! Pure. [`crate::engine::owed_index`] decides which episodes are tried.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::tz::TimeZone;
use ljwx_reading::Ids;

use crate::engine::device::RuleState;
use crate::engine::episode::StepContext;
use crate::engine::no_data::episodes::{next_look, silence, tenant};
use crate::engine::outcome::{Change, EventTime, OwedEpisode, moment};
use crate::engine::owed_index::EpisodePlace;
use crate::engine::partition::Partition;
use crate::engine::routing::{DueNotification, Question, RoutingAt};
use crate::rules::index::RuleSet;
use crate::rules::rule::{Rule, Trigger};

impl Partition {
    /// Tries every episode whose last try is long enough ago. The error names the people to look up
    /// first; then nothing has changed.
    pub(super) fn look(
        &mut self,
        rules: &RuleSet,
        zone: &TimeZone,
        routing: RoutingAt<'_>,
    ) -> Result<Vec<Change>, BTreeSet<Ids>> {
        let due = self.touched.owed.due(routing.now_ms);
        let unknown = due.iter().filter_map(|place| {
            let (tracked, rule) = self.owing(place, rules)?;
            let due = DueNotification { ids: tracked.ids, device_sn: &place.0, rule };
            routing.router.route(&due).is_none().then_some(tracked.ids)
        });
        let unknown: BTreeSet<Ids> = unknown.collect();
        if !unknown.is_empty() {
            return Err(unknown);
        }
        let at = moment(zone, routing.now_ms);
        Ok(due.iter().filter_map(|place| self.notify_owed(place, rules, at, routing)).collect())
    }

    fn notify_owed(
        &mut self,
        place: &EpisodePlace,
        rules: &RuleSet,
        at: EventTime,
        routing: RoutingAt<'_>,
    ) -> Option<Change> {
        let rule = Arc::clone(self.owing(place, rules)?.1);
        let (sn, rule_id) = place;
        let device = self.devices.get_mut(sn)?;
        let silence = match rule.trigger {
            Trigger::NoData(window_ms) => Some(silence(device, window_ms, at.ms, true)),
            Trigger::Range(_) | Trigger::Conditions(_) => None,
        };
        let tracked = device.tracked.get_mut(rule_id)?;
        let owed = tracked.episode.open()?.owed()?;
        let verdict = silence.unwrap_or_else(|| owed.verdict());
        let ids = tracked.ids;
        let question = Question::new(routing, DueNotification { ids, device_sn: sn, rule: &rule });
        let context = StepContext {
            policy: &rule.policy,
            at: at.ms,
            late: false,
            route: &|| question.route(),
        };
        let before = std::mem::take(&mut tracked.episode);
        let (after, transition) = before.clone().look(&context);
        if after != before {
            self.touched.stepped.insert((*rule_id, sn.clone()));
        }
        let owes = [true, after.owes()];
        self.touched.owed.step((sn, *rule_id), owes, question.was_asked(), routing.now_ms);
        tracked.episode = after;
        let transition = transition?;
        if let Some(memory) = &mut tracked.memory {
            memory.transition_made();
        }
        if silence.is_some() {
            self.deadlines.schedule(sn, *rule_id, next_look(device, &rule, at.ms));
        }
        Some(Change::of(&rule, (sn, ids), transition, verdict, at))
    }

    /// Returns the state of an episode and its rule. `None`: the rule is no longer active.
    fn owing<'a>(
        &self,
        (sn, rule_id): &EpisodePlace,
        rules: &'a RuleSet,
    ) -> Option<(&RuleState, &'a Arc<Rule>)> {
        let tracked = self.devices.get(sn)?.tracked.get(rule_id)?;
        let rule = rules.in_force(tenant(tracked.ids), *rule_id)?;
        (rule.version == tracked.version).then_some((tracked, rule))
    }

    /// Returns the episodes that owe a notification.
    pub(super) fn owed(&self) -> impl Iterator<Item = OwedEpisode> {
        self.touched.owed.places().filter_map(move |(sn, rule_id)| {
            let tracked = self.devices.get(sn)?.tracked.get(rule_id)?;
            let open = tracked.episode.open()?;
            let reason = open.owed()?.reason;
            let customer_id = tracked.ids.customer_id;
            Some(OwedEpisode { customer_id, severity: open.severity, reason })
        })
    }

    /// Finds the episodes that owe a notification, and forgets those that are over.
    pub(super) fn index_owed(&mut self) {
        let owing = self.devices.iter().flat_map(|(sn, device)| {
            let owing = device.tracked.iter().filter(|(_, tracked)| tracked.episode.owes());
            owing.map(move |(rule_id, _)| (sn.clone(), *rule_id))
        });
        self.touched.owed.set(owing);
    }
}
