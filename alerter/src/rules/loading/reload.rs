//! Keeps the active rules up to date. Reads the source every few seconds, and at once after a
//! message that rules changed. Hands out a new set if a rule changed.
//!
//! If a rule is invalid, only this rule is affected: its last good version stays active. If the
//! source cannot be read, all rules stay as they are. If the last good versions cannot be stored or
//! read, the rules load all the same.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ljwx_ledger::mysql::MySqlPool;
use ljwx_service::lifecycle::EssentialTasks;
use metrics::{counter, gauge};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::last_good::{LastGoodStore, ROWS_MAX};
use super::shrinkage::{SourceDecision, SourceGuard};
use super::source::RuleSource;
use super::versions::{RuleVersions, SourceUpdate, StoreDiff};
use crate::metrics as names;
use crate::rules::index::RuleSet;

/// Shortest time from one reload to a reload by message: an edit of many rules sends many messages.
const LOAD_INTERVAL_MIN: Duration = Duration::from_millis(200);

/// Takes the text for operators if a source is not taken over.
pub type OnShrunk = Box<dyn Fn(String) + Send + Sync>;

/// The task that keeps the rules up to date.
pub struct RuleReloader {
    source: RuleSource,
    store: LastGoodStore,
    accepted: RuleVersions,
    shrinkage: SourceGuard,
    on_shrunk: OnShrunk,
    /// Whether the last access to the store failed.
    unreachable: bool,
}

impl RuleReloader {
    /// Reads `source`, and keeps last good versions in the database of `pool`. Calls `on_shrunk`
    /// when a source is not taken over, and again once a day while that lasts.
    pub fn new(
        source: RuleSource,
        pool: MySqlPool,
        shrinkage: SourceGuard,
        on_shrunk: OnShrunk,
    ) -> Self {
        let store = source.store(pool);
        let accepted = RuleVersions::default();
        Self { source, store, accepted, shrinkage, on_shrunk, unreachable: false }
    }

    /// Starts the task, which reloads `every` so often, and soon after a message. The receiver
    /// holds `None` until the rules were read once.
    pub fn start(
        mut self,
        every: Duration,
        mut edits: watch::Receiver<()>,
        essential: &EssentialTasks,
        stop: &CancellationToken,
    ) -> watch::Receiver<Option<Arc<RuleSet>>> {
        let (sender, receiver) = watch::channel(None);
        let stopped = stop.clone();
        essential.spawn("the rule reloader", stop, async move {
            let mut tick = interval(every);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut looked_at = Instant::now();
            loop {
                tokio::select! {
                    () = stopped.cancelled() => return,
                    _ = tick.tick() => {}
                    Ok(()) = edits.changed() => sleep_until(looked_at + LOAD_INTERVAL_MIN).await,
                }
                looked_at = Instant::now();
                // This reload covers all messages so far.
                edits.mark_unchanged();
                self.reload(&sender).await;
            }
        });
        receiver
    }

    async fn reload(&mut self, sender: &watch::Sender<Option<Arc<RuleSet>>>) {
        let checks = match self.source.load().await {
            Ok(checks) => checks,
            Err(error) => {
                counter!(names::RULE_LOAD_ERRORS).increment(1);
                warn!(error = format!("{error:#}"), "cannot read rules, keeping the active rules");
                return;
            }
        };
        if self.accepted.store_diff().is_none() {
            let known = self.store.known().await;
            if let Some(known) = self.reached(known) {
                self.accepted.set_stored(known);
            }
        }
        let active_count = self.accepted.active_count();
        if let SourceDecision::Ignore { yields, event_due } =
            self.shrinkage.decide(active_count, &checks, Instant::now())
        {
            counter!(names::RULE_LOAD_ERRORS).increment(1);
            if event_due {
                let active = active_count.unwrap_or_default();
                (self.on_shrunk)(format!(
                    "the source of the rules yields {yields} rules while {active} are in force; \
                     those stay. A source without any is taken over with --allow-no-rules only, \
                     one with less than half of them once it reads the same for 5 min"
                ));
            }
            if sender.borrow().is_none() && active_count.is_some() {
                self.recall(&self.accepted.forgotten()).await;
                // A part of the rules would close the episodes of the others. The next reload
                // retries.
                if !self.accepted.forgotten().is_empty() {
                    return;
                }
                let last_good = self.accepted.active_count().unwrap_or_default();
                report(&SourceUpdate { last_good, ..SourceUpdate::default() });
                self.hand_out(sender);
            }
            return;
        }
        self.recall(&self.accepted.unknown(&checks)).await;
        let taken = self.accepted.take(checks, Timestamp::now().as_millisecond());
        report(&taken);
        if taken.changed || sender.borrow().is_none() {
            self.hand_out(sender);
        }
        // Last, so that the new rules do not wait for the store.
        if let Some(diff) = self.accepted.store_diff() {
            let stored = self.store_versions(diff).await;
            self.reached(stored);
        }
    }

    fn hand_out(&self, sender: &watch::Sender<Option<Arc<RuleSet>>>) {
        let rules = Arc::new(self.accepted.rules());
        info!(rules = rules.all().len(), "active rules changed");
        sender.send_replace(Some(rules));
    }

    /// Restores the stored versions of these rules.
    async fn recall(&mut self, rules: &[i64]) {
        if rules.is_empty() {
            return;
        }
        let now_ms = Timestamp::now().as_millisecond();
        let versions = self.store.versions(rules).await;
        for version in self.reached(versions).unwrap_or_default() {
            if !self.accepted.remember(version.rule_id, &version.fields, now_ms) {
                warn!(
                    rule.id = version.rule_id,
                    "last good version of the rule is invalid for this version of the alerter, skipping it"
                );
            }
        }
    }

    /// Brings the store in line with the accepted versions.
    async fn store_versions(&mut self, diff: StoreDiff) -> sqlx::Result<()> {
        for versions in diff.put.chunks(ROWS_MAX) {
            self.store.put(versions).await?;
            self.accepted.stored(versions, &[]);
        }
        for rules in diff.gone.chunks(ROWS_MAX) {
            self.store.remove(rules).await?;
            self.accepted.stored(&[], rules);
        }
        Ok(())
    }

    /// Tracks whether the store is reachable. An outage is logged once.
    fn reached<T>(&mut self, result: sqlx::Result<T>) -> Option<T> {
        let was_unreachable = std::mem::replace(&mut self.unreachable, result.is_err());
        if let Err(error) = &result {
            counter!(names::LAST_GOOD_ERRORS).increment(1);
            if !was_unreachable {
                warn!(%error, "cannot store last good versions of rules, rules load without them");
            }
        } else if was_unreachable {
            info!("storing last good versions of rules recovered");
        }
        result.ok()
    }
}

fn report(taken: &SourceUpdate) {
    for (rule, problems) in &taken.new_problems {
        warn!(rule.id = rule, reason = problems, "rule has problems");
    }
    for (state, rules) in [
        ("valid", taken.valid),
        ("invalid", taken.refused),
        ("last_good", taken.last_good),
        ("weakens", taken.weakens),
        ("cannot_open", taken.cannot_open),
        ("event", taken.events),
    ] {
        gauge!(names::RULES, "state" => state).set(rules as f64);
    }
}
