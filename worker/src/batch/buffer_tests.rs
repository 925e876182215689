use super::*;
use crate::batch::test_support::delivery;

fn buffer(batch_rows: usize, partitions: &[i32]) -> Buffer {
    let mut buffer = Buffer::new(BufferLimits {
        batch_rows,
        batch_bytes: 1 << 20,
        batch_age: Duration::from_millis(100),
        fast_age: Duration::from_millis(10),
        deliveries_max: 100,
    });
    for partition in partitions {
        let claim = Claim { partition: *partition, epoch: 1, next_offset: 0, redis_offset: 0 };
        buffer.open(claim);
    }
    buffer
}

#[test]
fn a_batch_is_due_by_rows_or_by_age_and_never_before() {
    let now = Instant::now();
    let mut buffer = buffer(2, &[0]);
    assert_eq!(buffer.due(now), None);
    buffer.insert(delivery(0, 0, "a", 0, 80), None, now);
    assert_eq!(buffer.due(now), None);
    assert_eq!(buffer.due(now + Duration::from_millis(100)), Some(FlushReason::Age));
    buffer.insert(delivery(0, 1, "a", 1, 80), None, now);
    assert_eq!(buffer.due(now), Some(FlushReason::Rows));
}

#[test]
fn enough_rows_wait_less_for_more() {
    let now = Instant::now();
    let mut buffer = buffer(1000, &[0, 1]);
    let soon = now + Duration::from_millis(10);
    for offset in 0..FAST_ROWS as i64 {
        assert_eq!(buffer.due(soon), None, "{offset} rows");
        buffer.insert(delivery((offset % 2) as i32, offset / 2, "a", offset as u32, 80), None, now);
    }
    assert_eq!(buffer.due_at(), Some(soon));
    assert_eq!(buffer.due(soon), Some(FlushReason::Age));
}

#[test]
fn one_partition_has_one_segment_in_flight_and_keeps_its_order() {
    let now = Instant::now();
    let mut buffer = buffer(2, &[0, 1]);
    for offset in 0..5 {
        buffer.insert(delivery(0, offset, "a", offset as u32, 80), None, now);
    }
    let first = buffer.take();
    assert_eq!(first.iter().map(|s| (s.partition, s.from, s.to)).collect::<Vec<_>>(), [(0, 0, 2)]);
    assert!(buffer.take().is_empty(), "the lane has something in flight");
    buffer.insert(delivery(1, 0, "b", 0, 80), None, now);
    assert_eq!(buffer.take()[0].partition, 1, "another lane goes on");
    buffer.written(0, 1, 2, RedisWrite::Done);
    let second = buffer.take();
    assert_eq!((second[0].from, second[0].to, second[0].redis_offset), (2, 4, Some(2)));
    assert!(!buffer.is_drained(&[0]));
}

#[test]
fn repeated_identities_merge_and_gaps_are_counted() {
    let now = Instant::now();
    let mut buffer = buffer(10, &[0]);
    buffer.insert(delivery(0, 2, "a", 0, 80), None, now);
    buffer.insert(delivery(0, 3, "a", 0, 81), None, now);
    buffer.insert(delivery(0, 3, "a", 0, 99), None, now);
    let mut stale = delivery(0, 4, "a", 1, 90);
    stale.epoch = 7;
    buffer.insert(stale, None, now);
    let segment = &buffer.take()[0];
    let row = segment.rows.values().next().unwrap();
    assert_eq!((row.deliveries, row.vitals.heart_rate), (2, Some(81)));
    let counts = segment.advance(1).counts;
    assert_eq!((counts.stored, counts.merged, counts.skipped_gap), (1, 1, 2));
    assert_eq!(counts.offsets(), segment.to - segment.from);
}

#[test]
fn what_a_former_claim_left_in_flight_does_not_touch_the_new_one() {
    let now = Instant::now();
    let mut buffer = buffer(1, &[0]);
    buffer.insert(delivery(0, 0, "a", 0, 80), None, now);
    buffer.take();
    buffer.open(Claim { partition: 0, epoch: 2, next_offset: 0, redis_offset: 0 });
    buffer.forget_claim(0, 1);
    buffer.written(0, 1, 1, RedisWrite::Done);
    assert_eq!(buffer.partitions(), [0]);
    buffer.insert(Delivery { epoch: 2, ..delivery(0, 0, "a", 0, 80) }, None, now);
    assert_eq!(buffer.take()[0].from, 0);
}

#[test]
fn a_segment_takes_along_how_far_redis_was() {
    let now = Instant::now();
    let mut buffer = buffer(1, &[0]);
    let outcomes = [(0, RedisWrite::Done, 0), (1, RedisWrite::Missed, 1), (2, RedisWrite::Done, 1)];
    for (offset, in_redis, redis_offset) in outcomes {
        buffer.insert(delivery(0, offset, "a", offset as u32, 80), None, now);
        assert_eq!(buffer.take()[0].redis_offset, Some(redis_offset));
        buffer.written(0, 1, offset + 1, in_redis);
    }
    let then = buffer.views()[0];
    buffer.repaired(&LaneProgress { epoch: 7, ..then });
    assert_eq!(buffer.views()[0].redis_progress.up_to(), 1, "another claim's repair says nothing");
    buffer.repaired(&then);
    assert_eq!(buffer.views()[0].redis_progress.up_to(), 3);
}
