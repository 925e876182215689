//! Finds the members of a consumer group, of the classic and of the consumer protocol.
//!
//! The older request, which `rdkafka` wraps, describes a group of the consumer protocol (KIP-848) as
//! a dead group without members.
#![allow(unsafe_code, reason = "the request is only there as a function of the C library")]

use std::ffi::{CStr, CString};
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys as sys;

use super::librdkafka::{ask, check, copied, only};

/// Returns the members of a group, each with its client's name and host. Blocks, at most `within`
/// for the answer.
pub fn group_members<C: ClientContext>(
    client: &Client<C>,
    group: &str,
    within: Duration,
) -> KafkaResult<Vec<String>> {
    let group = CString::new(group)?;
    match describe(client, &group, within) {
        // A group that no member has ever joined.
        Err(RDKafkaErrorCode::GroupIdNotFound) => Ok(Vec::new()),
        described => described.map_err(KafkaError::AdminOp),
    }
}

fn describe<C: ClientContext>(
    client: &Client<C>,
    group: &CStr,
    within: Duration,
) -> Result<Vec<String>, RDKafkaErrorCode> {
    use sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    let mut names = [group.as_ptr()];
    // SAFETY: the request copies the names. Data of the event is checked before its use, read only
    // while the event lives, and copied out.
    unsafe {
        let send = |options, queue| {
            let (names, count) = (names.as_mut_ptr(), names.len());
            sys::rd_kafka_DescribeConsumerGroups(client.native_ptr(), names, count, options, queue);
        };
        let event = ask(client, RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS, within, send)?;
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event.it);
        let group = only(result, sys::rd_kafka_DescribeConsumerGroups_result_groups)?;
        check(sys::rd_kafka_error_code(sys::rd_kafka_ConsumerGroupDescription_error(group)))?;
        let members = (0..sys::rd_kafka_ConsumerGroupDescription_member_count(group)).map(|at| {
            let member = sys::rd_kafka_ConsumerGroupDescription_member(group, at);
            let name = copied(sys::rd_kafka_MemberDescription_client_id(member));
            format!("{name} at {}", copied(sys::rd_kafka_MemberDescription_host(member)))
        });
        Ok(members.collect())
    }
}
