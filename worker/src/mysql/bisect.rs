//! Finds the deliveries that MySQL rejects: first those of the row that the server named, then by
//! halving. Each part is written and rolled back, so that no delivery is suspected on a message
//! alone.
//!
//! The search goes down to deliveries rather than rows, because of several deliveries of one
//! identity only one may be wrong. Halving takes about `2·k·log2(n)` transactions for `k` rejected
//! of `n`.
//!
//! A constraint may reject what several deliveries write together and accept each alone, such as
//! two columns of one row. Then the delivery that completes the rejected values is found: the last
//! of the smallest rejected start of the batch.

use ljwx_ledger::device_bindings::DeviceBindings;
use ljwx_ledger::group::dead_letter_topic::ErrorClass;

use crate::batch::row::{self, Identity};
use crate::batch::{Batch, DeadLetter, Segment};
use crate::mysql::device_ids;
use crate::mysql::{BatchWriter, WriteError};

/// A delivery of a batch: the index of its segment, and its index in the segment.
type DeliveryIndex = (usize, usize);

/// Code and message of a data error.
type DataError = (String, String);

/// Dead letters of a batch below which the row that the server named is tried first. Each named row
/// costs an attempt at the whole batch, so with many rejected rows halving is faster.
const SUSPECTS_MAX: usize = 3;

/// Deliveries beside the named row that are tried too, spread over the batch. If MySQL rejects some
/// of them, the named row is not alone, and the breaker must count all of them at once.
const SAMPLE: usize = 8;

/// The search in one batch.
pub struct BatchBisect<'a> {
    pub store: &'a BatchWriter,
    /// The ids of bindings: a rejected value may be one of these.
    pub bindings: &'a DeviceBindings,
    pub batch: &'a Batch,
}

impl BatchBisect<'_> {
    /// Returns the deliveries that MySQL rejects, as dead letters to be sent, with their
    /// partitions. The list is empty if MySQL accepts the batch by now. If MySQL named a row and
    /// accepts a sample of the others, only that row is tried. The next attempt finds the rest.
    pub async fn isolate(
        &self,
        suspect: Option<&Identity>,
    ) -> Result<Vec<(i32, DeadLetter)>, WriteError> {
        let mut found = self.find(suspect).await?;
        match found.first().map(|(first, _)| *first) {
            None => found.extend(self.last_of_rejected_start().await?),
            // The first delivery was tried before all others. If MySQL accepts it now, the table
            // was fixed meanwhile, and the earlier rejections prove nothing.
            Some(first) if self.probe(&[first]).await?.is_none() => found.clear(),
            Some(_) => {}
        }
        let of = |(segment, _): DeliveryIndex| self.batch.segments[segment].partition;
        Ok(found.into_iter().map(|(place, letter)| (of(place), letter)).collect())
    }

    /// Returns whether MySQL accepts a delivery of a dead letter that was not sent. `turn` chooses
    /// the dead letter: another one each time, because the causes may differ.
    pub async fn accepts_again(&self, turn: usize) -> Result<bool, WriteError> {
        let rejected = self.rejected();
        if rejected.is_empty() {
            return Ok(false);
        }
        Ok(self.probe(&[rejected[turn % rejected.len()]]).await?.is_none())
    }

    /// Returns the deliveries that MySQL rejected and whose dead letters were not sent.
    fn rejected(&self) -> Vec<DeliveryIndex> {
        let mut rejected = Vec::new();
        for (segment, held) in self.batch.segments.iter().enumerate() {
            let letters = held.dead_letters.iter();
            for letter in letters.filter(|l| l.class == ErrorClass::Data && !l.confirmed) {
                rejected.extend(held.index_of(letter).map(|index| (segment, index)));
            }
        }
        rejected
    }

    /// Returns the deliveries that MySQL rejects alone, in the order in which they were found.
    async fn find(
        &self,
        suspect: Option<&Identity>,
    ) -> Result<Vec<(DeliveryIndex, DeadLetter)>, WriteError> {
        let all = places(self.batch, |_| true);
        if let Some(suspect) = suspect.filter(|_| self.batch.dead_letters() < SUSPECTS_MAX) {
            let suspects = places(self.batch, |held| held == Some(suspect));
            let others = all.iter().filter(|place| !suspects.contains(place)).copied();
            let sample: Vec<DeliveryIndex> = others.step_by((all.len() / SAMPLE).max(1)).collect();
            if self.halve(sample).await?.is_empty() {
                let refused = self.halve(suspects).await?;
                if !refused.is_empty() {
                    return Ok(refused);
                }
            }
        }
        self.halve(all).await
    }

    async fn halve(
        &self,
        among: Vec<DeliveryIndex>,
    ) -> Result<Vec<(DeliveryIndex, DeadLetter)>, WriteError> {
        let mut refused = Vec::new();
        let mut parts = vec![among];
        while let Some(mut part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let Some(error) = self.probe(&part).await? else { continue };
            if let [place] = part[..] {
                refused.push((place, self.letter(place, error)));
            } else {
                let half = part.split_off(part.len() / 2);
                parts.push(part);
                parts.push(half);
            }
        }
        Ok(refused)
    }

    /// Returns the last delivery of the smallest start of the batch that MySQL rejects. `None` if
    /// MySQL accepts the batch.
    async fn last_of_rejected_start(
        &self,
    ) -> Result<Option<(DeliveryIndex, DeadLetter)>, WriteError> {
        let all = places(self.batch, |_| true);
        let Some(mut error) = self.probe(&all).await? else { return Ok(None) };
        let (mut accepted, mut rejected) = (0, all.len());
        while rejected - accepted > 1 {
            let middle = usize::midpoint(accepted, rejected);
            match self.probe(&all[..middle]).await? {
                None => accepted = middle,
                Some(found) => (rejected, error) = (middle, found),
            }
        }
        // If MySQL accepts it now, the table was fixed during the search.
        if self.probe(&all[..rejected]).await?.is_none() {
            return Ok(None);
        }
        Ok(all[..rejected].last().map(|place| (*place, self.letter(*place, error))))
    }

    /// Tries to write a part of the batch with the ids that the real write has. Returns the data
    /// error, if MySQL rejects the part.
    async fn probe(&self, part: &[DeliveryIndex]) -> Result<Option<DataError>, WriteError> {
        let mut segments = part_of(self.batch, part);
        device_ids::fill(self.bindings, &mut segments).await?;
        match self.store.probe(&segments).await {
            Ok(()) => Ok(None),
            Err(WriteError::Data { code, message, .. }) => Ok(Some((code, message))),
            Err(error) => Err(error),
        }
    }

    fn letter(&self, (segment, index): DeliveryIndex, (code, message): DataError) -> DeadLetter {
        DeadLetter {
            offset: self.batch.segments[segment].deliveries[index].offset,
            class: ErrorClass::Data,
            code: Some(code),
            message,
            confirmed: false,
        }
    }
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
