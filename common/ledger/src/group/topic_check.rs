//! Whether the topic that is read is still the one that the ledger counts in. A client that reads one
//! which is deleted and made again goes on in the new one without a word, where it stood in the old one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use rdkafka::client::{Client, ClientContext};

use crate::ledger::Ledger;
use ljwx_service::kafka::topic_identity::TopicIdentity;

/// How long the brokers may take to say which topic this is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long their answer holds. In less time no topic is deleted, made again, filled past where the
/// ledger stands, and fetched by a client that has to learn of it first.
const TRUSTED: Duration = Duration::from_millis(200);

/// How long they are not asked again once they did not answer: then they make no topic either.
const UNANSWERED_REST: Duration = Duration::from_secs(5);

/// Remembers until when the topic is taken for the one that it was.
#[derive(Default)]
pub struct TopicCheck(Mutex<Option<Instant>>);

impl TopicCheck {
    /// Fails where the topic is not the accepted one, or nobody says which it is. What was fetched before
    /// the question is of the topic that the answer names, since no id comes again. Blocks.
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
        let found = TopicIdentity::ask(client, ledger.topic(), ANSWER_TIMEOUT)?;
        accepted.check(ledger.topic(), &found.context("the topic is gone")?)?;
        *self.until() = Some(asked_at + TRUSTED);
        Ok(())
    }

    /// Has the next check ask in any case.
    pub fn forget(&self) {
        *self.until() = None;
    }

    /// Takes the topic for the same although nobody answered.
    pub fn rest(&self) {
        *self.until() = Some(Instant::now() + UNANSWERED_REST);
    }

    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
