//! Counters of one shard, published for readers on other threads.
//!
//! The shard keeps plain numbers and stores them after each message; nobody else writes them, so
//! no read-modify-write is needed.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::stats::{ByRole, CacheStats};

/// What one shard publishes: one row per named cache.
#[derive(Debug)]
pub struct ShardCounters {
    caches: Vec<Published>,
}

const FIELDS: usize = 18;

#[derive(Debug)]
struct Published([AtomicU64; FIELDS]);

impl ShardCounters {
    /// Counters of a shard with this many caches, all zero.
    pub fn new(caches: usize) -> Self {
        let zero = || Published(std::array::from_fn(|_| AtomicU64::new(0)));
        ShardCounters { caches: (0..caches).map(|_| zero()).collect() }
    }

    /// Publishes the numbers of a cache. Only the shard itself calls it.
    pub fn publish(&self, cache: usize, stats: &CacheStats) {
        for (cell, value) in self.caches[cache].0.iter().zip(flatten(stats)) {
            cell.store(value, Relaxed);
        }
    }

    /// Adds the numbers of a cache to a sum.
    pub fn add_to(&self, cache: usize, sum: &mut CacheStats) {
        let mine: [u64; FIELDS] = std::array::from_fn(|i| self.caches[cache].0[i].load(Relaxed));
        let both = flatten(sum);
        *sum = unflatten(std::array::from_fn(|i| mine[i] + both[i]));
    }
}

fn flatten(s: &CacheStats) -> [u64; FIELDS] {
    [
        s.entries.primary,
        s.entries.replica,
        s.bytes.primary,
        s.bytes.replica,
        s.hits,
        s.misses,
        s.puts,
        s.deletes,
        s.updates,
        s.precondition_failures,
        s.evictions.primary,
        s.evictions.replica,
        s.expirations.primary,
        s.expirations.replica,
        s.cleared.primary,
        s.cleared.replica,
        s.lost.primary,
        s.lost.replica,
    ]
}

fn unflatten(v: [u64; FIELDS]) -> CacheStats {
    let role = |i: usize| ByRole { primary: v[i], replica: v[i + 1] };
    CacheStats {
        entries: role(0),
        bytes: role(2),
        hits: v[4],
        misses: v[5],
        puts: v[6],
        deletes: v[7],
        updates: v[8],
        precondition_failures: v[9],
        evictions: role(10),
        expirations: role(12),
        cleared: role(14),
        lost: role(16),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_what_is_read() {
        let counters = ShardCounters::new(1);
        let written = unflatten(std::array::from_fn(|i| i as u64 + 1));
        counters.publish(0, &written);
        let mut sum = CacheStats::default();
        counters.add_to(0, &mut sum);
        assert_eq!(sum, written);
        counters.add_to(0, &mut sum);
        assert_eq!(sum.lost.replica, 2 * FIELDS as u64);
    }
}
