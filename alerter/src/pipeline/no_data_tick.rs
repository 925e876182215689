//! Finds missing data that no record shows, in partitions that have been read to their end.
//!
//! [`crate::engine::no_data`] decides when a NO_DATA alert is due.

use std::ops::ControlFlow;
use std::time::{Instant, SystemTime};

use jiff::Timestamp;
use tracing::debug;

use super::Pipeline;
use crate::mysql::retry::Stopping;
use crate::pipeline::alert_span::Cause;

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
            let cause = Cause {
                reading: None,
                partition,
                offset: end,
                topic: &self.parts.topic.clone(),
                context: None,
                since: SystemTime::now(),
            };
            for change in self.engine.tick(partition, now_ms) {
                if self.record(&change, &cause, &mut partition_batch).await == Err(Stopping) {
                    return Ok(ControlFlow::Break(()));
                }
            }
            batch.push(partition_batch);
        }
        self.commit(batch, begun).await
    }
}
