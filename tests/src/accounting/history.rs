//! Records the answers that the clients got for each reading. The verdict compares them with the
//! pipeline.

use std::collections::HashMap;

/// The client's knowledge about a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    /// The whole body was rejected for good (4xx): the reading must not be stored.
    Refused,
    /// No answer, or an answer that asks to send again (5xx): the reading may be stored, once.
    Unknown,
    /// 200: the reading must be stored, once.
    Acknowledged,
}

/// All answers that the clients got.
#[derive(Debug, Default, Clone)]
pub struct History {
    /// Readings by device and by time of measurement in epoch seconds: each serial number is stored
    /// once.
    devices: HashMap<String, HashMap<i64, Answered>>,
    rejected: u64,
    rejected_unknown: u64,
    others: bool,
    surprises: Vec<String>,
    surprise_count: u64,
}

/// Most surprises kept as text.
const SURPRISES_MAX: usize = 20;

impl History {
    /// Records what an answer means for one reading of its body.
    pub fn note(&mut self, device: &str, at: i64, answered: Answered) {
        let known = match self.devices.get_mut(device) {
            Some(times) => times.entry(at).or_insert(answered),
            None => {
                self.devices.entry(device.to_owned()).or_default().entry(at).or_insert(answered)
            }
        };
        // An acknowledgement stays, whatever a later attempt gets. A rejection does not settle an
        // earlier attempt without an answer.
        *known = match (*known, answered) {
            (Answered::Acknowledged, _) | (_, Answered::Acknowledged) => Answered::Acknowledged,
            (Answered::Refused, Answered::Refused) => Answered::Refused,
            _ => Answered::Unknown,
        };
    }

    /// Counts items of an acknowledged body that cannot become readings.
    pub const fn note_rejected(&mut self, items: u64) {
        self.rejected += items;
    }

    /// Counts the same of a body without an answer: the rejects topic may hold them.
    pub const fn note_rejected_unknown(&mut self, items: u64) {
        self.rejected_unknown += items;
    }

    /// Records that other clients send, too, so that further readings may be found.
    pub const fn note_others(&mut self) {
        self.others = true;
    }

    /// Whether other clients send, too.
    pub const fn others(&self) -> bool {
        self.others
    }

    /// Records an answer that does not fit the body.
    pub fn note_surprise(&mut self, surprise: String) {
        self.surprise_count += 1;
        if self.surprises.len() < SURPRISES_MAX {
            self.surprises.push(surprise);
        }
    }

    /// Adds the history of other clients.
    pub fn absorb(&mut self, other: Self) {
        for (device, times) in other.devices {
            for (at, answered) in times {
                self.note(&device, at, answered);
            }
        }
        self.rejected += other.rejected;
        self.rejected_unknown += other.rejected_unknown;
        self.others |= other.others;
        self.surprise_count += other.surprise_count;
        let room = SURPRISES_MAX.saturating_sub(self.surprises.len());
        self.surprises.extend(other.surprises.into_iter().take(room));
    }

    /// Returns every device with its readings.
    pub fn devices(&self) -> impl Iterator<Item = (&str, &HashMap<i64, Answered>)> {
        self.devices.iter().map(|(device, times)| (device.as_str(), times))
    }

    /// Returns the number of readings with this knowledge.
    pub fn count(&self, answered: Answered) -> usize {
        let of_device = |times: &HashMap<i64, Answered>| {
            times.values().filter(|known| **known == answered).count()
        };
        self.devices.values().map(of_device).sum()
    }

    /// Returns the least and the greatest number of items in the rejects topic.
    pub const fn rejected(&self) -> (u64, u64) {
        (self.rejected, self.rejected + self.rejected_unknown)
    }

    /// Returns the answers that did not fit their body, and their number.
    pub fn surprises(&self) -> (&[String], u64) {
        (&self.surprises, self.surprise_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acknowledgement_stands_and_doubt_outweighs_refusal() {
        use Answered::{Acknowledged, Refused, Unknown};
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
            assert_eq!(history.devices["a"][&1], known, "{first:?} then {second:?}");
        }
    }
}
