use super::*;

const MEND: Duration = Duration::from_secs(300);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A breaker whose account has worked.
fn proven(now: Instant) -> AccountBreaker {
    let mut breaker = AccountBreaker::new(now);
    breaker.admit(now).unwrap();
    breaker.report(AccountHealth::Works, now, 0.0);
    breaker
}

#[test]
fn of_an_account_that_was_never_used_one_message_tries_it() {
    let now = Instant::now();
    let mut breaker = AccountBreaker::new(now);
    assert_eq!(breaker.admit(now), Ok(()));
    assert_eq!(breaker.admit(now), Err(TRIAL_WAIT));
    assert!(!breaker.is_failing);
    breaker.report(AccountHealth::Works, now, 0.0);
    assert_eq!((breaker.admit(now), breaker.admit(now)), (Ok(()), Ok(())));
}

#[test]
fn a_broken_account_is_tried_once_in_a_while_until_it_works() {
    let start = Instant::now();
    let mut breaker = proven(start);
    breaker.report(AccountHealth::Broken(MEND), start, 0.0);
    breaker.report(AccountHealth::Works, start, 0.0);
    assert!(breaker.is_broken, "others were on their way");
    assert_eq!(breaker.admit(start + seconds(1)), Err(MEND - seconds(1)));
    assert!(breaker.is_paused(start) && breaker.is_failing);

    let later = start + MEND;
    assert!(!breaker.is_paused(later));
    assert_eq!((breaker.admit(later), breaker.admit(later)), (Ok(()), Err(TRIAL_WAIT)));
    assert!(breaker.is_paused(later), "one message is trying it");
    breaker.report(AccountHealth::Broken(MEND), later, 0.0);
    assert!(breaker.is_broken);
    let later = later + MEND;
    breaker.admit(later).unwrap();
    breaker.report(AccountHealth::Works, later, 0.0);
    assert!(!breaker.is_failing && !breaker.is_broken);
}

#[test]
fn silence_opens_it_after_a_few_attempts_and_it_is_tried_ever_more_rarely() {
    let start = Instant::now();
    let mut breaker = proven(start);
    for _ in 1..UNCERTAIN_FAILURES_MAX {
        breaker.report(AccountHealth::Uncertain, start, 0.0);
        assert_eq!((breaker.admit(start), breaker.is_broken), (Ok(()), false));
    }
    breaker.report(AccountHealth::Uncertain, start, 0.0);
    assert!(breaker.is_broken);
    let mut now = start;
    for wait in [5, 10, 20, 40, 80, 160, 300, 300] {
        assert_eq!(breaker.admit(now), Err(seconds(wait)));
        now += seconds(wait);
        breaker.admit(now).unwrap();
        breaker.report(AccountHealth::Uncertain, now, 0.0);
        breaker.report(AccountHealth::Uncertain, now, 0.0);
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
fn all_leaves_an_account_that_operators_were_notified_of_until_one_message_tries_it() {
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
    breaker.report(AccountHealth::Limited(seconds(60)), now, 0.0);
    breaker.report(AccountHealth::Works, now, 0.0);
    assert_eq!(breaker.admit(now), Err(seconds(60)), "another was on its way");
    assert!(breaker.is_failing && !breaker.is_broken);
    breaker.admit(now + seconds(60)).unwrap();
    breaker.report(AccountHealth::Works, now + seconds(60), 0.0);
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
