//! Tries to notify what is owed, by the wall clock and without readings.
//!
//! Pure. [`crate::engine::owed::index`] decides which episodes are tried.

use std::collections::BTreeSet;
use std::sync::Arc;

use ljwx_reading::Ids;

use crate::engine::device::{RuleState, tenant};
use crate::engine::episode::Episode;
use crate::engine::no_data::episodes::{next_look, silence};
use crate::engine::outcome::{CHANGES_MAX, Change, EventTime, OwedEpisode, Progress, moment};
use crate::engine::owed::index::{EpisodePlace, OWED_INTERVAL_MS};
use crate::engine::partition::Partition;
use crate::engine::routing::{Basis, OwedReason};
use crate::engine::step::RuleStep;
use crate::rules::Rule;
use crate::rules::index::RuleSet;

impl Partition {
    /// Whether all records until shortly before `now_ms` have been evaluated.
    pub(in crate::engine) fn is_current(&self, now_ms: i64) -> bool {
        now_ms - self.clock.clock_ms() < OWED_INTERVAL_MS
    }

    /// Tries the episodes whose last try is long enough ago, up to [`CHANGES_MAX`] changes, and returns
    /// the changes and the people to look up. The caller must look again at episodes whose people were
    /// not known.
    pub(in crate::engine) fn look(&mut self, basis: Basis<'_>, at_end: bool) -> Progress {
        let all_read = at_end || self.is_current(basis.now_ms);
        let at = moment(basis.zone, basis.now_ms);
        let (mut changes, mut unknown) = (Vec::new(), BTreeSet::new());
        for place in self.touched.owed.due(basis.now_ms) {
            if changes.len() >= CHANGES_MAX {
                break;
            }
            match self.notify_owed(&place, (at, all_read), basis) {
                Ok(change) => changes.extend(change),
                Err(ids) => drop(unknown.insert(ids)),
            }
        }
        (changes, unknown)
    }

    fn notify_owed(
        &mut self,
        place: &EpisodePlace,
        (at, all_read): (EventTime, bool),
        basis: Basis<'_>,
    ) -> Result<Option<Change>, Ids> {
        let Some((tracked, rule)) = self.owing(place, basis.rules) else { return Ok(None) };
        let (episode, memory) = (tracked.episode.clone(), tracked.memory.clone());
        let (device_sn, rule_id) = place;
        let owed = episode.open().and_then(|open| open.owed()).copied();
        let (Some(owed), Some(device)) = (owed, self.devices.get_mut(device_sn)) else {
            return Ok(None);
        };
        let window_ms = rule.no_data_window();
        // A reading that is not evaluated yet may end it.
        if !all_read && (window_ms.is_some() || owed.reason == OwedReason::Late) {
            return Ok(None);
        }
        let verdict = match window_ms {
            Some(window_ms) => silence(device, window_ms, at.ms, true),
            None => owed.verdict,
        };
        let step = RuleStep { rule, device_sn, at, basis };
        let touched = &mut self.touched;
        let look = step.make(device, touched, (episode, memory), verdict, Episode::look);
        if window_ms.is_some() && matches!(look, Ok(Some(_))) {
            self.deadlines.schedule(device_sn, *rule_id, next_look(device, rule, at.ms));
        }
        look
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
    pub(in crate::engine) fn owed(&self) -> impl Iterator<Item = OwedEpisode> {
        self.touched.owed.places().filter_map(move |(sn, rule_id)| {
            let tracked = self.devices.get(sn)?.tracked.get(rule_id)?;
            let open = tracked.episode.open()?;
            let reason = open.owed()?.reason;
            let customer_id = tracked.ids.customer_id;
            Some(OwedEpisode { customer_id, severity: open.severity, reason })
        })
    }

    /// Finds the episodes that owe a notification.
    pub(in crate::engine) fn index_owed(&mut self) {
        let owing = self.devices.iter().flat_map(|(sn, device)| {
            let owing = device.tracked.iter().filter(|(_, tracked)| tracked.episode.owes());
            owing.map(move |(rule_id, _)| (sn.clone(), *rule_id))
        });
        self.touched.owed.set(owing);
    }
}
