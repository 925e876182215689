use ljwx_ledger::group::lag::{GroupState, Lag};

use super::status::{REDIS_REJECTS_MAX, STORE_WINDOW};
use super::*;

/// Returns the health of a worker that has stored nothing for too long.
fn silent(partitions: &[i32]) -> Health {
    let health = Health::new(GroupProtocol::Classic);
    health.turned(partitions.to_vec(), None);
    health.joined();
    let mut state = health.state();
    state.last_stored = state.started.checked_sub(STORE_WINDOW * 2).unwrap();
    drop(state);
    health
}

/// Returns the status after an observation in which partition 3 is stalled for this time.
fn status(health: &Health, stalled_seconds: f64) -> &'static str {
    let lag = Lag {
        partition: 3,
        records: 1,
        seconds: 0.0,
        stalled_seconds,
        retention_left_seconds: None,
    };
    let seen = GroupState { ends: [(3, Default::default())].into(), ..GroupState::default() };
    let (database, kafka, redis) = (true, true, true);
    health.observed(&Observation { database, kafka, redis, seen: &seen, lags: vec![lag] });
    health.report(0).status
}

#[test]
fn only_what_has_waited_long_in_own_partitions_speaks_against_a_worker() {
    for (partitions, stalled_seconds, said) in [
        (&[][..], 3600.0, "healthy"),
        (&[4], 3600.0, "healthy"),
        (&[3, 4], 2.0, "healthy"),
        (&[3, 4], 3600.0, "unhealthy"),
    ] {
        let health = silent(partitions);
        assert_eq!(status(&health, stalled_seconds), said, "{partitions:?} {stalled_seconds}");
        assert_eq!(health.ready(), Ok(()), "{partitions:?}");
    }
    let storing = silent(&[3]);
    storing.stored(1, 0);
    assert_eq!(status(&storing, 3600.0), "healthy", "another partition goes on");
}

#[test]
fn a_worker_is_ready_once_the_group_has_answered() {
    let health = Health::new(GroupProtocol::Classic);
    assert_eq!(health.ready(), Err("the group has not answered yet".into()));
    health.joined();
    assert_eq!(health.ready(), Err("MySQL is not reachable".into()));
}

#[test]
fn a_redis_that_refuses_writes_for_a_minute_is_unhealthy_and_says_why() {
    let health = Health::new(GroupProtocol::Classic);
    let writes = &health.redis().writes;
    let reason = "redis refuses writes: OOM command not allowed";
    let says_why = |report: &HealthStatus| report.reasons.iter().any(|why| why == reason);
    let error = "OOM command not allowed";
    writes.failed(error, Instant::now());
    let report = health.report(0);
    assert!(says_why(&report) && report.status == "degraded", "{report:?}");
    writes.taken();
    writes.failed(error, Instant::now() - REDIS_REJECTS_MAX);
    let report = health.report(0);
    assert!(says_why(&report) && report.status == "unhealthy", "{report:?}");
    writes.taken();
    assert!(!says_why(&health.report(0)));
}

#[test]
fn a_redis_that_refuses_messages_is_degraded_however_long() {
    let health = Health::new(GroupProtocol::Classic);
    health.redis().messages.failed("NOPERM", Instant::now() - REDIS_REJECTS_MAX);
    let report = health.report(0);
    let says_why = report.reasons.iter().any(|why| why == "redis refuses messages: NOPERM");
    assert!(says_why && report.status == "degraded", "{report:?}");
}

#[test]
fn a_partition_that_cannot_be_claimed_is_a_reason_until_it_is() {
    let health = silent(&[3]);
    let reason = "partition 4 is unclaimed: the ledger stands at 4".to_owned();
    assert_eq!(status(&health, 0.0), "healthy");
    health.unclaimed(vec![reason.clone()]);
    assert_eq!(status(&health, 0.0), "degraded");
    assert_eq!(health.report(0).reasons, [reason]);
    health.unclaimed(Vec::new());
    assert_eq!(status(&health, 0.0), "healthy");
}

#[test]
fn a_held_batch_is_a_reason_until_it_is_released_whatever_others_store() {
    let health = Health::new(GroupProtocol::Classic);
    let held = |health: &Health| -> Vec<String> {
        let reasons = health.report(0).reasons;
        reasons.into_iter().filter(|why| why.starts_with("held")).collect()
    };
    health.held("a", vec![3, 1], "locked");
    health.held("b", vec![2], "locked");
    health.held("c", vec![5], "too many dead letters");
    health.stored(100, 0);
    let both = ["held: locked (partitions 1, 2, 3)", "held: too many dead letters (partitions 5)"];
    assert_eq!((held(&health), health.held_batches()), (both.map(str::to_owned).to_vec(), 3));
    health.released("a");
    health.released("c");
    health.stored(100, 0);
    assert_eq!(held(&health), ["held: locked (partitions 2)"]);
    assert!(!health.is_free());
    health.released("b");
    assert_eq!((held(&health), health.held_batches()), (Vec::new(), 0));
    health.released("b");
    assert!(health.is_free());
}

#[test]
fn an_unreadable_consumption_state_is_a_reason_and_reported_once() {
    let health = Health::new(GroupProtocol::Classic);
    health.stored(1, 0);
    let says_so = |health: &Health| health.report(0).reasons.iter().any(|why| why == "no right");
    assert!(!health.consumption_unreadable(None));
    assert!(health.consumption_unreadable(Some("no right".into())));
    assert!(!health.consumption_unreadable(Some("no right".into())));
    assert!(says_so(&health) && !health.is_free());
    assert!(health.consumption_unreadable(None));
    assert!(!says_so(&health) && health.is_free());
}
