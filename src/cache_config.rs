//! What a cache of an embedded node is like, said in code.

use std::time::Duration;

use lariat_actors::op::Acks;
use lariat_actors::spec::CacheSpec;

/// What a cache of an embedded node is like; everything has a default.
#[derive(Clone, Debug)]
pub struct CacheConfig(pub(crate) CacheSpec);

impl Default for CacheConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl CacheConfig {
    /// 100,000 entries, 256 MiB, permanent entries, values to 16 MiB, keys to 8 KiB.
    pub fn new() -> Self {
        CacheConfig(CacheSpec::new(""))
    }

    /// Entries per node, copies included.
    pub fn capacity(mut self, entries: u64) -> Self {
        self.0.capacity = entries;
        self
    }

    /// Bytes per node, overhead included.
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.0.max_bytes = bytes;
        self
    }

    /// Time to live of entries put without one.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.0.default_ttl_ms = Some(ttl.as_millis().max(1) as u64);
        self
    }

    /// The largest value, in bytes.
    pub fn max_value(mut self, bytes: u64) -> Self {
        self.0.max_value = bytes;
        self
    }

    /// Copies of each entry, the primary's included.
    pub fn replication_factor(mut self, copies: usize) -> Self {
        self.0.replication_factor = Some(copies);
        self
    }

    /// How many copies a write waits for.
    pub fn acks(mut self, acks: Acks) -> Self {
        self.0.acks = Some(acks);
        self
    }
}
