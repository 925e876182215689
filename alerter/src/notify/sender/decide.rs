//! Decides what to do with a notification now, from its row.
//!
//! Pure. Whether the account can send is decided by [`crate::notify::limits::breaker`].

use std::time::Duration;

use super::retry_policy::FIX_WAIT;
use crate::notify::outbox::RECIPIENT_LIMIT;
use crate::rules::channel::Channel;

/// Age from which a notification is sent only if it reports an end or its episode still fires.
pub const AGE_MAX: Duration = Duration::from_secs(30 * 60);

/// Margin before the end of a platform's window, several times the length of one attempt. Within
/// the margin, do not rely on the platform to recognise a repeated request.
const WINDOW_MARGIN: Duration = Duration::from_secs(60);

/// The facts about a notification that decide what to do with it.
#[derive(Debug, Clone, Copy)]
pub struct NotificationState {
    /// Time since the event.
    pub age: Duration,
    /// Whether the notification reports an end.
    pub is_end: bool,
    /// Whether the recipient was notified of the episode before. Queried for ends only.
    pub start_notified: bool,
    /// Whether the episode still fires. Queried for old notifications only.
    pub firing: bool,
    /// Time since the notification may have arrived. `None`: it has not arrived.
    pub uncertain: Option<Duration>,
    /// Time for which the platform recognises the same bytes.
    pub window: Duration,
    /// Whether an attempt was made before.
    pub tried: bool,
    /// Whether the row holds the bytes of a request.
    pub has_bytes: bool,
    /// Whether the row's notice can be read.
    pub has_notice: bool,
    /// Whether the notice is marked as delayed.
    pub marked_delayed: bool,
    /// Time until the recipient is below the limit. `None`: the recipient is below the limit.
    pub recipient_wait: Option<Duration>,
}

/// The decision about a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Send the stored bytes.
    Stored,
    /// Rebuild the request, then send it.
    Rebuild {
        /// Mark the notification as delayed.
        delayed: bool,
        /// Mark the notification as a possible repeat.
        repeat: bool,
    },
    /// Postpone the notification, with the wait and the reason.
    Postpone(Duration, &'static str),
    /// Drop the notification, with the reason.
    Drop(&'static str),
}

/// Decides what to do with a notification of which `known` is known.
pub fn decide(known: &NotificationState) -> Decision {
    if known.is_end && !known.start_notified {
        return Decision::Drop("never_notified");
    }
    let delayed = known.age >= AGE_MAX;
    if delayed && !known.is_end && !known.firing {
        return Decision::Drop("too_old");
    }
    if !known.has_bytes && !known.has_notice {
        // A sender of a later version, which may run beside this one, can read its own notice.
        return if delayed {
            Decision::Drop("no_content")
        } else {
            Decision::Postpone(FIX_WAIT, "no_content")
        };
    }
    if let Some(wait) = known.recipient_wait {
        return Decision::Postpone(wait, RECIPIENT_LIMIT);
    }
    let trusted = known.window.saturating_sub(WINDOW_MARGIN);
    match known.uncertain {
        // Send identical bytes: they let the platform recognise the repeated request.
        Some(since) if since < trusted && known.has_bytes => Decision::Stored,
        Some(_) if known.has_notice => Decision::Rebuild { delayed, repeat: true },
        // Rebuild a failed request: its bytes depend on the account's settings, which may be fixed
        // by now.
        None if known.has_notice
            && (known.tried || !known.has_bytes || delayed && !known.marked_delayed) =>
        {
            Decision::Rebuild { delayed, repeat: false }
        }
        // Without a readable notice, send the stored bytes rather than lose the notification.
        Some(_) | None => Decision::Stored,
    }
}

/// Returns how long a channel's platform recognises a request, by its `client_msg_id` or by all of
/// its bytes. Messages to the watch are never uncertain.
pub const fn window(channel: Channel) -> Duration {
    match channel {
        Channel::Official => Duration::from_secs(10 * 60),
        Channel::Wecom => Duration::from_secs(30 * 60),
        Channel::Message => Duration::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A recent opening that was never sent.
    fn fresh() -> NotificationState {
        NotificationState {
            age: Duration::ZERO,
            is_end: false,
            start_notified: false,
            firing: true,
            uncertain: None,
            window: window(Channel::Official),
            tried: false,
            has_bytes: true,
            has_notice: true,
            marked_delayed: false,
            recipient_wait: None,
        }
    }

    #[test]
    fn young_notifications_go_as_they_are_and_old_ones_only_if_they_still_matter() {
        let old = NotificationState { age: AGE_MAX, ..fresh() };
        let end =
            NotificationState { is_end: true, start_notified: true, firing: false, ..fresh() };
        for (known, now) in [
            (fresh(), Decision::Stored),
            (NotificationState { firing: false, ..fresh() }, Decision::Stored),
            (NotificationState { age: AGE_MAX - MINUTE, ..old }, Decision::Stored),
            (old, Decision::Rebuild { delayed: true, repeat: false }),
            (NotificationState { marked_delayed: true, ..old }, Decision::Stored),
            (NotificationState { firing: false, ..old }, Decision::Drop("too_old")),
            (NotificationState { has_notice: false, ..old }, Decision::Stored),
            (end, Decision::Stored),
            (NotificationState { start_notified: false, ..end }, Decision::Drop("never_notified")),
            (
                NotificationState { age: AGE_MAX, ..end },
                Decision::Rebuild { delayed: true, repeat: false },
            ),
            (
                NotificationState { has_bytes: false, ..fresh() },
                Decision::Rebuild { delayed: false, repeat: false },
            ),
            (
                NotificationState { tried: true, ..fresh() },
                Decision::Rebuild { delayed: false, repeat: false },
            ),
            (
                NotificationState { has_bytes: false, has_notice: false, ..fresh() },
                Decision::Postpone(FIX_WAIT, "no_content"),
            ),
            (
                NotificationState { has_bytes: false, has_notice: false, ..old },
                Decision::Drop("no_content"),
            ),
        ] {
            assert_eq!(decide(&known), now, "{known:?}");
        }
    }

    #[test]
    fn what_may_have_arrived_goes_again_as_it_was_and_later_as_a_repeat() {
        let uncertain = |minutes: u32| NotificationState {
            uncertain: Some(MINUTE * minutes),
            tried: true,
            ..fresh()
        };
        let wecom = NotificationState { window: window(Channel::Wecom), ..uncertain(28) };
        for (known, now) in [
            (uncertain(0), Decision::Stored),
            (uncertain(8), Decision::Stored),
            (uncertain(9), Decision::Rebuild { delayed: false, repeat: true }),
            (wecom, Decision::Stored),
            (
                NotificationState { uncertain: Some(MINUTE * 29), ..wecom },
                Decision::Rebuild { delayed: false, repeat: true },
            ),
            (NotificationState { age: AGE_MAX, ..uncertain(5) }, Decision::Stored),
            (
                NotificationState { age: AGE_MAX, ..uncertain(25) },
                Decision::Rebuild { delayed: true, repeat: true },
            ),
            (
                NotificationState { age: AGE_MAX, firing: false, ..uncertain(5) },
                Decision::Drop("too_old"),
            ),
            (NotificationState { has_notice: false, ..uncertain(60) }, Decision::Stored),
        ] {
            assert_eq!(decide(&known), now, "{known:?}");
        }
    }

    #[test]
    fn a_recipient_who_has_had_enough_waits_and_what_is_dropped_does_not() {
        let enough = NotificationState { recipient_wait: Some(MINUTE), ..fresh() };
        assert_eq!(decide(&enough), Decision::Postpone(MINUTE, "recipient_limit"));
        let void = NotificationState { is_end: true, ..enough };
        assert_eq!(decide(&void), Decision::Drop("never_notified"));
    }
}
