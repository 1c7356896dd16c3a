//! What a node is told when it starts: plain values, already validated by whoever made them.

use std::collections::HashMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::map::Details;
use crate::op::{Acks, Ms};
use crate::version::Versions;

/// Everything a node needs to start.
#[derive(Debug)]
pub struct NodeSpec {
    /// What holds for the whole cluster.
    pub cluster: ClusterSpec,
    /// This node's id; one of `members`, unless it is `joining`.
    pub id: String,
    /// The nodes of the cluster file, in its order, this one included. A node that is `joining` is
    /// told them.
    pub members: Vec<Details>,
    /// Set for a node that is not in the cluster file.
    pub joining: Option<Joining>,
    /// The bound peer listener; `None` for a node without network.
    pub peer_listener: Option<TcpListener>,
    /// Addresses to dial instead of the listed ones, by node id.
    pub dial: HashMap<String, String>,
    /// Worker threads.
    pub workers: usize,
    /// Shards; slot `s` lives in shard `s mod shards`.
    pub shards: usize,
    /// Bytes of bodies, responses and unacknowledged replication under way.
    pub max_inflight_bytes: u64,
    /// Bytes a second that it sends to fill copies; an entry counts as 1 KiB at least.
    pub import_rate: u64,
    /// The named caches; `default` is the first.
    pub caches: Vec<CacheSpec>,
    /// The protocol versions that it speaks. Fewer than [`Versions::CURRENT`] make it pass for an
    /// older build, in tests.
    pub versions: Versions,
}

/// How a node that is not in the cluster file becomes a member.
#[derive(Clone, Debug)]
pub struct Joining {
    /// What it says of itself.
    pub details: Details,
    /// Peer addresses of members, `host:port`, asked in turn.
    pub ask: Vec<String>,
    /// Set by whoever does not want it to start any more.
    pub cancelled: Arc<AtomicBool>,
}

/// What holds for the whole cluster.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// The cluster's name; peers of another name are refused.
    pub name: String,
    /// Copies of each entry, the primary's included.
    pub replication_factor: usize,
    /// The default of every cache.
    pub acks: Acks,
    /// In-sync copies below which an `all` write is refused.
    pub min_copies: usize,
    /// What nodes without a majority do.
    pub minority: Minority,
    /// Points of a node of weight 1 on the ring.
    pub virtual_nodes: u32,
    /// Between two heartbeats.
    pub heartbeat_interval_ms: Ms,
    /// How long an answered heartbeat allows to serve.
    pub lease_ms: Ms,
    /// Silence after which a member counts as gone.
    pub failure_timeout_ms: Ms,
    /// How long a request may take.
    pub request_timeout_ms: Ms,
    /// How long a leaving node waits for requests in flight.
    pub drain_timeout_ms: Ms,
    /// The shared secret; empty on a cluster that is all loopback.
    pub secret: Vec<u8>,
}

impl ClusterSpec {
    /// A digest of what every node of the cluster has to be told alike, whatever its file lists:
    /// where slots are, what a write's answer means, and who may serve when. `copies` are those of
    /// the cache with the most.
    pub fn digest(&self, copies: usize) -> u64 {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        hash.update(&self.virtual_nodes.to_le_bytes());
        let (is_available, is_all) = (self.minority == Minority::Available, self.acks == Acks::All);
        hash.update(&[u8::from(is_available), u8::from(is_all)]);
        for number in
            [copies as u64, self.min_copies as u64, self.lease_ms, self.failure_timeout_ms]
        {
            hash.update(&number.to_le_bytes());
        }
        hash.digest()
    }
}

/// What nodes without a majority do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Minority {
    /// They refuse to serve, and found no cluster while a node is silent.
    Refuse,
    /// They go on when every other node refuses connections or has been silent for
    /// `failure_timeout`.
    Available,
}

impl Minority {
    /// The default of a cluster of so many nodes: with two, the death of one leaves no majority.
    pub fn of(nodes: usize) -> Self {
        if nodes <= 2 { Minority::Available } else { Minority::Refuse }
    }
}

/// A named cache.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheSpec {
    /// Its name.
    pub name: String,
    /// Entries per node, copies included.
    pub capacity: u64,
    /// Bytes per node, overhead included.
    pub max_bytes: u64,
    /// Time to live of entries put without one; `None` is permanent.
    pub default_ttl_ms: Option<Ms>,
    /// The largest value, in bytes.
    pub max_value: u64,
    /// The longest key, in bytes.
    pub max_key: usize,
    /// Copies of each entry; `None` takes the cluster's.
    pub replication_factor: Option<usize>,
    /// Acknowledgement policy; `None` takes the cluster's.
    pub acks: Option<Acks>,
}

impl CacheSpec {
    /// A cache with the defaults of API.md: 100,000 entries, 256 MiB, permanent entries, values
    /// to 16 MiB, keys to 8 KiB.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            capacity: 100_000,
            max_bytes: 256 << 20,
            default_ttl_ms: None,
            max_value: 16 << 20,
            max_key: crate::op::MAX_KEY_BYTES,
            replication_factor: None,
            acks: None,
        }
    }
}

/// Bytes of a frame beside the largest value.
const FRAME_SPARE: u64 = 4 << 20;

/// The largest frame that a peer may send to a node with these caches, in bytes.
pub fn max_frame(caches: &[CacheSpec]) -> usize {
    let largest = caches.iter().map(|cache| cache.max_value).max().unwrap_or(0);
    (largest + FRAME_SPARE) as usize
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self {
            name: "lariat".into(),
            replication_factor: 1,
            acks: Acks::All,
            min_copies: 1,
            minority: Minority::Available,
            virtual_nodes: 128,
            heartbeat_interval_ms: 60,
            lease_ms: 250,
            failure_timeout_ms: 1_000,
            request_timeout_ms: 5_000,
            drain_timeout_ms: 30_000,
            secret: Vec::new(),
        }
    }
}

impl NodeSpec {
    /// One node without network, with a `default` cache: for tests and small apps.
    pub fn local() -> Self {
        Self {
            cluster: ClusterSpec::default(),
            id: "node-1".into(),
            members: vec![Details {
                id: "node-1".into(),
                http: String::new(),
                peer: String::new(),
                redis: String::new(),
                weight: 1.0,
                zone: String::new(),
            }],
            joining: None,
            peer_listener: None,
            dial: HashMap::new(),
            workers: 1,
            shards: 1,
            max_inflight_bytes: 128 << 20,
            import_rate: 128 << 20,
            caches: vec![CacheSpec::new("default")],
            versions: Versions::CURRENT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_that_decides_who_serves_or_what_an_answer_means_is_in_the_digest() {
        let same = ClusterSpec::default();
        let others = [
            ClusterSpec { acks: Acks::Async, ..same.clone() },
            ClusterSpec { min_copies: 2, ..same.clone() },
            ClusterSpec { minority: Minority::Refuse, ..same.clone() },
            ClusterSpec { virtual_nodes: 64, ..same.clone() },
            ClusterSpec { lease_ms: 300, ..same.clone() },
            ClusterSpec { failure_timeout_ms: 900, ..same.clone() },
        ];
        assert!(others.iter().all(|other| other.digest(2) != same.digest(2)));
        assert_ne!(same.digest(1), same.digest(2));
        let slow = ClusterSpec { request_timeout_ms: 9_000, ..same.clone() };
        assert_eq!(slow.digest(2), same.digest(2), "a matter of each node");
    }
}
