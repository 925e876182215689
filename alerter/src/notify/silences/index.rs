//! Finds the silence that covers a notification.
//!
//! Pure: the time comes as an argument, in milliseconds of the server's clock.

use std::collections::HashMap;

use ljwx_reading::DeviceSn;
use sqlx::FromRow;

/// A silence. No notification that it covers is sent while it is in effect.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Silence {
    /// The row's id.
    pub id: i64,
    /// Tenant; `None`: any.
    pub customer_id: Option<i64>,
    /// Device; `None`: any.
    pub device_sn: Option<String>,
    /// Rule; `None`: any.
    pub rule_id: Option<i64>,
    /// Start.
    pub starts_at: i64,
    /// End, exclusive.
    pub ends_at: i64,
}

/// Tenant, device and rule that a silence covers.
type Matchers = (Option<i64>, Option<String>, Option<i64>);

#[derive(Debug)]
struct TimeRange {
    id: i64,
    starts_at: i64,
    ends_at: i64,
}

/// Silences by tenant, device and rule. A lookup costs the same whatever the number of silences.
#[derive(Debug, Default)]
pub struct SilenceIndex {
    spans: HashMap<Matchers, Vec<TimeRange>>,
    len: usize,
}

impl SilenceIndex {
    /// Indexes silences by tenant, device and rule.
    pub fn new(silences: Vec<Silence>) -> Self {
        let len = silences.len();
        let mut spans: HashMap<Matchers, Vec<TimeRange>> = HashMap::new();
        for Silence { id, customer_id, device_sn, rule_id, starts_at, ends_at } in silences {
            let matchers = (customer_id, device_sn, rule_id);
            spans.entry(matchers).or_default().push(TimeRange { id, starts_at, ends_at });
        }
        Self { spans, len }
    }

    /// Returns the id of a silence that covers these at `at`. If several do, returns any of them.
    pub fn matching(
        &self,
        at: i64,
        customer_id: i64,
        device_sn: &DeviceSn,
        rule_id: i64,
    ) -> Option<i64> {
        if self.spans.is_empty() {
            return None;
        }
        // Each matcher is either this value or any: eight combinations to look up.
        for customer_id in [None, Some(customer_id)] {
            for device_sn in [None, Some(device_sn.as_str().to_owned())] {
                let mut matchers = (customer_id, device_sn, None);
                for rule_id in [None, Some(rule_id)] {
                    matchers.2 = rule_id;
                    if let Some(id) = self.lasting(&matchers, at) {
                        return Some(id);
                    }
                }
            }
        }
        None
    }

    /// Whether a silence covers every notification at `at`.
    pub fn covers_all(&self, at: i64) -> bool {
        self.lasting(&(None, None, None), at).is_some()
    }

    fn lasting(&self, matchers: &Matchers, at: i64) -> Option<i64> {
        let spans = self.spans.get(matchers).into_iter().flatten();
        let mut lasting = spans.filter(|span| (span.starts_at..span.ends_at).contains(&at));
        lasting.next().map(|span| span.id)
    }

    /// Number of silences, planned ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no silences.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence(customer_id: Option<i64>, device_sn: Option<&str>, rule_id: Option<i64>) -> Silence {
        let device_sn = device_sn.map(str::to_owned);
        Silence { id: 5, customer_id, device_sn, rule_id, starts_at: 1_000, ends_at: 2_000 }
    }

    fn matching(silence: &Silence, at: i64) -> Option<i64> {
        let index = SilenceIndex::new(vec![silence.clone()]);
        index.matching(at, 7, &DeviceSn::new("A1").unwrap(), 3)
    }

    #[test]
    fn a_silence_covers_what_all_its_matchers_allow() {
        for (customer_id, device_sn, rule_id, covered) in [
            (None, None, None, true),
            (Some(7), None, None, true),
            (None, Some("A1"), None, true),
            (None, None, Some(3), true),
            (Some(7), Some("A1"), None, true),
            (Some(7), None, Some(3), true),
            (None, Some("A1"), Some(3), true),
            (Some(7), Some("A1"), Some(3), true),
            (Some(8), None, None, false),
            (None, Some("a1"), None, false),
            (None, Some(""), None, false),
            (None, None, Some(4), false),
            (Some(7), Some("A2"), None, false),
            (Some(7), None, Some(4), false),
            (Some(8), Some("A1"), Some(3), false),
        ] {
            let silence = silence(customer_id, device_sn, rule_id);
            assert_eq!(matching(&silence, 1_500), covered.then_some(5), "{silence:?}");
            let is_narrow = customer_id.is_some() || device_sn.is_some() || rule_id.is_some();
            let index = SilenceIndex::new(vec![silence]);
            assert_eq!(index.covers_all(1_500), !is_narrow);
            assert!(!index.covers_all(999) && !index.covers_all(2_000));
        }
    }

    #[test]
    fn a_silence_begins_and_ends_by_itself() {
        let silence = silence(None, None, None);
        for (at, covered) in [(999, false), (1_000, true), (1_999, true), (2_000, false)] {
            assert_eq!(matching(&silence, at).is_some(), covered, "{at}");
        }
    }

    #[test]
    fn what_is_over_hides_nothing_that_still_lasts() {
        let over = silence(None, Some("A1"), None);
        let lasting = Silence { id: 6, starts_at: 1_500, ends_at: 3_000, ..over.clone() };
        let index = SilenceIndex::new(vec![over, lasting]);
        assert_eq!(index.matching(2_500, 7, &DeviceSn::new("A1").unwrap(), 3), Some(6));
        assert_eq!(index.len(), 2);
    }
}
