//! Checks that the topic is still the one that the ledger counts in.
//!
//! If a topic is recreated while a client reads it, the client continues silently in the new topic,
//! at its old position.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use rdkafka::client::{Client, ClientContext};

use crate::ledger::Ledger;
use ljwx_service::kafka::topic_identity::TopicIdentity;

/// Longest wait for the brokers' answer about the topic.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long an answer holds. Within this time no topic can be deleted, recreated and filled beyond
/// the ledger's position. A client would also have to notice the change before it fetched from the
/// new topic.
const ANSWER_TTL: Duration = Duration::from_millis(200);

/// Pause of the queries after the brokers did not answer. Brokers that do not answer create no
/// topic either.
const UNANSWERED_PAUSE: Duration = Duration::from_secs(5);

/// Caches until when the topic counts as the accepted one.
#[derive(Default)]
pub struct TopicCheck(Mutex<Option<Instant>>);

impl TopicCheck {
    /// Fails if the topic is not the accepted one, or if the brokers do not answer. Records fetched
    /// before the query belong to the topic in the answer, because no id is reused. Blocks.
    pub async fn check<C: ClientContext>(
        &self,
        client: &Client<C>,
        ledger: &Ledger,
    ) -> anyhow::Result<()> {
        let asked_at = Instant::now();
        if self.until().is_some_and(|until| asked_at < until) {
            return Ok(());
        }
        let accepted = ledger.accepted().await?;
        let found = TopicIdentity::query(client, ledger.topic(), ANSWER_TIMEOUT)?;
        accepted.check(ledger.topic(), &found.context("the topic is gone")?)?;
        *self.until() = Some(asked_at + ANSWER_TTL);
        Ok(())
    }

    /// Makes the next check query the brokers in any case.
    pub fn forget(&self) {
        *self.until() = None;
    }

    /// Trusts the topic for a while although the brokers did not answer.
    pub fn pause(&self) {
        *self.until() = Some(Instant::now() + UNANSWERED_PAUSE);
    }

    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
