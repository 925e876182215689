//! Finds the deliveries that MySQL rejects: first those of the row that the server named, then by
//! halving. Each part is written and rolled back, so that no delivery is suspected on a message
//! alone.
//!
//! The search goes down to deliveries rather than rows, because of several deliveries of one
//! identity only one may be wrong. Halving takes about `2·k·log2(n)` transactions for `k` rejected
//! of `n`.

use ljwx_ledger::group::dead_letter_topic::ErrorClass;

use crate::batch::row::{self, Identity};
use crate::batch::{Batch, Letter, Segment};
use crate::mysql::{BatchWriter, WriteError};

/// A delivery of a batch: the index of its segment, and its index in the segment.
type DeliveryIndex = (usize, usize);

/// Dead letters of a batch below which the row that the server named is tried first. Each named row
/// costs an attempt at the whole batch, so with many rejected rows halving is faster.
const SUSPECTS_MAX: usize = 3;

/// Deliveries beside the named row that are tried too, spread over the batch. If MySQL rejects some
/// of them, the named row is not alone, and the breaker must count all of them at once.
const SAMPLE: usize = 8;

/// Returns the deliveries that MySQL rejects on their own, as dead letters to be sent. The list is
/// empty if MySQL rejects the batch but none of its parts, or accepts it by now. If MySQL named a
/// row and accepts a sample of the others, only that row is tried. The next attempt finds the rest.
pub async fn isolate(
    store: &BatchWriter,
    batch: &Batch,
    suspect: Option<&Identity>,
) -> Result<Vec<(i32, Letter)>, WriteError> {
    let found = find(store, batch, suspect).await?;
    let Some((first, _)) = found.first() else { return Ok(Vec::new()) };
    // The first delivery was tried before all others. If MySQL accepts it now, the table was fixed
    // meanwhile, and the earlier rejections prove nothing.
    match store.probe(&part_of(batch, &[*first])).await {
        Ok(()) => Ok(Vec::new()),
        Err(WriteError::Data { .. }) => {
            let of = |(segment, _): DeliveryIndex| batch.segments[segment].partition;
            Ok(found.into_iter().map(|(place, letter)| (of(place), letter)).collect())
        }
        Err(error) => Err(error),
    }
}

/// Returns the rejected deliveries, in the order in which they were found.
async fn find(
    store: &BatchWriter,
    batch: &Batch,
    suspect: Option<&Identity>,
) -> Result<Vec<(DeliveryIndex, Letter)>, WriteError> {
    let all = places(batch, |_| true);
    if let Some(suspect) = suspect.filter(|_| batch.dead_letters() < SUSPECTS_MAX) {
        let suspects = places(batch, |held| held == Some(suspect));
        let others = all.iter().filter(|place| !suspects.contains(place)).copied();
        let sample: Vec<DeliveryIndex> = others.step_by((all.len() / SAMPLE).max(1)).collect();
        if halve(store, batch, sample).await?.is_empty() {
            let refused = halve(store, batch, suspects).await?;
            if !refused.is_empty() {
                return Ok(refused);
            }
        }
    }
    halve(store, batch, all).await
}

/// Returns the good deliveries whose identity is `wanted`.
fn places(batch: &Batch, wanted: impl Fn(Option<&Identity>) -> bool) -> Vec<DeliveryIndex> {
    let segments = batch.segments.iter().enumerate();
    let without_dead_letter = segments.flat_map(|(segment, held)| {
        held.without_dead_letter().map(move |(index, delivery)| (segment, index, delivery))
    });
    without_dead_letter
        .filter(|(.., delivery)| wanted(delivery.reading.as_ref().ok().map(row::identity).as_ref()))
        .map(|(segment, index, _)| (segment, index))
        .collect()
}

async fn halve(
    store: &BatchWriter,
    batch: &Batch,
    among: Vec<DeliveryIndex>,
) -> Result<Vec<(DeliveryIndex, Letter)>, WriteError> {
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

/// Returns the rows of some deliveries of a batch, as segments that the ledger never counts.
fn part_of(batch: &Batch, part: &[DeliveryIndex]) -> Vec<Segment> {
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
