//! Finds out which topic a name stands for. A recreated topic has the same name and another id.
//!
//! `rdkafka` does not wrap this request, so this file calls librdkafka itself. No other file may.
#![allow(unsafe_code, reason = "DescribeTopics is only there as a function of the C library")]

use std::ffi::{CStr, CString, c_char, c_int};
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::KafkaError;
use rdkafka::types::{RDKafka, RDKafkaErrorCode};
use rdkafka_sys as sys;

/// Room for librdkafka's message about a timeout that it does not accept.
const TEXT_BYTES_MAX: usize = 128;

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
        let topic_id = match describe(client.native_ptr(), &topic, within) {
            Ok(topic_id) => topic_id,
            Err(RDKafkaErrorCode::UnknownTopicOrPartition) => return Ok(None),
            Err(code) => return Err(KafkaError::AdminOp(code)),
        };
        let cluster_id = client.fetch_cluster_id(within).unwrap_or_default();
        Ok(Some(Self { topic_id, cluster_id }))
    }
}

/// An object of librdkafka that is destroyed on drop.
struct LibrdkafkaHandle<T> {
    it: *mut T,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Drop for LibrdkafkaHandle<T> {
    fn drop(&mut self) {
        // SAFETY: `destroy` belongs to the type of `it`. This value owns `it`, and nothing else
        // destroys it.
        unsafe { (self.destroy)(self.it) }
    }
}

/// Owns an object of librdkafka. Returns `None` if the object was not created.
fn owned<T>(it: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Option<LibrdkafkaHandle<T>> {
    (!it.is_null()).then_some(LibrdkafkaHandle { it, destroy })
}

fn describe(
    client: *mut RDKafka,
    topic: &CStr,
    within: Duration,
) -> Result<String, RDKafkaErrorCode> {
    use sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    let timeout_ms = c_int::try_from(within.as_millis()).unwrap_or(c_int::MAX);
    let mut names = [topic.as_ptr()];
    let mut text: [c_char; TEXT_BYTES_MAX] = [0; TEXT_BYTES_MAX];
    let none = RDKafkaErrorCode::Fail;
    // SAFETY: the caller's reference keeps the client alive during the call. Every object is
    // checked before its use and outlives its uses, because guards are dropped in reverse order.
    // Data of the event is read only while the event lives, and is copied out.
    unsafe {
        let topics = owned(
            sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()),
            sys::rd_kafka_TopicCollection_destroy,
        )
        .ok_or(none)?;
        let options = owned(
            sys::rd_kafka_AdminOptions_new(client, RD_KAFKA_ADMIN_OP_DESCRIBETOPICS),
            sys::rd_kafka_AdminOptions_destroy,
        )
        .ok_or(none)?;
        check(sys::rd_kafka_AdminOptions_set_request_timeout(
            options.it,
            timeout_ms,
            text.as_mut_ptr(),
            text.len(),
        ))?;
        let queue = owned(sys::rd_kafka_queue_new(client), sys::rd_kafka_queue_destroy);
        let queue = queue.ok_or(none)?;
        sys::rd_kafka_DescribeTopics(client, topics.it, options.it, queue.it);
        let event =
            owned(sys::rd_kafka_queue_poll(queue.it, timeout_ms), sys::rd_kafka_event_destroy)
                .ok_or(RDKafkaErrorCode::OperationTimedOut)?;
        check(sys::rd_kafka_event_error(event.it))?;
        let result = sys::rd_kafka_event_DescribeTopics_result(event.it);
        let mut count = 0;
        let found = if result.is_null() {
            std::ptr::null_mut()
        } else {
            sys::rd_kafka_DescribeTopics_result_topics(result, &mut count)
        };
        if found.is_null() || count != 1 {
            return Err(none);
        }
        let description = *found;
        check(sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(description)))?;
        let id = sys::rd_kafka_Uuid_base64str(sys::rd_kafka_TopicDescription_topic_id(description));
        if id.is_null() {
            return Err(none);
        }
        // The brokers' tools print ids in the URL alphabet of base64.
        Ok(CStr::from_ptr(id).to_string_lossy().replace('+', "-").replace('/', "_"))
    }
}

fn check(code: sys::rd_kafka_resp_err_t) -> Result<(), RDKafkaErrorCode> {
    match RDKafkaErrorCode::from(code) {
        RDKafkaErrorCode::NoError => Ok(()),
        code => Err(code),
    }
}
