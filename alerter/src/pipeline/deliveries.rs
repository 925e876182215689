//! From deliveries, and from their absence, to what a stretch has to write.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::time::{Instant, SystemTime};

use jiff::Timestamp;
use ljwx_ledger::group::consumer::Delivery;
use ljwx_reading::{DeviceSn, Ids};
use metrics::counter;
use tracing::{debug, warn};

use super::{Parts, Pipeline};
use crate::engine::episode::To;
use crate::engine::{Arrival, Change, Judged, Outcome};
use crate::metrics::{BREACHES, READINGS};
use crate::mysql::retry::GaveUp;
use crate::mysql::suppressed_counts::SILENCED;
use crate::notify::recipients::Reach;
use crate::pipeline::partition_batch::{Cause, Named, Stretch};

/// What became of readings since it was last counted: finding a counter takes longer than judging a
/// reading does.
#[derive(Debug, Default)]
pub(super) struct Tally {
    judged: u64,
    late: u64,
    ahead: u64,
    undecodable: u64,
    breaches: u64,
}

impl Tally {
    fn add(&mut self, judged: &Judged) {
        *match judged.outcome {
            Outcome::Judged => &mut self.judged,
            Outcome::Late => &mut self.late,
            Outcome::Ahead => &mut self.ahead,
        } += 1;
        self.breaches += judged.breaches;
    }

    /// Adds it to the metrics.
    pub(super) fn count(&mut self) {
        let Self { judged, late, ahead, undecodable, breaches } = std::mem::take(self);
        let outcomes =
            [("judged", judged), ("late", late), ("ahead", ahead), ("undecodable", undecodable)];
        for (outcome, readings) in outcomes {
            counter!(READINGS, "outcome" => outcome).increment(readings);
        }
        counter!(BREACHES).increment(breaches);
    }
}

impl Pipeline {
    /// What the devices are bound to whose readings do not say whose they are.
    pub(super) async fn bound(
        &self,
        chunks: &[Vec<Delivery>],
    ) -> Result<HashMap<DeviceSn, Ids>, GaveUp> {
        let deliveries = chunks.iter().flatten();
        let readings = deliveries.filter_map(|delivery| delivery.reading.as_ref().ok());
        let lacking = readings.filter(|reading| !reading.ids().is_complete());
        let wanted: BTreeSet<_> = lacking.map(|reading| reading.device_sn().clone()).collect();
        if wanted.is_empty() {
            return Ok(HashMap::new());
        }
        let Parts { hold, bindings, .. } = &self.parts;
        hold.until_done("look up bindings", || bindings.known(wanted.clone())).await
    }

    /// Judges one delivery and adds what follows to its partition's stretch.
    pub(super) async fn judge(
        &mut self,
        delivery: &Delivery,
        bound: &HashMap<DeviceSn, Ids>,
        stretch: &mut Stretch,
    ) -> Result<(), GaveUp> {
        stretch.pass(delivery.offset);
        let reading = match &delivery.reading {
            Ok(reading) => reading,
            Err(error) => {
                // The worker's group keeps it in its dead-letter topic; once is enough.
                self.tally.undecodable += 1;
                debug!(partition = delivery.partition, offset = delivery.offset, %error, "undecodable reading passed");
                return Ok(());
            }
        };
        let since = SystemTime::now();
        let bound = bound.get(reading.device_sn()).copied().unwrap_or_default();
        let ids = reading.ids().or(bound);
        let arrival = Arrival { reading, ids, kafka_ms: delivery.kafka_ms };
        let judged = self.engine.judge(delivery.partition, arrival);
        self.tally.add(&judged);
        if judged.changes.is_empty() {
            return Ok(());
        }
        let cause = Cause {
            reading: Some(reading),
            partition: delivery.partition,
            offset: delivery.offset,
            topic: &self.parts.topic.clone(),
            context: delivery.origin.context(),
            since,
        };
        let absence = Cause { reading: None, context: None, ..cause };
        for change in judged.changes {
            // A record also shows which other devices are silent; it is not the cause of that.
            let own = change.device_sn == *reading.device_sn();
            self.record(&change, if own { &cause } else { &absence }, stretch).await?;
        }
        Ok(())
    }

    /// Looks for absences that no record shows, in partitions that have been read to their end.
    pub(super) async fn on_absence(&mut self) -> anyhow::Result<ControlFlow<()>> {
        let begun = Instant::now();
        let now_ms = Timestamp::now().as_millisecond();
        let overdue = self.engine.overdue(now_ms);
        if overdue.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let ends = match self.parts.source.ends(overdue).await {
            Ok(ends) => ends,
            Err(error) => {
                debug!(%error, "Kafka does not say where the topic ends");
                return Ok(ControlFlow::Continue(()));
            }
        };
        let mut batch = Vec::new();
        for (partition, end) in ends {
            let at_end = self.positions.get(&partition).is_some_and(|at| at.next >= end);
            let Some(mut stretch) = self.stretch(partition).filter(|_| at_end) else { continue };
            let cause = Cause {
                reading: None,
                partition,
                offset: end,
                topic: &self.parts.topic.clone(),
                context: None,
                since: SystemTime::now(),
            };
            for change in self.engine.tick(partition, now_ms) {
                if self.record(&change, &cause, &mut stretch).await == Err(GaveUp) {
                    return Ok(ControlFlow::Break(()));
                }
            }
            batch.push(stretch);
        }
        self.commit(batch, begun).await
    }

    /// Adds a change to the stretch, once it is known who can be told.
    async fn record(
        &mut self,
        change: &Change,
        cause: &Cause<'_>,
        stretch: &mut Stretch,
    ) -> Result<(), GaveUp> {
        let Some(rule) = change.rule.as_deref() else { return Ok(()) };
        let reach = if !change.transition.notify {
            Reach::Nobody("not_due")
        } else if self.parts.silences.cover(Timestamp::now().as_millisecond(), change) {
            Reach::Nobody(SILENCED)
        } else {
            let Parts { hold, directory, .. } = &self.parts;
            hold.until_done("look up recipients", || directory.reach(change.ids, rule.channels))
                .await?
        };
        let silenced = matches!(reach, Reach::Nobody(SILENCED));
        let logged = rule.channels.log && change.transition.notify && !silenced;
        if logged {
            warn!(rule.id = rule.id, device.id = %change.device_sn, alert.to = change.transition.to.as_str(),
                alert.severity = change.transition.severity.as_str(), "alert notification");
        }
        if change.transition.notify && matches!(reach, Reach::Nobody(_)) && !logged {
            self.engine.untold(cause.partition, change);
            if change.transition.to == To::Notified {
                return Ok(());
            }
        }
        if !logged {
            stretch.suppress(change, &reach);
        }
        let named = self.named(change).await;
        stretch.add(change, rule, cause, &reach, &named);
        Ok(())
    }

    /// What people call the wearer and the ward, where that is known.
    async fn named(&self, change: &Change) -> Named {
        let directory = &self.parts.directory;
        let customer_id = change.ids.customer_id.unwrap_or_default();
        let (mut wearer, mut ward) = (None, None);
        if let Some(user_id) = change.ids.user_id {
            wearer = directory.name(customer_id, user_id).await;
        }
        if let Some(org_id) = change.ids.org_id {
            ward = directory.ward(customer_id, org_id).await;
        }
        Named { wearer, ward }
    }
}
