//! Finds missing data that no record shows, in partitions that have been read to their end.
//!
//! [`crate::engine::no_data`] decides when a NO_DATA alert is due.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::{Instant, SystemTime};

use jiff::Timestamp;
use ljwx_reading::Ids;
use tracing::debug;

use super::Pipeline;
use crate::engine::{Change, Engine};
use crate::mysql::retry::Stopping;
use crate::notify::recipients::router::PeopleRouter;
use crate::pipeline::alert_span::Cause;
use crate::pipeline::partition_batch::PartitionBatch;

impl Pipeline {
    /// Evaluates NO_DATA rules that no record triggers, in partitions that have been read to their
    /// end.
    pub(super) async fn on_no_data_tick(&mut self) -> anyhow::Result<ControlFlow<()>> {
        let begun = Instant::now();
        let now_ms = Timestamp::now().as_millisecond();
        let overdue = self.engine.overdue(now_ms);
        if overdue.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let ends = match self.parts.source.ends(overdue).await {
            Ok(ends) => ends,
            Err(error) => {
                debug!(%error, "cannot read the end of the topic, postponing the NO_DATA check");
                return Ok(ControlFlow::Continue(()));
            }
        };
        let mut batch = Vec::new();
        for (partition, end) in ends {
            let at_end = self.positions.get(&partition).is_some_and(|at| at.next >= end);
            let Some(mut partition_batch) = self.partition_batch(partition).filter(|_| at_end)
            else {
                continue;
            };
            let step =
                |engine: &mut Engine, router: &PeopleRouter| engine.tick(partition, now_ms, router);
            if self.step_without_reading(end, step, &mut partition_batch).await == Err(Stopping) {
                return Ok(ControlFlow::Break(()));
            }
            batch.push(partition_batch);
        }
        self.commit(batch, begun).await
    }

    /// Makes a step of the engine that no record causes, and adds its changes to the partition's
    /// batch. Before, looks up the people whom the engine names. `offset` is the next one.
    pub(super) async fn step_without_reading(
        &mut self,
        offset: i64,
        step: impl Fn(&mut Engine, &PeopleRouter) -> Result<Vec<Change>, BTreeSet<Ids>>,
        partition_batch: &mut PartitionBatch,
    ) -> Result<(), Stopping> {
        let mut router = self.router();
        let changes = loop {
            match step(&mut self.engine, &router) {
                Ok(changes) => break changes,
                Err(unknown) => self.look_up(&mut router, &unknown).await?,
            }
        };
        let cause = Cause {
            reading: None,
            partition: partition_batch.advance.partition,
            offset,
            topic: &self.parts.topic.clone(),
            context: None,
            since: SystemTime::now(),
        };
        self.record(&changes, None, &cause, partition_batch, &mut router).await
    }
}
