//! What the clients were told about each reading they sent: the one truth to judge the pipeline by.

use std::collections::HashMap;

/// What a client knows about a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// A definitive refusal of the whole body (4xx): it must not appear.
    Refused,
    /// No answer, or one that asks to send again (5xx): it may appear, once.
    Unknown,
    /// 200: it must appear, once.
    Acknowledged,
}

/// Everything the clients were told.
#[derive(Debug, Default, Clone)]
pub struct History {
    /// Per device, by time of measurement in epoch seconds: serials need storing only once.
    devices: HashMap<String, HashMap<i64, Told>>,
    rejected: u64,
    rejected_unknown: u64,
    others: bool,
    surprises: Vec<String>,
    surprise_count: u64,
}

/// Most surprises kept in words.
const SURPRISES_MAX: usize = 20;

impl History {
    /// Notes what an answer said about one reading of its body.
    pub fn note(&mut self, device: &str, at: i64, told: Told) {
        let known = match self.devices.get_mut(device) {
            Some(times) => times.entry(at).or_insert(told),
            None => self.devices.entry(device.to_owned()).or_default().entry(at).or_insert(told),
        };
        // An acknowledgement stands whatever a later attempt is told; and a refusal says nothing
        // about an earlier attempt that got no answer.
        *known = match (*known, told) {
            (Told::Acknowledged, _) | (_, Told::Acknowledged) => Told::Acknowledged,
            (Told::Refused, Told::Refused) => Told::Refused,
            _ => Told::Unknown,
        };
    }

    /// Notes items that an acknowledged body had in it and that no reading can be made of.
    pub const fn note_rejected(&mut self, items: u64) {
        self.rejected += items;
    }

    /// Notes such items of a body whose answer never came: the rejects topic may hold them.
    pub const fn note_rejected_unknown(&mut self, items: u64) {
        self.rejected_unknown += items;
    }

    /// Notes that others send too, so that more than this may be found.
    pub const fn note_others(&mut self) {
        self.others = true;
    }

    /// Whether others send too.
    pub const fn others(&self) -> bool {
        self.others
    }

    /// Notes an answer that does not fit what was sent.
    pub fn note_surprise(&mut self, surprise: String) {
        self.surprise_count += 1;
        if self.surprises.len() < SURPRISES_MAX {
            self.surprises.push(surprise);
        }
    }

    /// Takes over what other clients were told.
    pub fn absorb(&mut self, other: Self) {
        for (device, times) in other.devices {
            for (at, told) in times {
                self.note(&device, at, told);
            }
        }
        self.rejected += other.rejected;
        self.rejected_unknown += other.rejected_unknown;
        self.others |= other.others;
        self.surprise_count += other.surprise_count;
        let room = SURPRISES_MAX.saturating_sub(self.surprises.len());
        self.surprises.extend(other.surprises.into_iter().take(room));
    }

    /// What was told about a reading; none: it was never sent.
    pub fn told(&self, device: &str, at: i64) -> Option<Told> {
        self.devices.get(device)?.get(&at).copied()
    }

    /// Every device with its readings.
    pub fn devices(&self) -> impl Iterator<Item = (&str, &HashMap<i64, Told>)> {
        self.devices.iter().map(|(device, times)| (device.as_str(), times))
    }

    /// How many readings the clients were told this about.
    pub fn count(&self, told: Told) -> usize {
        let of_device =
            |times: &HashMap<i64, Told>| times.values().filter(|known| **known == told).count();
        self.devices.values().map(of_device).sum()
    }

    /// Items in the rejects topic, at least and at most.
    pub const fn rejected(&self) -> (u64, u64) {
        (self.rejected, self.rejected + self.rejected_unknown)
    }

    /// Answers that did not fit what was sent.
    pub fn surprises(&self) -> (&[String], u64) {
        (&self.surprises, self.surprise_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_stands_and_doubt_outweighs_refusal() {
        use Told::{Acknowledged, Refused, Unknown};
        for (first, second, known) in [
            (Unknown, Acknowledged, Acknowledged),
            (Acknowledged, Unknown, Acknowledged),
            (Unknown, Refused, Unknown),
            (Refused, Unknown, Unknown),
            (Refused, Refused, Refused),
        ] {
            let mut history = History::default();
            history.note("a", 1, first);
            history.note("a", 1, second);
            assert_eq!(history.told("a", 1), Some(known), "{first:?} then {second:?}");
        }
    }
}
