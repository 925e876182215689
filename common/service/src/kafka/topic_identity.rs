//! Finds out which topic a name stands for. A recreated topic has the same name and another id.
#![allow(unsafe_code, reason = "DescribeTopics is only there as a function of the C library")]

use std::ffi::{CStr, CString};
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys as sys;

use super::librdkafka::{ask, check, copied, only, owned};

/// The identity of a topic, independent of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicIdentity {
    /// The topic's id, as `kafka-topics.sh --describe` prints it.
    pub topic_id: String,
    /// The cluster's id. Empty if the brokers do not return an id.
    pub cluster_id: String,
}

impl TopicIdentity {
    /// Queries the topic that has this name now. Returns `None` if there is no such topic. Blocks,
    /// at most `within` for each of two answers.
    pub fn query<C: ClientContext>(
        client: &Client<C>,
        topic: &str,
        within: Duration,
    ) -> Result<Option<Self>, KafkaError> {
        let topic = CString::new(topic)?;
        let topic_id = match describe(client, &topic, within) {
            Ok(topic_id) => topic_id,
            Err(RDKafkaErrorCode::UnknownTopicOrPartition) => return Ok(None),
            Err(code) => return Err(KafkaError::AdminOp(code)),
        };
        let cluster_id = client.fetch_cluster_id(within).unwrap_or_default();
        Ok(Some(Self { topic_id, cluster_id }))
    }
}

fn describe<C: ClientContext>(
    client: &Client<C>,
    topic: &CStr,
    within: Duration,
) -> Result<String, RDKafkaErrorCode> {
    use sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    let mut names = [topic.as_ptr()];
    // SAFETY: the collection copies the names. Every object is checked before its use and outlives
    // its uses. Data of the event is read only while the event lives, and is copied out.
    unsafe {
        let topics = owned(
            sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()),
            sys::rd_kafka_TopicCollection_destroy,
        )?;
        let event = ask(client, RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, within, |options, queue| {
            sys::rd_kafka_DescribeTopics(client.native_ptr(), topics.it, options, queue);
        })?;
        let result = sys::rd_kafka_event_DescribeTopics_result(event.it);
        let description = only(result, sys::rd_kafka_DescribeTopics_result_topics)?;
        check(sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(description)))?;
        let id = sys::rd_kafka_TopicDescription_topic_id(description);
        let id = copied(sys::rd_kafka_Uuid_base64str(id));
        if id.is_empty() {
            return Err(RDKafkaErrorCode::Fail);
        }
        // The brokers' tools print ids in the URL alphabet of base64.
        Ok(id.replace('+', "-").replace('/', "_"))
    }
}
