//! Limits the bytes of bodies held at a time.

use std::sync::Arc;

use metrics::gauge;
use tokio::sync::Semaphore;

use crate::metrics::BYTES_IN_FLIGHT;

/// Bytes of a page. A body takes whole pages.
const PAGE_BYTES: usize = 4 * 1024;

/// Above this, a body takes [`STEP_PAGES`] at a time.
const SMALL_PAGES: usize = 4;

const STEP_PAGES: usize = 4;

/// The budget of all bodies, received and decompressed.
#[derive(Debug, Clone)]
pub struct BodyBudget(Arc<Semaphore>);

/// The budget has no room for more.
#[derive(Debug, PartialEq, Eq)]
pub struct NoRoom;

impl BodyBudget {
    /// Creates a budget of `bytes`.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes / PAGE_BYTES)))
    }

    /// Returns an empty part for one body.
    pub fn hold(&self) -> BodyReservation {
        BodyReservation { budget: Arc::clone(&self.0), pages: 0 }
    }
}

/// One body's part of the budget. Dropping the part returns it.
#[derive(Debug)]
pub struct BodyReservation {
    budget: Arc<Semaphore>,
    pages: usize,
}

impl BodyReservation {
    /// Takes what is missing for `bytes` in total.
    pub fn cover(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let missing = pages(bytes).saturating_sub(self.pages);
        if missing == 0 {
            return Ok(());
        }
        let more = u32::try_from(missing).map_err(|_| NoRoom)?;
        self.budget.try_acquire_many(more).map_err(|_| NoRoom)?.forget();
        self.change(missing, 0);
        Ok(())
    }

    /// Returns everything beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        self.change(0, self.pages.saturating_sub(pages(bytes)));
    }

    fn change(&mut self, more: usize, fewer: usize) {
        self.pages = self.pages + more - fewer;
        self.budget.add_permits(fewer);
        gauge!(BYTES_IN_FLIGHT).increment((more * PAGE_BYTES) as f64);
        gauge!(BYTES_IN_FLIGHT).decrement((fewer * PAGE_BYTES) as f64);
    }
}

impl Drop for BodyReservation {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// Rounds up to whole steps. Small first steps let many small bodies fit, and larger ones later
/// save operations.
fn pages(bytes: usize) -> usize {
    let pages = bytes.div_ceil(PAGE_BYTES);
    if pages <= SMALL_PAGES { pages } else { pages.next_multiple_of(STEP_PAGES) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_takes_steps_and_gives_all_of_them_back() {
        let budget = BodyBudget::new(64 * 1024);
        let mut first = budget.hold();
        for (bytes, left) in [(0, 16), (1, 15), (4096, 15), (16_384, 12), (16_385, 8)] {
            first.cover(bytes).unwrap();
            assert_eq!(budget.0.available_permits(), left, "{bytes}");
        }
        let mut second = budget.hold();
        assert_eq!(second.cover(33 * 1024), Err(NoRoom));
        second.cover(32 * 1024).unwrap();
        first.shrink_to(100);
        assert_eq!(budget.0.available_permits(), 7);
        drop((first, second));
        assert_eq!(budget.0.available_permits(), 16);
    }
}
