//! Counters of a node: written by their one owner, read by anyone.
//!
//! A shard adds to its own atomics with relaxed stores and no read-modify-write; a snapshot is a
//! sum over shards and needs no message.

use serde::{Deserialize, Serialize};

/// The role a node had for a slot when something happened to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The node is the slot's primary.
    Primary,
    /// The node holds a replica.
    Replica,
}

/// Counters of one named cache on one node. Those of requests count at the primary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheStats {
    /// Live entries, by role.
    pub entries: ByRole,
    /// Accounted bytes, overhead included, by role.
    pub bytes: ByRole,
    /// Gets that found an entry.
    pub hits: u64,
    /// Gets that found none.
    pub misses: u64,
    /// Applied puts.
    pub puts: u64,
    /// Deletes that removed an entry.
    pub deletes: u64,
    /// Other applied writes: incr, append, new deadlines.
    pub updates: u64,
    /// Writes whose precondition did not hold.
    pub precondition_failures: u64,
    /// Entries removed to keep within capacity or bytes, by role.
    pub evictions: ByRole,
    /// Entries removed because their deadline passed, by role.
    pub expirations: ByRole,
    /// Entries removed by clearing, by role.
    pub cleared: ByRole,
    /// Entries dropped because the slot's primary was lost or the slot was taken away, by role.
    pub lost: ByRole,
}

/// A count for each role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByRole {
    /// As primary.
    pub primary: u64,
    /// As replica.
    pub replica: u64,
}

impl ByRole {
    /// Both roles together.
    pub fn total(self) -> u64 {
        self.primary + self.replica
    }

    /// Changes a gauge of one role.
    pub fn shift(&mut self, role: Role, change: i64) {
        match role {
            Role::Primary => self.primary = self.primary.saturating_add_signed(change),
            Role::Replica => self.replica = self.replica.saturating_add_signed(change),
        }
    }

    /// Adds `n` to one role.
    pub fn add(&mut self, role: Role, n: u64) {
        match role {
            Role::Primary => self.primary += n,
            Role::Replica => self.replica += n,
        }
    }
}

/// Everything a node tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStats {
    /// Its id.
    pub id: String,
    /// Its start, as peers know it.
    pub incarnation: u64,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Per cache, by name, in the order of the configuration.
    pub caches: Vec<(String, CacheStats)>,
    /// Named counters and gauges of routers, links and supervision: (name, value).
    pub counters: Vec<(String, u64)>,
}
