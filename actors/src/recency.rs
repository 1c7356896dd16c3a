//! What was used lately, for the copies: they see writes, and without this they would keep what was
//! written last instead of what is used.
//!
//! Lossy and bounded on purpose: a key is told at most once a second, a batch has at most
//! [`BATCH_MAX`] keys, and what does not fit is not told. A key that is used often comes again.

use bytes::Bytes;

use crate::op::{CacheId, Ms};
use crate::slot::Slot;

/// Keys in one batch.
pub const BATCH_MAX: usize = 256;

/// Places for keys that were told lately; two keys with the same place push each other out.
const PLACES: usize = 4_096;

/// How long a key is not told again.
const QUIET_MS: Ms = 1_000;

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
    /// A key was used.
    pub fn note(&mut self, slot: Slot, cache: CacheId, key: &Bytes, now: Ms) {
        if self.batch.len() == BATCH_MAX {
            return;
        }
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(key, u64::from(cache.0));
        let told = &mut self.told[hash as usize % PLACES];
        if told.0 == hash && now < told.1 + QUIET_MS {
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
    use super::*;

    const CACHE: CacheId = CacheId(0);

    fn key(n: usize) -> Bytes {
        Bytes::from(format!("key-{n}"))
    }

    #[test]
    fn a_key_is_told_once_a_second() {
        let mut recency = Recency::default();
        for now in [5_000, 5_001, 5_999] {
            recency.note(1, CACHE, &key(1), now);
        }
        recency.note(1, CacheId(1), &key(1), 5_999);
        assert_eq!(recency.take().len(), 2, "another cache's key is another key");
        assert_eq!(recency.take(), []);
        recency.note(1, CACHE, &key(1), 6_000);
        assert_eq!(recency.take(), [Used { slot: 1, cache: CACHE, key: key(1) }]);
    }

    #[test]
    fn a_batch_is_bounded_and_what_did_not_fit_may_come_in_the_next() {
        let mut recency = Recency::default();
        (0..2 * BATCH_MAX).for_each(|n| recency.note(1, CACHE, &key(n), 1_000));
        let first = recency.take();
        assert_eq!(first.len(), BATCH_MAX);
        (0..2 * BATCH_MAX).for_each(|n| recency.note(1, CACHE, &key(n), 1_050));
        let second = recency.take();
        // Keys of one place push each other out, and then come again.
        let again = second.iter().filter(|used| first.contains(used)).count();
        assert!(again < BATCH_MAX / 2, "{again}");
    }
}
