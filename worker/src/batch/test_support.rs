//! Deliveries for tests.

use ljwx_ledger::group::delivery::{Delivery, RawRecord, Undecodable};
use ljwx_reading::wire;
use ljwx_service::kafka::record_trace::RecordTrace;

/// Returns a delivery under claim 1 of a reading of `sn`, measured `second` seconds into a minute.
/// Its Kafka record time is its offset.
pub fn delivery(partition: i32, offset: i64, sn: &str, second: u32, heart_rate: i32) -> Delivery {
    let value = format!(
        "{{\"device_sn\":\"{sn}\",\"timestamp\":\"2025-09-02 16:09:{second:02}\",\"epoch_ms\":1,\
         \"received_at\":1,\"upload_method\":\"wifi\",\"heart_rate\":{heart_rate}}}"
    )
    .into_bytes();
    let record_bytes = value.len();
    let reading = wire::decode(Some(&value)).map_err(|error| Undecodable {
        error,
        record: RawRecord { value: Some(value), ..RawRecord::default() },
    });
    Delivery {
        partition,
        offset,
        epoch: 1,
        kafka_ms: offset,
        origin: RecordTrace::default(),
        replay: None,
        reading,
        record_bytes,
    }
}
