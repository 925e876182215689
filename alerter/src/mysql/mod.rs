//! The alerter's rows in MySQL, and waiting out an outage.
//!
//! Runs statements. What is written, and in which transaction, is for [`crate::pipeline`] and
//! [`crate::notify`] to say.

pub mod alert_rows;
pub mod columns;
pub mod retry;
pub mod state_rows;
pub mod suppressed_counts;

/// The rows in their order, in portions of a power of two each, at most `max`.
///
/// Few texts of statements then serve all sizes: each is prepared once, while preparing one and throwing
/// it away costs a delayed answer of the network.
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
