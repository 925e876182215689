//! The worker processes of the drill. Their number belongs to [`super::autoscaler`].

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::bench::usage;
use crate::bench::worker_run::worker;
use crate::clients::http;
use crate::stack::process::Service;
use crate::stack::wait::eventually;
use crate::stack::world::World;

/// The longest wait for one answer to a probe: an observation asks every replica that is not ready.
const PROBED_WITHIN: Duration = Duration::from_millis(200);

/// The longest until the first replicas have divided the partitions.
const DIVIDED_WITHIN: Duration = Duration::from_secs(60);

/// The running replicas, the oldest first, and those that drain.
pub(super) struct Replicas<'a> {
    world: &'a World,
    running: Vec<Replica>,
    draining: JoinSet<anyhow::Result<bool>>,
    /// Processor seconds so far by process, those of ended ones included.
    processors: BTreeMap<u32, f64>,
}

struct Replica {
    service: Service,
    ready: bool,
}

impl<'a> Replicas<'a> {
    pub(super) fn new(world: &'a World) -> Self {
        let (running, draining, processors) = (Vec::new(), JoinSet::new(), BTreeMap::new());
        Self { world, running, draining, processors }
    }

    /// Returns the number of replicas that neither drain nor have ended.
    pub(super) fn count(&self) -> usize {
        self.running.len()
    }

    /// Starts replicas, or ends the newest ones, until there are `count`. Waits for none of them.
    pub(super) fn set(&mut self, count: usize) -> anyhow::Result<()> {
        while self.running.len() < count {
            self.running.push(Replica { service: worker(self.world, true)?, ready: false });
        }
        for Replica { service, .. } in self.running.drain(count..).rev() {
            self.draining.spawn(async move { Ok(service.terminate().await?.success()) });
        }
        Ok(())
    }

    /// Returns the number of replicas that are ready.
    pub(super) async fn ready(&mut self) -> usize {
        for Replica { service, ready } in self.running.iter_mut().filter(|replica| !replica.ready) {
            let page = service.admin("/readyz");
            let answer = tokio::time::timeout(PROBED_WITHIN, http::get(&page)).await;
            *ready = matches!(answer, Ok(Ok(answer)) if answer.status == 200);
        }
        self.running.iter().filter(|replica| replica.ready).count()
    }

    /// Waits until each of the replicas has its part of the partitions.
    pub(super) async fn divided(&self) -> anyhow::Result<()> {
        let part = (self.world.partitions() / self.running.len()) as f64;
        for Replica { service, .. } in &self.running {
            eventually(DIVIDED_WITHIN, "each replica has its part of the partitions", || async {
                let owned = service.metric("consumer_partitions_owned", "").await?;
                Ok((owned == part).then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// Returns the processor seconds of all replicas so far. What a draining replica uses after its
    /// last observation does not count.
    pub(super) fn processors(&mut self) -> f64 {
        for pid in self.running.iter().filter_map(|replica| replica.service.pid()) {
            if let Some(seconds) = usage::cpu(pid) {
                self.processors.insert(pid, seconds);
            }
        }
        self.processors.values().sum()
    }

    /// Ends all replicas. Returns how many of all that ended did not exit with 0.
    pub(super) async fn end(mut self) -> anyhow::Result<usize> {
        self.set(0)?;
        let mut failed = 0;
        while let Some(ended) = self.draining.join_next().await {
            failed += usize::from(!ended??);
        }
        Ok(failed)
    }
}
