use super::*;

const MEND: Duration = Duration::from_secs(300);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A breaker whose account has worked.
fn proven(now: Instant) -> AccountBreaker {
    let mut breaker = AccountBreaker::new(now);
    breaker.admit(now).unwrap();
    assert_eq!(breaker.report(AccountHealth::Works, now, 0.0), None);
    breaker
}

#[test]
fn of_an_account_that_was_never_used_one_message_tries_it() {
    let now = Instant::now();
    let mut breaker = AccountBreaker::new(now);
    assert_eq!(breaker.admit(now), Ok(()));
    assert_eq!(breaker.admit(now), Err(TRIAL_WAIT));
    assert!(!breaker.is_failing());
    breaker.report(AccountHealth::Works, now, 0.0);
    assert_eq!((breaker.admit(now), breaker.admit(now)), (Ok(()), Ok(())));
}

#[test]
fn a_broken_account_is_told_of_once_tried_once_in_a_while_and_told_of_when_it_works() {
    let start = Instant::now();
    let mut breaker = proven(start);
    assert_eq!(
        breaker.report(AccountHealth::Broken(MEND), start, 0.0),
        Some(AccountChange::Opened)
    );
    assert_eq!(
        breaker.report(AccountHealth::Broken(MEND), start, 0.0),
        None,
        "others were on their way"
    );
    assert_eq!(breaker.admit(start + seconds(1)), Err(MEND - seconds(1)));
    assert!(breaker.is_paused(start) && breaker.is_failing());

    let later = start + MEND;
    assert!(!breaker.is_paused(later));
    assert_eq!((breaker.admit(later), breaker.admit(later)), (Ok(()), Err(TRIAL_WAIT)));
    assert!(breaker.is_paused(later), "one message is trying it");
    assert_eq!(breaker.report(AccountHealth::Broken(MEND), later, 0.0), None, "they know");
    let later = later + MEND;
    breaker.admit(later).unwrap();
    assert_eq!(
        breaker.report(AccountHealth::Works, later, 0.0),
        Some(AccountChange::Closed(start))
    );
    assert!(!breaker.is_failing());
    assert_eq!(
        breaker.report(AccountHealth::Broken(MEND), later, 0.0),
        Some(AccountChange::Opened),
        "once more"
    );
}

#[test]
fn operators_hear_once_a_day_of_an_account_that_stays_broken() {
    let start = Instant::now();
    let mut breaker = proven(start);
    breaker.report(AccountHealth::Broken(MEND), start, 0.0);
    for (after, change) in [
        (EVENT_INTERVAL - MEND, None),
        (EVENT_INTERVAL, Some(AccountChange::StillOpen(start))),
        (EVENT_INTERVAL + MEND, None),
        (EVENT_INTERVAL * 2, Some(AccountChange::StillOpen(start))),
    ] {
        breaker.admit(start + after).unwrap();
        let broken = breaker.report(AccountHealth::Broken(MEND), start + after, 0.0);
        assert_eq!(broken, change, "{after:?}");
    }
}

#[test]
fn silence_opens_it_after_a_few_attempts_and_it_is_tried_ever_more_rarely() {
    let start = Instant::now();
    let mut breaker = proven(start);
    for _ in 1..UNCERTAIN_FAILURES_MAX {
        assert_eq!(breaker.report(AccountHealth::Uncertain, start, 0.0), None);
        assert_eq!(breaker.admit(start), Ok(()));
    }
    assert_eq!(breaker.report(AccountHealth::Uncertain, start, 0.0), Some(AccountChange::Opened));
    let mut now = start;
    for wait in [5, 10, 20, 40, 80, 160, 300, 300] {
        assert_eq!(breaker.admit(now), Err(seconds(wait)));
        now += seconds(wait);
        breaker.admit(now).unwrap();
        assert_eq!(breaker.report(AccountHealth::Uncertain, now, 0.0), None);
        assert_eq!(breaker.report(AccountHealth::Uncertain, now, 0.0), None, "it was on its way");
    }
}

#[test]
fn a_word_in_between_begins_the_count_of_silence_anew() {
    let now = Instant::now();
    let mut breaker = proven(now);
    for _ in 0..3 {
        for _ in 1..UNCERTAIN_FAILURES_MAX {
            breaker.report(AccountHealth::Uncertain, now, 0.0);
        }
        breaker.report(AccountHealth::Works, now, 0.0);
    }
    assert_eq!(breaker.admit(now), Ok(()));
}

#[test]
fn all_leaves_an_account_that_operators_heard_of_until_one_message_tries_it() {
    let now = Instant::now();
    let mut breaker = AccountBreaker::new(now);
    breaker.admit(now).unwrap();
    assert_eq!(breaker.leaving(now), None, "it is tried for the first time");
    breaker.report(AccountHealth::Broken(MEND), now, 0.0);
    let (before, due) = (now + MEND - seconds(1), now + MEND);
    assert_eq!(
        [now, before, due].map(|at| breaker.leaving(at)),
        [Some(Leaving::All), Some(Leaving::All), None]
    );
    breaker.admit(due).unwrap();
    assert_eq!(breaker.leaving(due), Some(Leaving::All), "one message is trying it");
    breaker.report(AccountHealth::Works, due, 0.0);
    assert_eq!(breaker.leaving(due), None);
    breaker.report(AccountHealth::Limited(seconds(60)), due, 0.0);
    assert_eq!(breaker.leaving(due), Some(Leaving::Critical));
    assert_eq!(breaker.leaving(due + seconds(60)), None);
}

#[test]
fn a_limit_is_waited_out_and_nobody_is_troubled() {
    let now = Instant::now();
    let mut breaker = proven(now);
    assert_eq!(breaker.report(AccountHealth::Limited(seconds(60)), now, 0.0), None);
    assert_eq!(breaker.report(AccountHealth::Works, now, 0.0), None, "it was on its way");
    assert_eq!(breaker.admit(now), Err(seconds(60)));
    breaker.admit(now + seconds(60)).unwrap();
    assert_eq!(breaker.report(AccountHealth::Works, now + seconds(60), 0.0), None);
    assert_eq!(breaker.admit(now + seconds(60)), Ok(()));
}

#[test]
fn a_trial_that_came_to_nothing_is_followed_by_another() {
    let now = Instant::now();
    let mut breaker = AccountBreaker::new(now);
    breaker.admit(now).unwrap();
    breaker.abandon(now);
    assert_eq!(breaker.admit(now), Ok(()));
    assert_eq!(breaker.admit(now + TRIAL_MAX), Ok(()), "nobody said what became of it");
}
