//! Runs a case's sequence: requests, and times in which Kafka acknowledges nothing or grants a right
//! again.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::Response;
use serde_json::Value;
use tokio::task::JoinSet;

use super::form::{Case, KAFKA_ACL_GRANTED, KAFKA_NO_ACK, Turn};
use super::{check, request};
use crate::clients::http::{self, ANSWER_WITHIN};
use crate::clients::{kafka, kafka_acl};
use crate::stack::process::Service;
use crate::stack::wait::{eventually, pass};
use crate::stack::world::World;
use crate::stack::{Frozen, Server};

/// Pause between two attempts of a request that is retried.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The longest that Kafka may take to lead its partitions after it was frozen.
const LEADS_WITHIN: Duration = Duration::from_secs(30);

struct Sequence<'a> {
    world: &'a World,
    gateway: &'a Service,
    /// Kafka takes the smaller of `min.insync.replicas` and the replication factor, so no setting
    /// keeps a single broker from acknowledging. A frozen broker keeps its connections, too.
    frozen: Option<Frozen>,
    in_background: JoinSet<reqwest::Result<Response>>,
    /// The items of the requests in the background.
    items: usize,
}

/// Runs the turns. The error is the reason why the case does not hold.
pub(super) async fn run(turns: &[Turn], world: &World, gateway: &Service) -> Result<()> {
    let in_background = JoinSet::new();
    let mut sequence = Sequence { world, gateway, frozen: None, in_background, items: 0 };
    let taken = sequence.take_all(turns).await;
    // What the case published is read next.
    sequence.thaw().await?;
    // Their records must not come into the next case.
    while let Some(answered) = sequence.in_background.join_next().await {
        answered?.context("no answer")?;
    }
    taken
}

impl Sequence<'_> {
    async fn take_all(&mut self, turns: &[Turn]) -> Result<()> {
        for (number, turn) in turns.iter().enumerate() {
            self.take(turn).await.with_context(|| format!("turn {}", number + 1))?;
        }
        Ok(())
    }

    async fn take(&mut self, turn: &Turn) -> Result<()> {
        match turn.world.as_deref() {
            Some(KAFKA_NO_ACK) => self.frozen = Some(Server::Kafka.freeze()?),
            Some(KAFKA_ACL_GRANTED) => {
                kafka_acl::allow_all(&self.world.stack.kafka_brokers).await?;
            }
            Some(_) => self.thaw().await?,
            None => {}
        }
        match &turn.request {
            Some(case) if turn.in_background.is_some() => {
                self.in_background.spawn(request::of(case, self.gateway)?.send());
                self.items += items(case);
            }
            Some(case) => self.ask(case, turn.retry_for_ms.unwrap_or_default()).await?,
            None => {}
        }
        if let Some(wait) = turn.wait_ms {
            self.enqueued().await?;
            pass(Duration::from_millis(wait)).await;
        }
        if let Some(ready) = &turn.ready {
            let within = Duration::from_millis(ready.within_ms);
            eventually(within, &format!("/readyz is {}", ready.status), || async {
                let answer = http::get(&self.gateway.admin("/readyz")).await?;
                ensure!(answer.status == ready.status, "{}: {}", answer.status, answer.text);
                let expected = ready.body.as_ref();
                expected.map_or(Ok(()), |body| check::matches(body, &answer.text.into()))?;
                Ok(Some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// Lets Kafka go on, and waits until it leads its partitions again.
    async fn thaw(&mut self) -> Result<()> {
        self.frozen = None;
        let brokers = &self.world.stack.kafka_brokers;
        for topic in [&self.world.readings_topic, &self.world.rejects_topic] {
            eventually(LEADS_WITHIN, "Kafka leads its partitions", || async {
                kafka::watermarks(brokers, topic).await.map(Some)
            })
            .await?;
        }
        Ok(())
    }

    async fn ask(&self, case: &Case, retry_for_ms: u64) -> Result<()> {
        let until = Instant::now() + Duration::from_millis(retry_for_ms);
        loop {
            let asked = request::ask(case, self.gateway).await;
            if asked.is_ok() || Instant::now() >= until {
                return asked;
            }
            pass(RETRY_PAUSE).await;
        }
    }

    /// While Kafka is frozen, waits until the requests in the background wait for it, however slow
    /// this machine is.
    async fn enqueued(&self) -> Result<()> {
        if self.frozen.is_none() {
            return Ok(());
        }
        eventually(ANSWER_WITHIN, "the requests in the background wait for Kafka", || async {
            let records = self.gateway.metric("producer_queue_records", "").await?;
            Ok((records >= self.items as f64).then_some(()))
        })
        .await
    }
}

/// Returns the number of items in the case's body.
fn items(case: &Case) -> usize {
    serde_json::from_slice::<Vec<Value>>(&case.body()).map_or(1, |items| items.len())
}
