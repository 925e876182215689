//! Finds out whether a silence covers a notification.
//!
//! Pure: the time comes as an argument, in milliseconds of this process's clock.

use std::collections::HashMap;
use std::ops::Range;

use ljwx_reading::DeviceSn;
use sqlx::FromRow;

/// A silence. No notification that it covers is sent while it is in effect.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct Silence {
    /// Tenant; `None`: any.
    pub customer_id: Option<i64>,
    /// Device; `None`: any.
    pub device_sn: Option<String>,
    /// Rule; `None`: any.
    pub rule_id: Option<i64>,
    /// Start, by the server's clock.
    pub starts_at: i64,
    /// End, exclusive.
    pub ends_at: i64,
}

/// Tenant, device and rule of an alert.
pub type AlertPlace<'a> = (i64, &'a DeviceSn, i64);

/// Tenant, device and rule that a silence covers.
type Matchers = (Option<i64>, Option<String>, Option<i64>);

/// Silences by tenant, device and rule. A lookup costs the same whatever the number of silences.
#[derive(Debug, Default)]
pub struct SilenceIndex {
    ranges: HashMap<Matchers, Vec<Range<i64>>>,
    /// Number of silences, planned ones included.
    pub count: usize,
}

impl SilenceIndex {
    /// Indexes silences. The server's clock is this process's clock plus `server_ahead_ms`.
    pub fn new(silences: Vec<Silence>, server_ahead_ms: i64) -> Self {
        let count = silences.len();
        let mut ranges: HashMap<Matchers, Vec<Range<i64>>> = HashMap::new();
        for Silence { customer_id, device_sn, rule_id, starts_at, ends_at } in silences {
            let [start, end] = [starts_at, ends_at].map(|at| at.saturating_sub(server_ahead_ms));
            ranges.entry((customer_id, device_sn, rule_id)).or_default().push(start..end);
        }
        Self { ranges, count }
    }

    /// Whether a silence covers these at `now_ms`.
    pub fn covers(&self, now_ms: i64, alert: AlertPlace<'_>) -> bool {
        if self.ranges.is_empty() {
            return false;
        }
        let (customer_id, device_sn, rule_id) = alert;
        // Each matcher is either this value or any: eight combinations to look up.
        for customer_id in [None, Some(customer_id)] {
            for device_sn in [None, Some(device_sn.as_str().to_owned())] {
                let mut matchers = (customer_id, device_sn, None);
                for rule_id in [None, Some(rule_id)] {
                    matchers.2 = rule_id;
                    if self.is_in_effect(&matchers, now_ms) {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// Whether a silence covers every notification at `now_ms`.
    pub fn covers_all(&self, now_ms: i64) -> bool {
        self.is_in_effect(&(None, None, None), now_ms)
    }

    fn is_in_effect(&self, matchers: &Matchers, now_ms: i64) -> bool {
        let mut ranges = self.ranges.get(matchers).into_iter().flatten();
        ranges.any(|range| range.contains(&now_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence(customer_id: Option<i64>, device_sn: Option<&str>, rule_id: Option<i64>) -> Silence {
        let device_sn = device_sn.map(str::to_owned);
        Silence { customer_id, device_sn, rule_id, starts_at: 1_000, ends_at: 2_000 }
    }

    fn covers(silences: &[&Silence], at: i64) -> bool {
        let index = SilenceIndex::new(silences.iter().map(|one| (*one).clone()).collect(), 0);
        assert_eq!(index.count, silences.len());
        index.covers(at, (7, &DeviceSn::new("A1").unwrap(), 3))
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
            assert_eq!(covers(&[&silence], 1_500), covered, "{silence:?}");
            let is_narrow = customer_id.is_some() || device_sn.is_some() || rule_id.is_some();
            let index = SilenceIndex::new(vec![silence], 0);
            assert_eq!(index.covers_all(1_500), !is_narrow);
            assert!(!index.covers_all(999) && !index.covers_all(2_000));
        }
    }

    #[test]
    fn a_silence_begins_and_ends_by_itself() {
        let silence = silence(None, None, None);
        for (at, covered) in [(999, false), (1_000, true), (1_999, true), (2_000, false)] {
            assert_eq!(covers(&[&silence], at), covered, "{at}");
        }
    }

    #[test]
    fn what_is_over_hides_nothing_that_still_lasts() {
        let over = silence(None, Some("A1"), None);
        let lasting = Silence { starts_at: 1_500, ends_at: 3_000, ..over.clone() };
        assert!(!covers(&[&over], 2_500) && covers(&[&over, &lasting], 2_500));
    }
}
