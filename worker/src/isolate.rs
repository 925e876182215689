//! Finding the deliveries that the database refuses, by halving: each part is tried and rolled back.
//!
//! Goes down to single deliveries rather than rows, since of several deliveries of one identity only
//! one may be at fault. Takes about `2·k·log2(n)` transactions for `k` refused of `n`.

use crate::batch::{Batch, Letter, Segment};
use crate::store::{Store, WriteError};
use common::dead_letter::ErrorClass;

/// A delivery of a batch: segment and place in it.
type Place = (usize, usize);

/// The deliveries of `batch` that are refused on their own, as letters to be sent; empty where only
/// the whole is refused and no part of it.
pub async fn isolate(store: &Store, batch: &Batch) -> Result<Vec<(i32, Letter)>, WriteError> {
    let all: Vec<Place> = batch
        .segments
        .iter()
        .enumerate()
        .flat_map(|(segment, held)| held.good().map(move |(index, _)| (segment, index)))
        .collect();
    let mut refused = Vec::new();
    let mut parts = vec![all];
    while let Some(mut part) = parts.pop() {
        let error = match store.probe(&part_of(batch, &part)).await {
            Ok(()) => continue,
            Err(WriteError::Data { code, message }) => (code, message),
            Err(error) => return Err(error),
        };
        if let [(segment, index)] = part[..] {
            let held = &batch.segments[segment];
            refused.push((
                held.partition,
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
