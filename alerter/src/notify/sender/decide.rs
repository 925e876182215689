//! What to do with a notification now, by what is known of its row.
//!
//! Pure. Whether the account can send at all is another question, [`crate::notify::limits::breaker`]'s.

use std::time::Duration;

use crate::rules::channel::Channel;

/// A notification this old is sent only if what it tells of still goes on.
pub const AGE_MAX: Duration = Duration::from_secs(30 * 60);

/// How long before the end of its window a platform is no longer trusted to know a request again:
/// several times what one attempt takes.
const WINDOW_MARGIN: Duration = Duration::from_secs(60);

/// What is known of a row.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// Time since it was written.
    pub age: Duration,
    /// Whether it tells of an end.
    pub is_end: bool,
    /// Whether anybody heard of the beginning; asked of ends only.
    pub told: bool,
    /// Whether the episode still fires; asked of old ones only.
    pub firing: bool,
    /// Time since it may have arrived; none: it has not.
    pub uncertain: Option<Duration>,
    /// How long the platform knows the same bytes again.
    pub window: Duration,
    /// Whether the platform was asked before.
    pub tried: bool,
    /// Whether there are bytes.
    pub has_bytes: bool,
    /// Whether the notice they are made from can be read.
    pub has_notice: bool,
    /// Whether the bytes say that they come late.
    pub marked_delayed: bool,
    /// How long its recipient has had enough messages; none: it has not.
    pub recipient_wait: Option<Duration>,
}

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Now {
    /// Send the bytes that are stored.
    Stored,
    /// Make the request anew, then send it.
    Anew {
        /// It comes late.
        delayed: bool,
        /// It may have arrived before.
        repeat: bool,
    },
    /// Leave it for this time.
    Later(Duration, &'static str),
    /// Never send it.
    Drop(&'static str),
}

/// What to do with a row of which this is known.
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
        // The same bytes, whatever has happened since: by them the platform knows the request again.
        Some(since) if since < trusted && known.has_bytes => Now::Stored,
        Some(_) if known.has_notice => Now::Anew { delayed, repeat: true },
        // What was refused may be taken once the account is mended, which is part of the bytes.
        None if known.has_notice
            && (known.tried || !known.has_bytes || delayed && !known.marked_delayed) =>
        {
            Now::Anew { delayed, repeat: false }
        }
        // Without a notice that can be read the bytes are better sent as they are than lost.
        Some(_) | None => Now::Stored,
    }
}

/// How long the platform of a channel knows a request again: by its `client_msg_id`, or by all of it.
/// A channel of our own is never uncertain.
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

    /// A young opening that was never sent.
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
