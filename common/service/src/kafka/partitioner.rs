//! Finds the partition that producers choose for a key.
//!
//! Asks librdkafka's own function, so the answer cannot differ from what a producer does.
#![allow(unsafe_code, reason = "the partitioner is only there as a function of the C library")]

use std::ptr;

use rdkafka_sys as sys;

/// The partitioner of all producers. The producers of Java and Flink hash keys with murmur2 too, so
/// all choose the same partition.
pub(super) const PARTITIONER: &str = "murmur2_random";

/// Returns the partition of records with this key in a topic with so many partitions, at least one.
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    let (topic, opaque) = (ptr::null(), ptr::null_mut());
    // SAFETY: the function reads `key.len()` bytes of the key, and uses neither topic nor opaque
    // values. The number of partitions, by which it divides, is not 0.
    unsafe {
        sys::rd_kafka_msg_partitioner_murmur2_random(
            topic,
            key.as_ptr().cast(),
            key.len(),
            partitions.max(1),
            opaque,
            opaque,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_partition_that_java_s_producer_chooses() {
        // Hashes of Kafka's Java client. With as many partitions only the sign is cut off.
        for (key, hash) in [
            ("", 0x106e_08d9_u32),
            ("34", 0x8739_30da),
            ("234", 0xe7c0_09ca),
            ("1234", 0x9fc9_7b14),
            ("kafka", 0xd067_cf64),
            ("giberish123456789", 0x8f55_2b0c),
        ] {
            let positive = i32::try_from(hash & 0x7fff_ffff).unwrap();
            assert_eq!(partition_of(key.as_bytes(), i32::MAX), positive, "{key}");
            assert_eq!(partition_of(key.as_bytes(), 12), positive % 12, "{key}");
        }
        assert_eq!(partition_of(b"kafka", 0), 0, "a topic has a partition");
    }
}
