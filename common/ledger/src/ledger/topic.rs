//! Reads the topic that the ledger counts in. The ledger's offsets are Kafka's plus a base. The
//! base rises when a recreated topic is accepted, so no offset is reused and later offsets stay
//! greater.

use std::time::Duration;

use anyhow::Context;
use sqlx::FromRow;

use super::group_kind::ClaimError;
use crate::mysql::MySqlPool;
use ljwx_service::kafka::topic_identity::TopicIdentity;
use ljwx_service::kafka::topic_reader::TopicReader;

/// A topic as `worker migrate` accepted it.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct AcceptedTopic {
    /// The topic's id at the brokers.
    pub topic_id: String,
    /// The cluster's id. Empty if unknown.
    pub cluster_id: String,
    /// The base that the ledger adds to Kafka's offsets.
    pub base: i64,
}

impl AcceptedTopic {
    /// Whether `found` is this topic.
    pub fn is(&self, found: &TopicIdentity) -> bool {
        let known = !self.cluster_id.is_empty() && !found.cluster_id.is_empty();
        self.topic_id == found.topic_id && !(known && self.cluster_id != found.cluster_id)
    }

    /// Fails if `found` is another topic of the same name.
    pub fn check(&self, topic: &str, found: &TopicIdentity) -> Result<(), ClaimError> {
        if self.is(found) {
            return Ok(());
        }
        Err(ClaimError::Permanent(format!(
            "topic {topic} was deleted and made anew: it is {} of cluster {}, and {} of cluster {} was \
             accepted. Its offsets begin again, so the ledger's positions mean other records. Stop what \
             reads it, then let `worker migrate --accept-topic` say where each group goes on",
            found.topic_id, found.cluster_id, self.topic_id, self.cluster_id
        )))
    }

    /// Checks that `reader` sees this topic, and makes it count offsets as the ledger does.
    pub fn count_in(
        &self,
        reader: &TopicReader,
        topic: &str,
        within: Duration,
    ) -> anyhow::Result<()> {
        let found = reader.identity(topic, within)?;
        self.check(topic, &found.with_context(|| format!("there is no topic {topic}"))?)?;
        reader.count_from(topic, self.base);
        Ok(())
    }
}

/// Returns the accepted topic.
pub async fn accepted(pool: &MySqlPool, topic: &str) -> Result<AcceptedTopic, ClaimError> {
    let accepted = sqlx::query_as(
        "SELECT topic_id, COALESCE(cluster_id, '') AS cluster_id, base FROM ingest_topic \
         WHERE topic = ? AND topic_id IS NOT NULL",
    )
    .bind(topic)
    .fetch_optional(pool)
    .await?;
    accepted.ok_or_else(|| {
        ClaimError::NotYet(format!("nobody has accepted topic {topic} yet: run `worker migrate`"))
    })
}

/// Returns the number of partitions with which a topic was accepted. `None`: none was yet.
pub async fn accepted_partitions(
    pool: &MySqlPool,
    topic: &str,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT CAST(`partitions` AS SIGNED) FROM ingest_topic WHERE topic = ?")
        .bind(topic)
        .fetch_optional(pool)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_id_or_another_cluster_is_another_topic() {
        let accepted = |cluster: &str| AcceptedTopic {
            topic_id: "t".into(),
            cluster_id: cluster.into(),
            base: 7,
        };
        let found = |topic: &str, cluster: &str| TopicIdentity {
            topic_id: topic.into(),
            cluster_id: cluster.into(),
        };
        assert!(accepted("c").is(&found("t", "c")));
        assert!(accepted("").is(&found("t", "c")) && accepted("c").is(&found("t", "")));
        assert!(!accepted("c").is(&found("u", "c")) && !accepted("c").is(&found("t", "d")));
        let refused = accepted("c").check("readings", &found("u", "c")).unwrap_err().to_string();
        assert!(refused.contains("worker migrate --accept-topic"), "{refused}");
    }
}
