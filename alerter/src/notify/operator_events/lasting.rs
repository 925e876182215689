//! Decides when operators hear of a state that lasts: when it begins, when it ends, and once a day
//! while it lasts.
//!
//! Pure: time comes as an argument. The callers may measure a state as often as they like.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::event::OperatorEvent;

/// Lasting states that are remembered. Of further ones, operators hear by metrics only.
const STATES_MAX: usize = 10_000;

/// Time after which operators hear again of a state that lasts.
const REPEAT_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// A state that lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LastingEvent {
    /// Major or critical alerts of a tenant reach no recipient.
    NoRecipientReached,
    /// No reading arrives any more.
    ReadingsStopped,
    /// Notifications are due and nobody sends them.
    SenderLate,
}

impl LastingEvent {
    /// Returns the word and the text of the event. `count` 0: the state is over, which `lasted`.
    fn words(self, of: &str, count: u64, lasted: SignedDuration) -> (&'static str, String) {
        match (self, count) {
            (Self::NoRecipientReached, 0) => (
                "no_recipient_reached",
                format!("major and critical alerts{of} reach recipients again, or are over"),
            ),
            (Self::NoRecipientReached, _) => (
                "no_recipient_reached",
                format!("{count} major or critical alerts{of} reach no recipient"),
            ),
            (Self::ReadingsStopped, 0) => {
                ("readings_resumed", format!("readings arrive again, after {lasted:#}"))
            }
            (Self::ReadingsStopped, _) => (
                "readings_stopped",
                "no reading arrives any more, so no alert about a patient can arise".into(),
            ),
            (Self::SenderLate, 0) => {
                ("on_time", format!("notifications are sent on time again, after {lasted:#}"))
            }
            (Self::SenderLate, _) => (
                "sender_late",
                format!("{count} notifications or more are due and not sent, for {lasted:#}"),
            ),
        }
    }
}

/// When a state began, and when operators last heard of it.
#[derive(Debug, Clone, Copy)]
struct Lasting {
    since: Timestamp,
    sent_at: Timestamp,
}

/// The states that last now.
#[derive(Debug, Default)]
pub struct LastingEvents {
    states: HashMap<(LastingEvent, Option<i64>), Lasting>,
}

impl LastingEvents {
    /// Takes a measurement of a state, of a tenant or of all: `count` cases, the first of them
    /// `since`. 0 cases: the state is over. Returns the event that is due.
    pub fn update(
        &mut self,
        event: LastingEvent,
        customer_id: Option<i64>,
        count: u64,
        since: Timestamp,
        at: Timestamp,
    ) -> Option<OperatorEvent> {
        let key = (event, customer_id);
        let is_full = self.states.len() >= STATES_MAX;
        let state = match self.states.get_mut(&key) {
            Some(_) if count == 0 => self.states.remove(&key)?,
            Some(state) if at.duration_since(state.sent_at) < REPEAT_AFTER => return None,
            Some(state) => {
                state.sent_at = at;
                *state
            }
            None if count == 0 => return None,
            None if is_full => return None,
            None => {
                let state = Lasting { since, sent_at: at };
                self.states.insert(key, state);
                state
            }
        };
        let of = customer_id.map(|id| format!(" of tenant {id}")).unwrap_or_default();
        let lasted = SignedDuration::from_secs(at.duration_since(state.since).as_secs().max(0));
        let (word, text) = event.words(&of, count, lasted);
        let about = OperatorEvent::about(word, text, at);
        Some(OperatorEvent { customer_id, count, since: state.since, ..about })
    }

    /// Returns the tenants of which a state lasts.
    pub fn tenants(&self, event: LastingEvent) -> Vec<i64> {
        let of_event = self.states.keys().filter(|(one, _)| *one == event);
        of_event.filter_map(|(_, customer_id)| *customer_id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::LastingEvent::{NoRecipientReached, ReadingsStopped, SenderLate};
    use super::*;

    const HOUR: i64 = 3_600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_756_785_600 + seconds).unwrap()
    }

    #[test]
    fn a_state_is_told_of_when_it_begins_when_it_ends_and_once_a_day_while_it_lasts() {
        let mut events = LastingEvents::default();
        for (time, event, tenant, count, told) in [
            (0, ReadingsStopped, None, 0, None),
            (1, ReadingsStopped, None, 1, Some("readings_stopped")),
            (2, ReadingsStopped, None, 1, None),
            (3, SenderLate, None, 9, Some("sender_late")),
            (4, NoRecipientReached, Some(7), 2, Some("no_recipient_reached")),
            (5, NoRecipientReached, Some(8), 1, Some("no_recipient_reached")),
            (6, NoRecipientReached, Some(7), 3, None),
            (7, NoRecipientReached, Some(7), 0, Some("no_recipient_reached")),
            (8, NoRecipientReached, Some(7), 0, None),
            (9, SenderLate, None, 0, Some("on_time")),
            (24 * HOUR, ReadingsStopped, None, 1, None),
            (24 * HOUR + 1, ReadingsStopped, None, 1, Some("readings_stopped")),
            (25 * HOUR, ReadingsStopped, None, 1, None),
            (26 * HOUR, ReadingsStopped, None, 0, Some("readings_resumed")),
            (27 * HOUR, ReadingsStopped, None, 1, Some("readings_stopped")),
        ] {
            let sent = events.update(event, tenant, count, at(time), at(time));
            assert_eq!(sent.as_ref().map(|sent| sent.event), told, "{event:?} at {time}");
            if let Some(sent) = sent {
                assert_eq!((sent.customer_id, sent.count), (tenant, count));
            }
        }
    }

    #[test]
    fn an_event_says_since_when_and_of_whom() {
        let mut events = LastingEvents::default();
        let mut update = |event, tenant, count, time| {
            events.update(event, tenant, count, at(time - 300), at(time)).unwrap()
        };
        let begun = update(ReadingsStopped, None, 1, 300);
        assert_eq!((begun.since, begun.at), (at(0), at(300)));
        let over = update(ReadingsStopped, None, 0, 1_000);
        assert_eq!((over.since, over.at), (at(0), at(1_000)));
        assert_eq!(over.text, "readings arrive again, after 16m 40s");
        let nobody = update(NoRecipientReached, Some(7), 2, 300);
        assert_eq!(nobody.text, "2 major or critical alerts of tenant 7 reach no recipient");
        let late = update(SenderLate, None, 3, 300);
        assert_eq!(late.text, "3 notifications or more are due and not sent, for 5m");
    }

    #[test]
    fn further_states_than_are_remembered_send_nothing_until_one_ends() {
        let mut events = LastingEvents::default();
        let mut nobody =
            |tenant, count| events.update(NoRecipientReached, Some(tenant), count, at(0), at(0));
        let last = i64::try_from(STATES_MAX).unwrap();
        assert!((0..last).all(|tenant| nobody(tenant, 1).is_some()));
        assert!(nobody(last, 1).is_none() && nobody(last, 0).is_none());
        assert!(nobody(0, 0).is_some() && nobody(last, 1).is_some());
    }
}
