//! Decides what to do with a notification now, from its row.
//!
//! Pure. Whether the account can send is decided by [`crate::notify::limits::breaker`].

use std::time::Duration;

use super::retry_policy::FIX_WAIT;
use crate::notify::address::Address;
use crate::notify::notice::Notice;
use crate::notify::outbox::{
    Attempt, Notification, RECIPIENT_LIMIT, Settlement, from_milliseconds,
};
use crate::rules::Channel;

/// Age from which a notification is sent only if it reports an end or its episode still fires.
pub const AGE_MAX: Duration = Duration::from_secs(30 * 60);

/// Margin before the end of a platform's window, several times the length of one attempt. Within
/// the margin, do not rely on the platform to recognise a repeated request.
const WINDOW_MARGIN: Duration = Duration::from_secs(60);

/// Wait of an end whose beginning is yet to be sent, before it is looked at again.
const START_WAIT: Duration = Duration::from_secs(10);

/// A notification with its parsed address and notice.
pub struct SendJob<'a> {
    /// The notification.
    pub notification: &'a Notification,
    /// The address.
    pub address: Address,
    /// The notice, if it can be read.
    pub notice: Option<Notice>,
}

/// What is looked up about a notification.
#[derive(Debug, Clone, Copy)]
pub struct SendFacts {
    /// Whether an earlier notification of the episode waits at another address of the recipient.
    /// Queried for ends only.
    pub start_waits: bool,
    /// Whether the recipient was notified of the episode before. Queried for ends only.
    pub start_notified: bool,
    /// Whether the episode still fires. Queried for old notifications only.
    pub firing: bool,
    /// Time until the recipient is below the limit. `None`: the recipient is below the limit.
    pub recipient_wait: Option<Duration>,
}

/// Whether a notification is only sent if it still matters, and is then marked as delayed.
pub fn is_old(notification: &Notification) -> bool {
    notification.age() >= AGE_MAX
}

/// Decides what to do with a notification: to send the rebuilt request if true, else the stored
/// bytes. The error is the attempt that makes no request.
pub fn decide(job: &SendJob<'_>, facts: SendFacts) -> Result<bool, Attempt> {
    let dropped = |reason| Err(Attempt::not_sent(Settlement::Dropped, reason));
    let SendJob { notification, address, notice } = job;
    let is_end = notification.is_end();
    if is_end && !facts.start_notified {
        let later = Attempt::later(START_WAIT, "earlier_waits");
        return if facts.start_waits { Err(later) } else { dropped("never_notified") };
    }
    let delayed = is_old(notification);
    if delayed && !is_end && !facts.firing {
        return dropped("too_old");
    }
    let has_bytes = !notification.payload.is_empty();
    if !has_bytes && notice.is_none() {
        // A sender of a later version, which may run beside this one, can read its own notice.
        let later = Attempt::later(FIX_WAIT, "no_content");
        return if delayed { dropped("no_content") } else { Err(later) };
    }
    if let Some(wait) = facts.recipient_wait {
        return Err(Attempt::later(wait, RECIPIENT_LIMIT));
    }
    // Without a readable notice, send the stored bytes rather than lose the notification.
    let Some(notice) = notice else { return Ok(false) };
    let uncertain = notification.uncertain_ms.map(from_milliseconds);
    Ok(match uncertain {
        // Send identical bytes: they let the platform recognise the repeated request.
        Some(since) => !has_bytes || since >= window(address.channel).saturating_sub(WINDOW_MARGIN),
        // Rebuild a failed request: its bytes depend on the account's settings, which may be fixed
        // by now.
        None => !has_bytes || notification.attempts > 0 || delayed && !notice.delayed,
    })
}

/// Returns how long a channel's platform recognises a request, by its `client_msg_id` or by all of
/// its bytes. Messages to the watch are never uncertain.
const fn window(channel: Channel) -> Duration {
    match channel {
        Channel::Official => Duration::from_secs(10 * 60),
        Channel::Wecom => Duration::from_secs(30 * 60),
        Channel::Message => Duration::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::episode::TransitionKind;
    use crate::test_support;

    const MINUTE: Duration = Duration::from_secs(60);
    const MINUTE_MS: i64 = 60_000;
    const OLD_MS: i64 = 30 * MINUTE_MS;

    /// A notification, and all that is known about it.
    #[derive(Clone)]
    struct Known {
        notification: Notification,
        channel: Channel,
        notice: Option<Notice>,
        facts: SendFacts,
    }

    impl Known {
        /// Returns this one with a change.
        fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
            let mut known = self.clone();
            change(&mut known);
            known
        }

        fn decide(&self) -> Decision {
            let Self { notification, channel, notice, facts } = self;
            let address = Address { channel: *channel, name: "o1".into() };
            decide(&SendJob { notification, address, notice: notice.clone() }, *facts)
        }
    }

    /// A recent opening that was never sent.
    fn fresh() -> Known {
        Known {
            notification: Notification { payload: b"{}".into(), ..test_support::notification() },
            channel: Channel::Official,
            notice: Some(test_support::notice()),
            facts: SendFacts {
                start_waits: false,
                start_notified: false,
                firing: true,
                recipient_wait: None,
            },
        }
    }

    fn old() -> Known {
        fresh().with(|known| known.notification.age_ms = OLD_MS)
    }

    /// A recent end of an episode of which the recipient was notified.
    fn end() -> Known {
        fresh().with(|known| {
            known.notification.transition = TransitionKind::Resolved.as_str().into();
            known.facts = SendFacts { start_notified: true, firing: false, ..known.facts };
        })
    }

    type Decision = Result<bool, Attempt>;

    const STORED: Decision = Ok(false);

    const REBUILT: Decision = Ok(true);

    fn postponed(wait: Duration, reason: &'static str) -> Decision {
        Err(Attempt::later(wait, reason))
    }

    fn dropped(reason: &'static str) -> Decision {
        Err(Attempt::not_sent(Settlement::Dropped, reason))
    }

    fn check(cases: impl IntoIterator<Item = (Known, Decision)>) {
        for (number, (known, now)) in cases.into_iter().enumerate() {
            assert_eq!(known.decide(), now, "{number}: {:?}", known.notification);
        }
    }

    #[test]
    fn young_notifications_go_as_they_are_and_old_ones_only_if_they_still_matter() {
        let over = |known: &mut Known| known.facts.firing = false;
        let unreadable = |known: &mut Known| known.notice = None;
        let empty = |known: &mut Known| known.notification.payload.clear();
        check([
            (fresh(), STORED),
            (fresh().with(over), STORED),
            (fresh().with(|known| known.notification.age_ms = OLD_MS - MINUTE_MS), STORED),
            (old(), REBUILT),
            (
                old().with(|known| {
                    known.notice = Some(Notice { delayed: true, ..test_support::notice() });
                }),
                STORED,
            ),
            (old().with(over), dropped("too_old")),
            (old().with(unreadable), STORED),
            (end(), STORED),
            (end().with(|known| known.facts.start_notified = false), dropped("never_notified")),
            (end().with(|known| known.notification.age_ms = OLD_MS), REBUILT),
            (fresh().with(empty), REBUILT),
            (fresh().with(|known| known.notification.attempts = 1), REBUILT),
            (fresh().with(empty).with(unreadable), postponed(FIX_WAIT, "no_content")),
            (old().with(empty).with(unreadable), dropped("no_content")),
        ]);
    }

    #[test]
    fn an_end_waits_for_its_beginning_at_another_address() {
        let waits = |known: &mut Known| known.facts.start_waits = true;
        let unknown = |known: &mut Known| known.facts.start_notified = false;
        check([
            (end().with(waits).with(unknown), postponed(START_WAIT, "earlier_waits")),
            (end().with(unknown), dropped("never_notified")),
            (end().with(waits), STORED),
        ]);
    }

    #[test]
    fn what_may_have_arrived_goes_again_as_it_was_and_later_as_a_repeat() {
        let uncertain = |minutes: i64| {
            fresh().with(|known| {
                known.notification.uncertain_ms = Some(minutes * MINUTE_MS);
                known.notification.attempts = 1;
            })
        };
        let wecom = |minutes: i64| uncertain(minutes).with(|known| known.channel = Channel::Wecom);
        let aged =
            |minutes: i64| uncertain(minutes).with(|known| known.notification.age_ms = OLD_MS);
        check([
            (uncertain(0), STORED),
            (uncertain(8), STORED),
            (uncertain(9), REBUILT),
            (wecom(28), STORED),
            (wecom(29), REBUILT),
            (aged(5), STORED),
            (aged(25), REBUILT),
            (aged(5).with(|known| known.facts.firing = false), dropped("too_old")),
            (uncertain(60).with(|known| known.notice = None), STORED),
        ]);
    }

    #[test]
    fn a_recipient_who_has_had_enough_waits_and_what_is_dropped_does_not() {
        let enough = |known: &mut Known| known.facts.recipient_wait = Some(MINUTE);
        let waits = postponed(MINUTE, "recipient_limit");
        let void = end().with(enough).with(|known| known.facts.start_notified = false);
        check([(fresh().with(enough), waits), (void, dropped("never_notified"))]);
    }
}
