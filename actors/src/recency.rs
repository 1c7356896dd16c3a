//! What was used lately, for the copies: they see writes, and without this they would keep what was
//! written last instead of what is used.
//!
//! Lossy and bounded on purpose: a key is told once in a generation of the list that it stands in, or once
//! a second if those are longer, a batch has at most
//! [`BATCH_MAX`] keys, and what does not fit is not told. A key that is used often comes again.

use bytes::Bytes;

use crate::op::{CacheId, Ms};
use crate::slot::Slot;

/// Keys in one batch.
pub const BATCH_MAX: usize = 256;

/// Places for keys that were told lately; two keys with the same place push each other out.
const PLACES: usize = 4_096;

/// How long a key is not told again, at most.
const QUIET_MAX_MS: Ms = 1_000;

/// A key that was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// Its slot.
    pub slot: Slot,
    /// Its cache.
    pub cache: CacheId,
    /// The key.
    pub key: Bytes,
}

/// The keys of one shard that were used and not told yet, and those told lately.
#[derive(Debug)]
pub struct Recency {
    /// For each place the hash of the key told last, and when.
    told: Box<[(u64, Ms)]>,
    batch: Vec<Used>,
}

impl Default for Recency {
    fn default() -> Self {
        Recency { told: vec![(0, 0); PLACES].into(), batch: Vec::new() }
    }
}

impl Recency {
    /// A key was used; `quiet` is how much later another use of it is worth telling.
    pub fn note(&mut self, slot: Slot, cache: CacheId, key: &Bytes, quiet: Ms, now: Ms) {
        if self.batch.len() == BATCH_MAX {
            return;
        }
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(key, u64::from(cache.0));
        let told = &mut self.told[hash as usize % PLACES];
        if told.0 == hash && now < told.1 + quiet.min(QUIET_MAX_MS) {
            return;
        }
        *told = (hash, now);
        self.batch.push(Used { slot, cache, key: key.clone() });
    }

    /// What is to be told, oldest use first.
    pub fn take(&mut self) -> Vec<Used> {
        std::mem::take(&mut self.batch)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::lru::{Lru, LruConfig, SharedSeed};
    use crate::op::Version;
    use crate::slot::slot_of;

    const CACHE: CacheId = CacheId(0);

    fn key(n: usize) -> Bytes {
        Bytes::from(format!("key-{n}"))
    }

    #[test]
    fn a_key_is_told_again_when_it_is_worth_it_or_after_a_second() {
        for (quiet, waits) in [(70, 70), (999, 999), (60_000, 1_000)] {
            let mut recency = Recency::default();
            for now in [5_000, 5_001, 4_999 + waits] {
                recency.note(1, CACHE, &key(1), quiet, now);
            }
            recency.note(1, CacheId(1), &key(1), quiet, 4_999 + waits);
            assert_eq!(recency.take().len(), 2, "another cache's key is another key");
            assert_eq!(recency.take(), []);
            recency.note(1, CACHE, &key(1), quiet, 5_000 + waits);
            assert_eq!(recency.take(), [Used { slot: 1, cache: CACHE, key: key(1) }]);
        }
    }

    /// A primary and its copy, 800 entries each, under 25,000 requests, one every 2 ms, of keys by a steep
    /// law; then 5,000 more, answered by the primary and, as if it had died, by the copy. Returns the
    /// misses of each.
    fn primary_and_copy(tells: bool) -> (usize, usize) {
        let (capacity, max_bytes, shards, seed) = (800, 1 << 30, 1, 42);
        let shared_seed = SharedSeed::global_fixed();
        let config = LruConfig { capacity, max_bytes, shards, seed, shared_seed };
        let (mut primary, mut copy) = (Lru::new(config), Lru::new(config));
        let mut recency = Recency::default();
        let (mut random, mut missed) = (1u64, [0, 0]);
        let get = |lru: &mut Lru, key: &Bytes, now| {
            lru.get(slot_of(key), key, now, &mut |_| {}).is_some()
        };
        let put = |lru: &mut Lru, key: &Bytes, now| {
            let (slot, value) = (slot_of(key), Bytes::from_static(b"value"));
            lru.put(slot, key, &value, None, None, Version(1), now, &mut |_| {}).unwrap();
        };
        for request in 0..30_000 {
            let now = 1_000 + 2 * request;
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let unit = (random >> 11) as f64 / (1u64 << 53) as f64;
            let key = key((4_000.0 * unit.powi(8)) as usize);
            if request >= 25_000 {
                for (lru, missed) in [&mut primary, &mut copy].into_iter().zip(&mut missed) {
                    if !get(lru, &key, now) {
                        *missed += 1;
                        put(lru, &key, now);
                    }
                }
                continue;
            }
            if get(&mut primary, &key, now) {
                recency.note(slot_of(&key), CACHE, &key, primary.generation_ms(), now);
            } else {
                put(&mut primary, &key, now);
                put(&mut copy, &key, now);
            }
            primary.tick(now);
            if request % 25 == 0 && tells {
                for Used { slot, key, .. } in recency.take() {
                    copy.touch(slot, &key);
                }
            }
        }
        (missed[0], missed[1])
    }

    #[test]
    fn a_copy_that_is_told_of_uses_keeps_the_hot_set_and_one_that_is_not_does_not() {
        let (point, told) = (5_000 / 100, primary_and_copy(true));
        assert!(told.0 >= 5_000 / 5, "a trace that hits always shows nothing");
        assert!(told.1.abs_diff(told.0) <= point, "{told:?}");
        let untold = primary_and_copy(false);
        assert_eq!(untold.0, told.0, "the primary does not know");
        assert!(untold.1 > untold.0 + point * 3 / 2, "{untold:?}");
    }

    #[test]
    fn a_batch_is_bounded_and_what_did_not_fit_may_come_in_the_next() {
        let mut recency = Recency::default();
        (0..2 * BATCH_MAX).for_each(|n| recency.note(1, CACHE, &key(n), 1_000, 1_000));
        let first = recency.take();
        assert_eq!(first.len(), BATCH_MAX);
        (0..2 * BATCH_MAX).for_each(|n| recency.note(1, CACHE, &key(n), 1_000, 1_050));
        let second = recency.take();
        // Keys of one place push each other out, and then come again.
        let again = second.iter().filter(|used| first.contains(used)).count();
        assert!(again < BATCH_MAX / 2, "{again}");
    }
}
