use ljwx_ledger::group::delivery::Delivery;

use super::RedisWrite::{Deferred, Done};
use super::*;
use crate::batch::test_support::delivery;
use crate::batch::{FlushReason, Segment};

/// Returns a batch of one segment of partition 0 under the claim `epoch`, with or without more
/// waiting segments. `readings` are device, second and heart rate.
fn batch(epoch: i64, has_successor: bool, from: i64, readings: &[(&str, u32, i32)]) -> Batch {
    let mut segment = Segment::new(0, epoch, from);
    segment.has_successor = has_successor;
    for (offset, (sn, second, heart_rate)) in (from..).zip(readings) {
        let delivery = Delivery { epoch, ..delivery(0, offset, sn, *second, *heart_rate) };
        segment.push(delivery, None);
    }
    Batch { id: String::new(), reason: FlushReason::Rows, segments: vec![segment] }
}

/// Returns devices and heart rates of rows.
fn shown(rows: Vec<DeferredRow>) -> Vec<(String, i32)> {
    let values =
        |((sn, _), row): DeferredRow| (sn.as_str().to_owned(), row.vitals.heart_rate.unwrap());
    rows.into_iter().map(values).collect()
}

fn some(values: &[(&str, i32)]) -> Vec<(String, i32)> {
    values.iter().map(|(sn, heart_rate)| ((*sn).to_owned(), *heart_rate)).collect()
}

#[test]
fn a_batch_with_nothing_behind_it_shows_the_newest_of_each_device() {
    let now = Instant::now();
    let readings = [("a", 2, 82), ("a", 1, 81), ("b", 0, 70)];
    let (rows, outcomes) = DeferredDevices::default().sort(&batch(1, false, 0, &readings), now);
    assert_eq!((shown(rows), outcomes), (some(&[("a", 82), ("b", 70)]), vec![Done]));
}

#[test]
fn what_a_backlog_puts_off_is_shown_with_what_comes_behind_once() {
    let now = Instant::now();
    let mut put_off = DeferredDevices::default();
    let (rows, outcomes) = put_off.sort(&batch(1, true, 0, &[("a", 1, 81), ("b", 0, 70)]), now);
    assert_eq!((shown(rows), outcomes), (some(&[]), vec![Deferred]));
    let (rows, outcomes) = put_off.sort(&batch(1, false, 2, &[("a", 2, 82)]), now);
    assert_eq!((shown(rows), outcomes), (some(&[("a", 82), ("b", 70)]), vec![Done]));
    let (rows, _) = put_off.sort(&batch(1, false, 3, &[("c", 0, 60)]), now);
    assert_eq!(shown(rows), some(&[("c", 60)]), "and not again");
}

#[test]
fn however_long_the_backlog_it_is_shown_every_so_often() {
    let now = Instant::now();
    let mut put_off = DeferredDevices::default();
    let mut outcomes = Vec::new();
    for n in 0..5_u32 {
        let next = batch(1, true, i64::from(n), &[("a", n, 80)]);
        outcomes.extend(put_off.sort(&next, now + WRITE_INTERVAL * n / 2).1);
    }
    assert_eq!(outcomes, [Deferred, Deferred, Done, Deferred, Deferred]);
}

#[test]
fn readings_of_one_time_are_all_shown_and_an_older_one_is_not() {
    let now = Instant::now();
    let mut put_off = DeferredDevices::default();
    put_off.sort(&batch(1, true, 0, &[("a", 5, 81)]), now);
    put_off.sort(&batch(1, true, 1, &[("a", 5, 82)]), now);
    let (rows, _) = put_off.sort(&batch(1, false, 2, &[("a", 4, 83)]), now);
    assert_eq!(shown(rows), some(&[("a", 81), ("a", 82)]));
}

#[test]
fn what_a_former_claim_put_off_is_left_to_the_repair() {
    let now = Instant::now();
    let mut put_off = DeferredDevices::default();
    put_off.sort(&batch(1, true, 0, &[("a", 1, 81)]), now);
    let (rows, _) = put_off.sort(&batch(2, false, 0, &[("b", 1, 70)]), now);
    assert_eq!(shown(rows), some(&[("b", 70)]));
}
