//! Decides what to do with a notification now, from its row.
//!
//! Pure. Whether the account can send is decided by [`crate::notify::limits::breaker`].

use std::time::Duration;

use crate::rules::channel::Channel;

/// Age from which a notification is sent only if it reports an end or its episode still fires.
pub const AGE_MAX: Duration = Duration::from_secs(30 * 60);

/// Margin before the end of a platform's window, several times the length of one attempt. Within
/// the margin, do not rely on the platform to recognise a repeated request.
const WINDOW_MARGIN: Duration = Duration::from_secs(60);

/// The facts about a notification that decide what to do with it.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Time since the row was written.
    pub age: Duration,
    /// Whether the notification reports an end.
    pub is_end: bool,
    /// Whether anyone was notified of the opening. Queried for ends only.
    pub told: bool,
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
pub enum Now {
    /// Send the stored bytes.
    Stored,
    /// Rebuild the request, then send it.
    Anew {
        /// Mark the notification as delayed.
        delayed: bool,
        /// Mark the notification as a possible repeat.
        repeat: bool,
    },
    /// Postpone the notification, with the wait and the reason.
    Later(Duration, &'static str),
    /// Drop the notification, with the reason.
    Drop(&'static str),
}

/// Decides what to do with a notification of which `known` is known.
pub fn decide(known: &Known) -> Now {
    if known.is_end && !known.told {
        return Now::Drop("nobody_told");
    }
    let delayed = known.age >= AGE_MAX;
    if delayed && !known.is_end && !known.firing {
        return Now::Drop("too_old");
    }
    if !known.has_bytes && !known.has_notice {
        return Now::Drop("no_content");
    }
    if let Some(wait) = known.recipient_wait {
        return Now::Later(wait, "recipient_limit");
    }
    let trusted = known.window.saturating_sub(WINDOW_MARGIN);
    match known.uncertain {
        // Send identical bytes: they let the platform recognise the repeated request.
        Some(since) if since < trusted && known.has_bytes => Now::Stored,
        Some(_) if known.has_notice => Now::Anew { delayed, repeat: true },
        // Rebuild a failed request: its bytes depend on the account's settings, which may be fixed
        // by now.
        None if known.has_notice
            && (known.tried || !known.has_bytes || delayed && !known.marked_delayed) =>
        {
            Now::Anew { delayed, repeat: false }
        }
        // Without a readable notice, send the stored bytes rather than lose the notification.
        Some(_) | None => Now::Stored,
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
    fn fresh() -> Known {
        Known {
            age: Duration::ZERO,
            is_end: false,
            told: false,
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
        let old = Known { age: AGE_MAX, ..fresh() };
        let end = Known { is_end: true, told: true, firing: false, ..fresh() };
        for (known, now) in [
            (fresh(), Now::Stored),
            (Known { firing: false, ..fresh() }, Now::Stored),
            (Known { age: AGE_MAX - MINUTE, ..old }, Now::Stored),
            (old, Now::Anew { delayed: true, repeat: false }),
            (Known { marked_delayed: true, ..old }, Now::Stored),
            (Known { firing: false, ..old }, Now::Drop("too_old")),
            (Known { has_notice: false, ..old }, Now::Stored),
            (end, Now::Stored),
            (Known { told: false, ..end }, Now::Drop("nobody_told")),
            (Known { age: AGE_MAX, ..end }, Now::Anew { delayed: true, repeat: false }),
            (Known { has_bytes: false, ..fresh() }, Now::Anew { delayed: false, repeat: false }),
            (Known { tried: true, ..fresh() }, Now::Anew { delayed: false, repeat: false }),
            (Known { has_bytes: false, has_notice: false, ..fresh() }, Now::Drop("no_content")),
        ] {
            assert_eq!(decide(&known), now, "{known:?}");
        }
    }

    #[test]
    fn what_may_have_arrived_goes_again_as_it_was_and_later_as_a_repeat() {
        let uncertain =
            |minutes: u32| Known { uncertain: Some(MINUTE * minutes), tried: true, ..fresh() };
        let wecom = Known { window: window(Channel::Wecom), ..uncertain(28) };
        for (known, now) in [
            (uncertain(0), Now::Stored),
            (uncertain(8), Now::Stored),
            (uncertain(9), Now::Anew { delayed: false, repeat: true }),
            (wecom, Now::Stored),
            (
                Known { uncertain: Some(MINUTE * 29), ..wecom },
                Now::Anew { delayed: false, repeat: true },
            ),
            (Known { age: AGE_MAX, ..uncertain(5) }, Now::Stored),
            (Known { age: AGE_MAX, ..uncertain(25) }, Now::Anew { delayed: true, repeat: true }),
            (Known { age: AGE_MAX, firing: false, ..uncertain(5) }, Now::Drop("too_old")),
            (Known { has_notice: false, ..uncertain(60) }, Now::Stored),
        ] {
            assert_eq!(decide(&known), now, "{known:?}");
        }
    }

    #[test]
    fn a_recipient_who_has_had_enough_waits_and_what_is_dropped_does_not() {
        let enough = Known { recipient_wait: Some(MINUTE), ..fresh() };
        assert_eq!(decide(&enough), Now::Later(MINUTE, "recipient_limit"));
        let void = Known { is_end: true, ..enough };
        assert_eq!(decide(&void), Now::Drop("nobody_told"));
    }
}
