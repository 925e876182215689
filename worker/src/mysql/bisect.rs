//! Finding the deliveries that the database refuses: those it named first, then by halving. Each part
//! is tried and rolled back, so that nothing is blamed on a message alone.
//!
//! Goes down to single deliveries rather than rows, since of several deliveries of one identity only
//! one may be at fault. Halving takes about `2·k·log2(n)` transactions for `k` refused of `n`.

use ljwx_ledger::group::dead_letter_topic::ErrorClass;

use crate::batch::row::{self, Identity};
use crate::batch::{Batch, Letter, Segment};
use crate::mysql::{Store, WriteError};

/// A delivery of a batch: segment and place in it.
type Place = (usize, usize);

/// Rows of a batch that are believed to be at fault because the server named them. Each costs an
/// attempt at the whole batch, so where many are refused halving is quicker.
const SUSPECTS_MAX: usize = 3;

/// Deliveries beside a suspect that are tried with it, spread over the batch: where they are refused as
/// well it is no lone value, and the breaker shall hear of all of them at once.
const SAMPLE: usize = 8;

/// Deliveries of `batch` that are refused on their own, as letters to be sent; empty where only the
/// whole is refused and no part of it, or no longer. If it is the row that the server named and hardly another, those
/// are left to the next attempt.
pub async fn isolate(
    store: &Store,
    batch: &Batch,
    suspect: Option<&Identity>,
) -> Result<Vec<(i32, Letter)>, WriteError> {
    let found = find(store, batch, suspect).await?;
    let Some((first, _)) = found.first() else { return Ok(Vec::new()) };
    // It was tried before all others: if it is taken now, somebody mended the table meanwhile, and what
    // was refused before that is nobody's fault.
    match store.probe(&part_of(batch, &[*first])).await {
        Ok(()) => Ok(Vec::new()),
        Err(WriteError::Data { .. }) => {
            let of = |(segment, _): Place| batch.segments[segment].partition;
            Ok(found.into_iter().map(|(place, letter)| (of(place), letter)).collect())
        }
        Err(error) => Err(error),
    }
}

/// The refused deliveries, in the order they were found to be.
async fn find(
    store: &Store,
    batch: &Batch,
    suspect: Option<&Identity>,
) -> Result<Vec<(Place, Letter)>, WriteError> {
    let all = places(batch, |_| true);
    if let Some(suspect) = suspect.filter(|_| batch.letters() < SUSPECTS_MAX) {
        let suspects = places(batch, |held| held == Some(suspect));
        let others = all.iter().filter(|place| !suspects.contains(place)).copied();
        let sample: Vec<Place> = others.step_by((all.len() / SAMPLE).max(1)).collect();
        if halve(store, batch, sample).await?.is_empty() {
            let refused = halve(store, batch, suspects).await?;
            if !refused.is_empty() {
                return Ok(refused);
            }
        }
    }
    halve(store, batch, all).await
}

/// The good deliveries whose identity is `wanted`.
fn places(batch: &Batch, wanted: impl Fn(Option<&Identity>) -> bool) -> Vec<Place> {
    let segments = batch.segments.iter().enumerate();
    let good = segments.flat_map(|(segment, held)| {
        held.good().map(move |(index, delivery)| (segment, index, delivery))
    });
    good.filter(|(.., delivery)| wanted(delivery.reading.as_ref().ok().map(row::identity).as_ref()))
        .map(|(segment, index, _)| (segment, index))
        .collect()
}

async fn halve(
    store: &Store,
    batch: &Batch,
    among: Vec<Place>,
) -> Result<Vec<(Place, Letter)>, WriteError> {
    let mut refused = Vec::new();
    let mut parts = vec![among];
    while let Some(mut part) = parts.pop() {
        if part.is_empty() {
            continue;
        }
        let error = match store.probe(&part_of(batch, &part)).await {
            Ok(()) => continue,
            Err(WriteError::Data { code, message, .. }) => (code, message),
            Err(error) => return Err(error),
        };
        if let [(segment, index)] = part[..] {
            let held = &batch.segments[segment];
            refused.push((
                (segment, index),
                Letter {
                    offset: held.deliveries[index].offset,
                    class: ErrorClass::Data,
                    code: Some(error.0),
                    message: error.1,
                    confirmed: false,
                },
            ));
        } else {
            let half = part.split_off(part.len() / 2);
            parts.push(part);
            parts.push(half);
        }
    }
    Ok(refused)
}

/// The rows of some deliveries of a batch, as segments that are never accounted for.
fn part_of(batch: &Batch, part: &[Place]) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    for (segment, index) in part {
        let held = &batch.segments[*segment];
        if segments.last().is_none_or(|last| last.partition != held.partition) {
            segments.push(Segment::new(held.partition, held.epoch, held.from));
        }
        if let Some(last) = segments.last_mut() {
            last.merge(&held.deliveries[*index]);
        }
    }
    segments
}
