//! A histogram of a service's `/metrics`, and quantiles of its counts between two readings.

use crate::stack::process::Service;

/// Upper bounds of the buckets and the number of values at or below each, in ascending order.
#[derive(Debug, Default, Clone)]
pub(super) struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    /// Reads the buckets of the series of `name` whose labels contain `labels`.
    pub(super) async fn of(service: &Service, name: &str, labels: &str) -> anyhow::Result<Self> {
        let text = crate::clients::http::get(&service.admin("/metrics")).await?.text;
        Ok(Self::parse(&text, name, labels))
    }

    fn parse(text: &str, name: &str, labels: &str) -> Self {
        let prefix = format!("{name}_bucket{{");
        let bucket = |line: &str| {
            let (_, rest) = line.split_once("le=\"")?;
            let (bound, rest) = rest.split_once('"')?;
            let count = rest.rsplit_once(' ')?.1.parse().ok()?;
            Some((if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? }, count))
        };
        let lines = text.lines().filter(|line| line.starts_with(&prefix) && line.contains(labels));
        let mut buckets: Vec<(f64, f64)> = lines.filter_map(bucket).collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self(buckets)
    }

    /// Returns the counts since `earlier`.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let before = |bound: f64| {
            let found = earlier.0.iter().find(|(known, _)| *known == bound);
            found.map_or(0.0, |(_, count)| *count)
        };
        Self(self.0.iter().map(|(bound, count)| (*bound, count - before(*bound))).collect())
    }

    /// Returns the value below which a `share` of all values lies, spread evenly within its bucket
    /// as Prometheus does. Beyond the last finite bound the result is that bound.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let all = self.0.last().map_or(0.0, |(_, count)| *count);
        let rank = all * share;
        let (mut lower, mut below) = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= rank && *count > below {
                let part = (rank - below) / (count - below);
                return if bound.is_finite() { lower + (bound - lower) * part } else { lower };
            }
            (lower, below) = (*bound, *count);
        }
        f64::NAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
wait_bucket{statistic=\"oldest\",le=\"0.1\"} 50\n\
wait_bucket{statistic=\"oldest\",le=\"0.2\"} 100\n\
wait_bucket{statistic=\"oldest\",le=\"+Inf\"} 100\n\
wait_bucket{statistic=\"mean\",le=\"0.1\"} 100\n\
wait_bucket{statistic=\"mean\",le=\"+Inf\"} 100\n";

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let buckets = Buckets::parse(TEXT, "wait", "statistic=\"oldest\"");
        for (share, expected) in [(0.25, 0.05), (0.5, 0.1), (0.75, 0.15), (1.0, 0.2)] {
            assert!((buckets.quantile(share) - expected).abs() < 1e-9, "{share}");
        }
    }

    #[test]
    fn what_was_counted_before_does_not_count() {
        let before = Buckets(vec![(0.1, 50.0), (0.2, 50.0), (f64::INFINITY, 50.0)]);
        let later = Buckets::parse(TEXT, "wait", "statistic=\"oldest\"").since(&before);
        assert!((later.quantile(0.5) - 0.15).abs() < 1e-9);
        assert!(Buckets::default().quantile(0.5).is_nan());
    }
}
