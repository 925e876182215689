use super::*;

const CLAIM: Claim = Claim { partition: 3, epoch: 7, next_offset: 50, redis_offset: 0 };

fn claim(epoch: i64) -> Claim {
    Claim { epoch, ..CLAIM }
}

/// Returns an assignment of the partitions 3 and 4. Partition 3 is claimed.
fn assigned(now: Instant) -> Assignment {
    let mut assignment = Assignment::default();
    assignment.add(&[3, 4], now);
    assignment.claimed(&CLAIM, now);
    assignment
}

fn after(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

fn out_of_range() -> ClaimFailure {
    ClaimFailure::OutOfRange("the ledger stands at 4".into())
}

fn no_leader() -> ClaimFailure {
    ClaimFailure::NoLeader(KafkaError::Canceled)
}

fn unanswered() -> ClaimFailure {
    ClaimFailure::Server(anyhow::anyhow!("MySQL does not answer"))
}

#[test]
fn only_records_of_a_claim_are_admitted_each_once_and_with_its_epoch() {
    let mut assignment = assigned(Instant::now());
    for (partition, offset, epoch) in
        [(3, 49, None), (3, 50, Some(7)), (3, 50, None), (3, 55, Some(7)), (4, 50, None)]
    {
        assert_eq!(assignment.admit(partition, offset), epoch, "{partition} {offset}");
    }
    assert_eq!(assignment.positions(), [(3, 7, 56)]);
}

#[test]
fn offsets_without_a_record_end_a_partition_once_the_consumer_has_read_them() {
    let now = Instant::now();
    let mut assignment = assigned(now);
    assert_eq!(assignment.admit(3, 50), Some(7));
    assert_eq!(assignment.record_end(3, 53), 53, "they may hold records");
    assignment.note_read(&[(3, 13)], 40);
    assert_eq!([53, 54].map(|end| assignment.record_end(3, end)), [51, 54]);
    assert_eq!(assignment.admit(3, 53), Some(7));
    assert_eq!([53, 54].map(|end| assignment.record_end(3, end)), [54, 54]);
    assignment.changed(&[3], true);
    assignment.claimed(&claim(8), now);
    assignment.note_read(&[(3, 60), (4, 60), (9, 60)], 0);
    assert_eq!(assignment.record_end(3, 60), 60, "the position of a former claim");
    assert_eq!(assignment.record_end(4, 60), 60, "unclaimed");
}

#[test]
fn a_lost_claim_is_claimed_again_ever_later_until_a_claim_stays() {
    let start = Instant::now();
    let mut assignment = assigned(start);
    assignment.claimed(&Claim { partition: 4, ..CLAIM }, start);
    assignment.changed(&[3], true);
    let mut now = start;
    for (epoch, wait) in [(7, 1), (8, 2), (9, 4), (10, 8), (11, 16), (12, 30), (13, 30)] {
        assert!(assignment.unclaim(3, epoch, now, 0.0));
        let early = after(now, wait) - Duration::from_millis(1);
        assert!(assignment.due(early).is_empty(), "{epoch}");
        now = after(now, wait);
        assert_eq!(assignment.due(now), [3], "{epoch}");
        assignment.claimed(&claim(epoch + 1), now);
    }
    now += CLAIM_STAYS;
    assert!(assignment.unclaim(3, 14, now, 0.0));
    assert_eq!(assignment.due(after(now, 1)), [3], "the claim had stayed");
}

#[test]
fn only_the_present_claim_can_be_lost() {
    let now = Instant::now();
    let mut assignment = assigned(now);
    for (partition, epoch) in [(3, 6), (3, 8), (4, 7), (5, 7)] {
        assert!(!assignment.unclaim(partition, epoch, now, 0.0), "{partition} {epoch}");
    }
    assert_eq!(assignment.counts(), (1, 1));
    assert!(assignment.unclaim(3, 7, now, 0.0));
    assert!(!assignment.unclaim(3, 7, now, 0.0), "it is lost already");
    assert_eq!(assignment.counts(), (0, 2));
    assert_eq!(assignment.admit(3, 60), None);
}

#[test]
fn the_epoch_of_the_last_claim_is_known_beyond_the_assignment() {
    let now = Instant::now();
    let mut assignment = assigned(now);
    assert!(assignment.unclaim(3, 7, now, 0.0));
    assignment.remove(&[3]);
    assignment.add(&[3], now);
    assert_eq!([3, 4].map(|partition| assignment.last_epoch(partition)), [7, 0]);
}

#[test]
fn a_partition_that_cannot_be_claimed_waits_behind_those_that_nobody_has_tried() {
    let now = Instant::now();
    let mut assignment = Assignment::default();
    assignment.add(&[1, 2], now);
    assert!(assignment.due(now).is_empty(), "they are not paused yet");
    assignment.changed(&[1, 2], true);
    assert_eq!(assignment.due(now), [1, 2]);
    assignment.failed(1, &unanswered(), now, 0.0);
    assert_eq!(assignment.due(now), [2]);
    assert_eq!(assignment.due(after(now, 1)), [2, 1]);
}

#[test]
fn a_server_is_asked_every_second_and_the_topic_ever_later() {
    let start = Instant::now();
    let ever_later = [1, 2, 4, 8, 16, 30, 30];
    for (failure, waits) in
        [(unanswered(), [1; 7]), (out_of_range(), ever_later), (no_leader(), ever_later)]
    {
        let mut assignment = Assignment::default();
        assignment.add(&[1], start);
        assignment.changed(&[1], true);
        let mut now = start;
        for wait in waits {
            assignment.failed(1, &failure, now, 0.0);
            let early = after(now, wait) - Duration::from_millis(1);
            assert!(assignment.due(early).is_empty(), "{failure}");
            now = after(now, wait);
            assert_eq!(assignment.due(now), [1], "{failure}");
        }
    }
}

#[test]
fn a_failure_is_a_warning_once_for_each_kind_and_a_reason_until_the_claim() {
    let now = Instant::now();
    let mut assignment = assigned(now);
    for (failure, warned) in [
        (unanswered(), true),
        (unanswered(), false),
        (out_of_range(), true),
        (out_of_range(), false),
    ] {
        assert_eq!(assignment.failed(4, &failure, now, 0.0), warned, "{failure}");
    }
    assert_eq!(assignment.unclaimed(), ["partition 4 is unclaimed: the ledger stands at 4"]);
    assignment.claimed(&Claim { partition: 4, ..CLAIM }, now);
    assert!(assignment.unclaimed().is_empty());
    assert!(!assignment.failed(9, &unanswered(), now, 0.0), "it is not assigned");
}

/// Changes the assignment. Returns what is then paused and what is resumed.
fn turn(assignment: &mut Assignment, change: impl FnOnce(&mut Assignment)) -> (Vec<i32>, Vec<i32>) {
    change(assignment);
    let (pause, resume) = (assignment.to_change(true), assignment.to_change(false));
    assignment.changed(&pause, true);
    assignment.changed(&resume, false);
    let again = [assignment.to_change(true), assignment.to_change(false)].concat();
    assert!(again.is_empty(), "{again:?} are changed twice");
    (pause, resume)
}

#[test]
fn unclaimed_and_held_back_partitions_are_paused_and_all_while_there_is_no_room() {
    let now = Instant::now();
    let all = &mut assigned(now);
    let of = |partition| Claim { partition, ..CLAIM };
    let nothing = (vec![], vec![]);
    assert_eq!(turn(all, |_| {}), (vec![4], vec![]), "unclaimed");
    assert_eq!(turn(all, |all| all.hold_back([3, 4].into())), (vec![3], vec![]), "held back");
    assert_eq!(turn(all, |all| all.claimed(&of(4), now)), nothing);
    assert_eq!(turn(all, |all| all.hold_back([3].into())), (vec![], vec![4]));
    assert_eq!(turn(all, |all| all.set_full(true)), (vec![4], vec![]));
    assert_eq!(turn(all, |all| all.add(&[5], now)), (vec![5], vec![]), "a rebalance brings one");
    assert_eq!(turn(all, |all| all.claimed(&of(5), now)), nothing);
    assert_eq!(turn(all, |all| all.set_full(false)), (vec![], vec![4, 5]));
    assert_eq!(turn(all, |all| assert!(all.unclaim(4, 7, now, 0.0))), (vec![4], vec![]));
    assert_eq!(turn(all, |all| all.hold_back(BTreeSet::new())), (vec![], vec![3]));
    assert_eq!(all.remove(&[3, 4, 9]), [4], "the paused one of those that were there");
}

#[test]
fn a_pause_or_a_resume_that_failed_is_tried_again() {
    let assignment = assigned(Instant::now());
    assert_eq!(assignment.to_change(true), [4]);
    assert_eq!(assignment.to_change(true), [4]);
}
