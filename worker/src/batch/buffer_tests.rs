use ljwx_ledger::group::delivery::Replay;

use super::*;
use crate::batch::row::{REJECT_SOURCE, source};
use crate::batch::test_support::delivery;

fn buffer(batch_rows: usize, partitions: &[i32]) -> Buffer {
    let mut buffer = Buffer::new(BufferLimits {
        batch_rows,
        batch_bytes: 1 << 20,
        batch_age: Duration::from_millis(100),
        fast_age: Duration::from_millis(10),
        room: Room {
            max: DeliveryLoad { deliveries: 100, bytes: 1 << 20 },
            all_max: DeliveryLoad { deliveries: 200, bytes: 2 << 20 },
        },
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
    let first = buffer.take(now);
    assert_eq!(first.iter().map(|s| (s.partition, s.from, s.to)).collect::<Vec<_>>(), [(0, 0, 2)]);
    assert!(buffer.take(now).is_empty(), "the lane has something in flight");
    buffer.insert(delivery(1, 0, "b", 0, 80), None, now);
    assert_eq!(buffer.take(now)[0].partition, 1, "another lane goes on");
    buffer.written(0, 1, 2, RedisWrite::Done);
    let second = buffer.take(now);
    assert_eq!((second[0].from, second[0].to, second[0].redis_offset), (2, 4, Some(2)));
    assert!(!buffer.is_drained(&[0]));
}

#[test]
fn a_segment_takes_no_more_replays_than_rows() {
    let now = Instant::now();
    let mut buffer = buffer(2, &[0]);
    for offset in 0..3 {
        let replay = Some(Replay::DeadLetter(0, offset));
        buffer.insert(Delivery { replay, ..delivery(0, offset + 10, "a", 0, 80) }, None, now);
    }
    assert_eq!(buffer.due(now), Some(FlushReason::Rows));
    let first = &buffer.take(now)[0];
    assert_eq!((first.replays.len(), first.to), (2, 12), "each replay has a statement of its own");
}

#[test]
fn the_row_of_a_replay_belongs_to_the_partition_that_counts_it() {
    let now = Instant::now();
    let mut buffer = buffer(10, &[1]);
    let replays = [Replay::DeadLetter(1, 4), Replay::DeadLetter(3, 4), Replay::Reject];
    for (offset, replay) in (10..).zip(replays) {
        let replayed = Delivery { replay: Some(replay), ..delivery(1, offset, "a", 0, 80) };
        buffer.insert(replayed, None, now);
    }
    let segment = &buffer.take(now)[0];
    let sources = segment.replays.iter().map(|(_, row)| (row.id, row.last_source));
    let (first, nowhere) = (source(1, 4), REJECT_SOURCE);
    let expected = [(first, first), (source(1, 11), nowhere), (source(1, 12), nowhere)];
    assert_eq!(sources.collect::<Vec<_>>(), expected, "partition 3 is gone");
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
    let segment = &buffer.take(now)[0];
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
    buffer.take(now);
    buffer.open(Claim { partition: 0, epoch: 2, next_offset: 0, redis_offset: 0 });
    buffer.forget_claim(0, 1);
    buffer.written(0, 1, 1, RedisWrite::Done);
    assert_eq!(buffer.partitions(), [0]);
    buffer.insert(Delivery { epoch: 2, ..delivery(0, 0, "a", 0, 80) }, None, now);
    assert_eq!(buffer.take(now)[0].from, 0);
}

#[test]
fn a_segment_takes_along_how_far_redis_was() {
    let now = Instant::now();
    let mut buffer = buffer(1, &[0]);
    let outcomes = [(0, RedisWrite::Done, 0), (1, RedisWrite::Missed, 1), (2, RedisWrite::Done, 1)];
    for (offset, in_redis, redis_offset) in outcomes {
        buffer.insert(delivery(0, offset, "a", offset as u32, 80), None, now);
        assert_eq!(buffer.take(now)[0].redis_offset, Some(redis_offset));
        buffer.written(0, 1, offset + 1, in_redis);
    }
    let then = buffer.views()[0];
    buffer.repaired(&LaneProgress { epoch: 7, ..then });
    assert_eq!(buffer.views()[0].redis_progress.up_to(), 1, "another claim's repair says nothing");
    buffer.repaired(&then);
    assert_eq!(buffer.views()[0].redis_progress.up_to(), 3);
}

#[test]
fn a_lane_in_flight_for_long_is_full_at_its_share_and_free_once_it_is_written() {
    let now = Instant::now();
    let mut buffer = buffer(1000, &[0, 1]);
    for offset in 0..100 {
        buffer.insert(delivery(0, offset, "a", offset as u32 % 60, 80), None, now);
    }
    assert!(!buffer.has_room(now), "the lane took all of the room");
    buffer.take(now);
    let later = now + STUCK_AFTER;
    assert!(buffer.full_lanes(now).is_empty() && !buffer.has_room(now), "a short stall");
    assert_eq!(buffer.full_lanes(later), BTreeSet::from([0]));
    assert!(buffer.has_room(later), "the other lane's share is left");
    buffer.written(0, 1, 100, RedisWrite::Done);
    assert!(buffer.full_lanes(later).is_empty() && buffer.has_room(later));
}

#[test]
fn the_memory_of_deliveries_counts_from_their_arrival_until_they_are_written() {
    let now = Instant::now();
    let mut buffer = buffer(2, &[0]);
    let deliveries: Vec<Delivery> =
        (0..3).map(|offset| delivery(0, offset, "a", offset as u32, 80)).collect();
    let bytes: Vec<usize> = deliveries.iter().map(Delivery::memory_bytes).collect();
    for delivery in deliveries {
        buffer.insert(delivery, None, now);
    }
    let all = DeliveryLoad { deliveries: 3, bytes: bytes.iter().sum() };
    assert_eq!(buffer.load(), all);
    buffer.take(now);
    assert_eq!(buffer.load(), all, "in flight");
    buffer.written(0, 1, 2, RedisWrite::Done);
    assert_eq!(buffer.load(), DeliveryLoad { deliveries: 1, bytes: bytes[2] });
}

#[test]
fn a_segment_that_was_put_back_goes_alone_and_before_its_successors() {
    let now = Instant::now();
    let mut buffer = buffer(10, &[0, 1, 2]);
    for partition in 0..3 {
        buffer.insert(delivery(partition, 0, "a", 0, 80), None, now);
    }
    let mut batch = buffer.take(now);
    let taken = |segments: &[Segment]| -> Vec<(i32, i64)> {
        segments.iter().map(|segment| (segment.partition, segment.from)).collect()
    };
    assert_eq!(taken(&batch), [(0, 0), (1, 0), (2, 0)]);
    for segment in batch.drain(1..) {
        buffer.put_back(segment, now);
    }
    buffer.insert(delivery(1, 1, "a", 1, 80), None, now);
    assert!(!buffer.is_drained(&[1]));
    assert_eq!(taken(&buffer.take(now)), [(1, 0)]);
    assert_eq!(taken(&buffer.take(now)), [(2, 0)]);
    assert!(buffer.take(now).is_empty());
    for partition in 0..3 {
        buffer.written(partition, 1, 1, RedisWrite::Done);
        buffer.insert(delivery(partition, 1, "a", 1, 80), None, now);
    }
    assert_eq!(taken(&buffer.take(now)), [(0, 1), (1, 1), (2, 1)], "together again");
    let former = Segment::new(0, 7, 0);
    buffer.put_back(former, now);
    assert!(buffer.take(now).is_empty(), "of another claim");
}
