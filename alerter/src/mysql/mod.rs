//! The alerter's rows in MySQL, and the retries during an outage.
//!
//! Runs statements. [`crate::pipeline`] and [`crate::notify`] decide what is written, and in which
//! transaction.

pub mod alert_rows;
pub mod columns;
pub mod old_alerts;
pub mod retry;
pub mod state_rows;
pub mod suppressed_counts;

/// Splits the rows, in their order, into portions of a power of two each, at most `max`.
///
/// A few statement texts then serve all sizes, and each is prepared once. Closing an unused
/// prepared statement costs a 40 ms delayed ACK.
pub fn portions<T>(mut rows: &[T], max: usize) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = max.min(1 << rows.len().checked_ilog2()?);
        let (portion, rest) = rows.split_at(size);
        rows = rest;
        Some(portion)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portions_are_all_rows_in_order_and_powers_of_two() {
        for count in [0, 1, 7, 256, 300, 1_000] {
            let rows: Vec<usize> = (0..count).collect();
            let portions: Vec<_> = portions(&rows, 256).collect();
            assert_eq!(portions.concat(), rows);
            assert!(portions.iter().all(|one| one.len().is_power_of_two()));
            assert!(portions.iter().all(|one| one.len() <= 256));
        }
    }
}
