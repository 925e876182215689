//! Caches the last document written of each period, so that a document which a device repeats is
//! stored once. If the document is unchanged, only its guard moves. An older document is not sent.
//!
//! A guard only grows, so the cache is never ahead of it, unless the database goes back in time. The
//! ledger goes back too, so the worker claims again and clears the cache. The statement of a moved
//! guard compares the source of the stored document. The cache is bounded.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::civil::Date;
use ljwx_reading::{DeviceSn, Document, Ids};

use super::periods::{DocumentContent, Guard, GuardedDocument, Period, PeriodDocuments, Periods};

/// Most periods of one half of a table's cache.
const GENERATION_PERIODS_MAX: usize = 50_000;

/// The caches of both tables.
#[derive(Debug)]
pub struct PeriodCache {
    days: TableCache<4>,
    weeks: TableCache<1>,
}

impl PeriodCache {
    /// Creates an empty cache.
    pub fn new() -> Self {
        Self { days: TableCache::new(), weeks: TableCache::new() }
    }

    /// Exports how full the cache is.
    pub fn export(&self) {
        let entries = self.days.len() + self.weeks.len();
        ljwx_ledger::metrics::export_cache(
            "period_documents",
            entries as u64,
            GENERATION_PERIODS_MAX as u64 * 4,
        );
    }

    /// Returns the part of `whole` that has to be written.
    pub fn rest<'a>(&self, whole: &PeriodDocuments<'a>) -> PeriodDocuments<'a> {
        PeriodDocuments { days: self.days.rest(&whole.days), weeks: self.weeks.rest(&whole.weeks) }
    }

    /// Caches the periods of a committed transaction: `whole`, with the documents that were left
    /// out.
    pub fn committed(&self, whole: &PeriodDocuments<'_>) {
        self.days.committed(&whole.days);
        self.weeks.committed(&whole.weeks);
    }

    /// Forgets all periods.
    pub fn clear(&self) {
        self.days.lock().iter_mut().for_each(CacheHalf::clear);
        self.weeks.lock().iter_mut().for_each(CacheHalf::clear);
    }

    /// Forgets these periods: the tables do not have what the cache has.
    pub fn forget(&self, whole: &PeriodDocuments<'_>) {
        self.days.forget(&whole.days);
        self.weeks.forget(&whole.weeks);
    }
}

/// The last written ids and documents of one period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CachedPeriod<const N: usize> {
    ids: Ids,
    bound: Ids,
    documents: [Option<(Guard, u64)>; N],
}

type CacheHalf<const N: usize> = HashMap<(DeviceSn, Date), CachedPeriod<N>>;

/// The cache of one table.
#[derive(Debug)]
struct TableCache<const N: usize> {
    hasher: RandomState,
    /// The current half and the former half.
    generations: Mutex<[CacheHalf<N>; 2]>,
}

impl<const N: usize> TableCache<N> {
    fn new() -> Self {
        Self { hasher: RandomState::new(), generations: Mutex::default() }
    }

    fn len(&self) -> usize {
        self.lock().iter().map(CacheHalf::len).sum()
    }

    fn rest<'a>(&self, whole: &Periods<'a, N>) -> Periods<'a, N> {
        let generations = self.lock();
        let mut rest = whole.clone();
        rest.retain(|(device_sn, day), period| {
            let key = ((*device_sn).clone(), *day);
            let last = generations.iter().find_map(|generation| generation.get(&key));
            last.is_none_or(|last| self.differs(last, period))
        });
        rest
    }

    /// Returns whether any part of the period has to be written. Removes the documents that need no
    /// write.
    fn differs(&self, last: &CachedPeriod<N>, period: &mut Period<'_, N>) -> bool {
        for (slot, last) in period.documents.iter_mut().zip(&last.documents) {
            if slot.zip(*last).is_some_and(|(new, (guard, _))| new.guard <= guard) {
                *slot = None;
            }
        }
        let same = period.documents.iter().zip(&last.documents).map(|(slot, last)| {
            let Some(new) = slot else { return Some(None) };
            self.same(new, (*last)?).map(Some)
        });
        // A row is written whole, or only its guards move. A moved row shows by its change that it
        // is the expected row, so nothing else of it may change.
        let ids_differ = last.ids != period.ids || last.bound != period.bound;
        if let Some(same) = same.collect::<Option<Vec<_>>>().filter(|_| !ids_differ) {
            for (slot, same) in period.documents.iter_mut().zip(same) {
                *slot = same;
            }
        }
        ids_differ || period.documents.iter().any(Option::is_some)
    }

    /// Returns the move of the guard alone, if its time grows and the document is unchanged.
    fn same<'a>(
        &self,
        new: &GuardedDocument<'a>,
        (guard, hash): (Guard, u64),
    ) -> Option<GuardedDocument<'a>> {
        let DocumentContent::Document(document) = new.content else { return None };
        let same = new.guard.0 > guard.0 && self.hash(document) == hash;
        same.then_some(GuardedDocument {
            guard: new.guard,
            content: DocumentContent::Unchanged(guard.1),
        })
    }

    fn committed(&self, whole: &Periods<'_, N>) {
        let mut generations = self.lock();
        for ((device_sn, day), period) in whole {
            let key = ((*device_sn).clone(), *day);
            let [current, former] = &mut *generations;
            let held = current.get(&key).or_else(|| former.get(&key));
            let documents = held.map_or([None; N], |last| last.documents);
            let mut last = CachedPeriod { ids: period.ids, bound: period.bound, documents };
            for (slot, new) in last.documents.iter_mut().zip(&period.documents) {
                let Some(GuardedDocument { guard, content: DocumentContent::Document(document) }) =
                    new
                else {
                    continue;
                };
                if slot.is_none_or(|(held, _)| *guard >= held) {
                    *slot = Some((*guard, self.hash(document)));
                }
            }
            if current.len() >= GENERATION_PERIODS_MAX {
                *former = std::mem::take(current);
            }
            current.insert(key, last);
        }
    }

    fn forget(&self, whole: &Periods<'_, N>) {
        let mut generations = self.lock();
        for (device_sn, day) in whole.keys() {
            let key = ((*device_sn).clone(), *day);
            for generation in generations.iter_mut() {
                generation.remove(&key);
            }
        }
    }

    fn hash(&self, document: &Document) -> u64 {
        self.hasher.hash_one(document.as_str())
    }

    /// Ignores poisoning: a panic under the lock leaves valid maps.
    fn lock(&self) -> MutexGuard<'_, [CacheHalf<N>; 2]> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn document(text: &str) -> Document {
        serde_json::from_str(text).unwrap()
    }

    fn guard(second: i8, source: i64) -> Guard {
        (jiff::civil::datetime(2025, 9, 2, 8, 0, second, 0), source)
    }

    /// One device's day with up to two documents.
    fn periods<'a>(
        device_sn: &'a DeviceSn,
        documents: [Option<(Guard, &'a Document)>; 2],
    ) -> Periods<'a, 2> {
        let slot = |(guard, document)| GuardedDocument {
            guard,
            content: DocumentContent::Document(document),
        };
        let period = Period {
            id: 1,
            ids: Ids::default(),
            bound: Ids::default(),
            documents: documents.map(|document| document.map(slot)),
        };
        Periods::from([((device_sn, jiff::civil::date(2025, 9, 2)), period)])
    }

    #[test]
    fn the_same_document_moves_its_guard_and_an_older_one_nothing() {
        let device = DeviceSn::new("A").unwrap();
        let (a, b) = (document("[1]"), document("[2]"));
        let written = TableCache::<2>::new();
        let rest = |periods: &Periods<'_, 2>| -> Option<Vec<Option<Option<i64>>>> {
            let rest = written.rest(periods);
            let period = rest.into_values().next()?;
            let content = |slot: GuardedDocument<'_>| match slot.content {
                DocumentContent::Unchanged(source) => Some(source),
                DocumentContent::Document(_) => None,
            };
            Some(period.documents.iter().map(|slot| slot.map(content)).collect())
        };
        let first = periods(&device, [Some((guard(1, 10), &a)), Some((guard(1, 10), &b))]);
        assert_eq!(rest(&first), Some(vec![Some(None), Some(None)]), "unknown: written whole");
        written.committed(&first);
        assert_eq!(rest(&first), None, "again: nothing");
        let same = periods(&device, [Some((guard(2, 11), &a)), None]);
        assert_eq!(rest(&same), Some(vec![Some(Some(10)), None]));
        let one_changed = periods(&device, [Some((guard(2, 11), &a)), Some((guard(2, 11), &a))]);
        assert_eq!(
            rest(&one_changed),
            Some(vec![Some(None), Some(None)]),
            "whole or moved, not both"
        );
        let older = periods(&device, [Some((guard(0, 12), &b)), Some((guard(2, 11), &b))]);
        assert_eq!(rest(&older), Some(vec![None, Some(Some(10))]));
        let same_second = periods(&device, [Some((guard(1, 11), &a)), None]);
        assert_eq!(rest(&same_second), Some(vec![Some(None), None]), "nothing would show");
        written.committed(&same);
        let later = periods(&device, [Some((guard(3, 13), &a)), None]);
        assert_eq!(rest(&later), Some(vec![Some(Some(11)), None]));
        written.forget(&later);
        assert_eq!(rest(&later), Some(vec![Some(None), None]));
    }

    /// A row of a table with two documents, as the statements treat it.
    type Stored<'a> = Option<[Option<(Guard, &'a Document)>; 2]>;

    /// Does what the upserts do. Returns `None` if a row that only moves is missing or is another
    /// row.
    fn upsert<'a>(stored: Stored<'a>, rest: &Period<'a, 2>) -> Option<Stored<'a>> {
        let mut row = stored.unwrap_or_default();
        for (slot, new) in row.iter_mut().zip(&rest.documents) {
            let Some(new) = new else { continue };
            match new.content {
                DocumentContent::Document(document)
                    if slot.is_none_or(|(held, _)| new.guard >= held) =>
                {
                    *slot = Some((new.guard, document));
                }
                DocumentContent::Document(_) => {}
                DocumentContent::Unchanged(source) => match slot {
                    Some((guard, _)) if guard.1 == source => *guard = new.guard,
                    _ => return None,
                },
            }
        }
        Some(Some(row))
    }

    /// A reading: its second, and the text of each of its two documents by index.
    type Sent = (i8, [Option<usize>; 2]);

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn whatever_is_left_out_the_rows_are_those_of_a_plain_model(
            sent in prop::collection::vec((0_i8..4, [prop::option::of(0_usize..2), prop::option::of(0_usize..2)]), 1..12),
            cuts in prop::collection::vec(any::<(bool, bool)>(), 12),
        ) {
            let device = DeviceSn::new("A").unwrap();
            let texts = [document("[0]"), document("[1]")];
            let mut model = [None, None];
            for (source, (second, documents)) in sent.iter().enumerate() {
                for (slot, text) in model.iter_mut().zip(documents) {
                    let guard = guard(*second, source as i64);
                    if let Some(text) = text && slot.is_none_or(|(held, _)| guard >= held) {
                        *slot = Some((guard, &texts[*text]));
                    }
                }
            }
            let mut written = TableCache::<2>::new();
            let mut stored: Stored<'_> = None;
            let mut batch: Vec<(usize, Sent)> = Vec::new();
            for (source, (reading, (cut, forgets))) in sent.iter().zip(&cuts).enumerate() {
                batch.push((source, *reading));
                if !cut && source + 1 < sent.len() {
                    continue;
                }
                let mut documents = [None, None];
                for (source, (second, found)) in batch.drain(..) {
                    for (slot, text) in documents.iter_mut().zip(found) {
                        let guard = guard(second, source as i64);
                        let Some(text) = text else { continue };
                        if slot.is_none_or(|(held, _)| guard >= held) {
                            *slot = Some((guard, &texts[text]));
                        }
                    }
                }
                if documents.iter().all(Option::is_none) {
                    continue;
                }
                let whole = periods(&device, documents);
                for rest in written.rest(&whole).into_values() {
                    stored = match upsert(stored, &rest) {
                        Some(stored) => stored,
                        None => {
                            written.forget(&whole);
                            whole.values().fold(stored, |stored, period| {
                                upsert(stored, period).unwrap_or(stored)
                            })
                        }
                    };
                }
                written.committed(&whole);
                if *forgets {
                    // Another worker continues, with an empty cache.
                    written = TableCache::new();
                }
            }
            prop_assert_eq!(stored.unwrap_or_default(), model);
        }
    }
}
