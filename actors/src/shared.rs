//! What the actors of one node share: settings that never change, and a few cells that are
//! published as a whole (map, addresses, counters).
//!
//! There is one [`Shared`] a node and nothing process-wide, so many nodes fit in one process.

use std::collections::HashMap;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
use std::sync::{Arc, OnceLock};

use actix::Addr;
use arc_swap::ArcSwap;

use crate::admission::Gate;
use crate::client::{Inflight, MemberState};
use crate::map::{ClusterMap, Details, Left, NodeIx};
use crate::op::{Acks, CacheId, Failure, FailureKind, Ms};
use crate::peer::Whom;
use crate::peer::asking::FRAME_BYTES;
use crate::router::messages::MapChanged;
use crate::router::{self, Router};
use crate::shard::messages::RowsChanged;
use crate::shard::{self, Shard, ShardCounters};
use crate::slot::{Deal, Slot};
use crate::spec::{CacheSpec, ClusterSpec, max_frame};
use crate::stalls::Stalls;
use crate::stats::{CacheStats, NodeStats};
use crate::supervisor::Supervisor;
use crate::time::NodeClock;
use crate::version::Versions;

/// Everything the actors of one node share.
#[derive(Debug)]
pub struct Shared {
    /// This node's id.
    pub id: String,
    /// This node in the map. It keeps its index for as long as it runs.
    pub me: NodeIx,
    /// Nodes of the cluster file, the first of every map.
    pub listed: usize,
    /// What this node says of itself, if it is not in the cluster file.
    pub details: Option<Details>,
    /// Addresses to dial instead of those that the map names, by node id.
    pub dial: HashMap<String, String>,
    /// See [`Shared::incarnation`].
    pub(crate) incarnation: AtomicU64,
    /// Until when this node may serve; the Supervisor publishes it.
    pub lease: PublishedLease,
    /// The protocol versions that this build understands; see [`Shared::speaks`].
    pub versions: Versions,
    /// Settings of the cluster.
    pub cluster: ClusterSpec,
    /// The named caches.
    pub caches: Vec<CacheSpec>,
    /// Stable hashes of the caches' names, as peers send them.
    pub cache_hashes: Vec<u32>,
    /// Number of shards.
    pub shards: usize,
    /// How slots are dealt out to them.
    pub deal: Deal,
    /// Number of worker threads.
    pub workers: usize,
    /// The node's clock.
    pub clock: NodeClock,
    /// The current map.
    pub map: ArcSwap<ClusterMap>,
    /// For each slot the newest `since` under which this node began it empty, whatever became of
    /// the shard that did.
    pub begun: Vec<AtomicU64>,
    /// Addresses of routers and shards, once all have started.
    pub registry: OnceLock<Registry>,
    /// Counters of each shard.
    pub shard_counters: Vec<ShardCounters>,
    /// Counters of routers and links.
    pub counters: Counters,
    /// State of each member as seen from here, by index; see [`Shared::member_state`].
    pub member_states: Vec<AtomicU8>,
    /// The budget of bytes under way.
    pub inflight: Arc<Inflight>,
    /// Bytes a second that imports may send.
    pub import_rate: u64,
    /// Waits for worker threads, which end when one hangs.
    pub stalls: Stalls,
    /// Has the node begun to stop? It serves until it is [`Shared::ending`].
    pub stopping: AtomicBool,
    /// Are its actors about to end?
    pub ending: AtomicBool,
    /// See [`Shared::coordinator`].
    pub(crate) coordinator: AtomicU32,
    /// Has the Supervisor panicked?
    pub failed: AtomicBool,
    /// Has this node left the cluster, with nothing that only it had?
    pub left: AtomicBool,
    /// What is left to be moved, as it was seen last. The Supervisor publishes it.
    pub moves: ArcSwap<Left>,
    /// Has a shard ended so often that it is not made again?
    pub given_up: AtomicBool,
    /// The map before any cluster is founded: where the ring would put the slots of the nodes of the
    /// cluster file. It lists those too that are known to have joined.
    pub unfounded: ArcSwap<ClusterMap>,
    /// The highest known start of each member.
    pub seen: Vec<AtomicU64>,
    /// When the node started, by its own clock.
    pub started_at: Ms,
}

/// No node has this index.
pub(crate) const NO_COORDINATOR: u32 = u32::MAX;

/// Where the actors of a running node are.
#[derive(Debug)]
pub struct Registry {
    /// One router per worker.
    pub routers: Vec<Addr<Router>>,
    /// One handle per shard, replaced when the shard is made again; shard `s` lives on worker
    /// `s mod workers` while that worker lives.
    pub shards: Vec<ArcSwap<ShardHandle>>,
    /// The Supervisor.
    pub supervisor: Addr<Supervisor>,
}

/// A shard, and what stands before it.
#[derive(Clone, Debug)]
pub struct ShardHandle {
    /// Its address.
    pub addr: Addr<Shard>,
    /// Its admission.
    pub gate: Arc<Gate>,
    /// May this instance of the shard decide anything? The Supervisor closes it for good before it
    /// reports the shard's slots lost.
    pub serving: Arc<AtomicBool>,
}

/// The lease as readers on other threads see it. A shard reads it, and its own gate, before it
/// reads the map: a valid lease says that no older map was in use when it was renewed.
#[derive(Debug, Default)]
pub struct PublishedLease {
    until: AtomicU64,
    last_until: AtomicU64,
    since: AtomicU64,
}

impl PublishedLease {
    /// Until when this node may serve, by its own clock; exclusive.
    pub fn until(&self) -> Ms {
        self.until.load(Acquire)
    }

    /// Until when the last lease lasted, or lasts.
    pub fn last_until(&self) -> Ms {
        self.last_until.load(Relaxed)
    }

    /// Since when it has had a lease without a break.
    pub fn since(&self) -> Ms {
        self.since.load(Acquire)
    }

    /// May this node serve now?
    pub fn is_valid(&self, now: Ms) -> bool {
        now < self.until()
    }

    /// Publishes a lease. Only the Supervisor calls it, after the map that the lease requires.
    pub fn publish(&self, until: Ms, since: Ms) {
        self.since.store(since, Release);
        self.last_until.fetch_max(until, Relaxed);
        self.until.store(until, Release);
    }
}

impl Shared {
    /// This start of the node. A node that was taken out of the map while it ran is another start
    /// from then on.
    pub fn incarnation(&self) -> u64 {
        self.incarnation.load(Acquire)
    }

    /// The node is another start from now on, which has begun nothing. Only the Supervisor calls
    /// it.
    pub fn set_incarnation(&self, incarnation: u64) {
        self.begun.iter().for_each(|begun| begun.store(0, Relaxed));
        self.incarnation.store(incarnation, Release);
    }

    /// The protocol versions that it understands as a part of its cluster.
    pub fn speaks(&self) -> Versions {
        self.versions.within(self.map.load().version)
    }

    /// Has the node begun to stop?
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Acquire)
    }

    /// The coordinator that this node knows.
    pub fn coordinator(&self) -> Option<NodeIx> {
        u16::try_from(self.coordinator.load(Relaxed)).ok().map(NodeIx)
    }

    /// Publishes who coordinates. Only the Supervisor calls it.
    pub fn set_coordinator(&self, node: Option<NodeIx>) {
        self.coordinator.store(node.map_or(NO_COORDINATOR, |node| u32::from(node.0)), Relaxed);
    }

    /// A start of a member has shown itself.
    pub fn note_seen(&self, node: NodeIx, incarnation: u64) {
        self.seen[usize::from(node.0)].fetch_max(incarnation, Relaxed);
    }

    /// The highest known start of a member.
    pub fn highest_seen(&self, node: NodeIx) -> u64 {
        let known = self.map.load().member(node).known;
        self.seen[usize::from(node.0)].load(Relaxed).max(known)
    }

    /// Does a map list this node? One that it was told of may be older than its joining.
    pub fn is_listed_in(&self, map: &ClusterMap) -> bool {
        map.lists(self.me, &self.id)
    }

    /// The index of a node by its id: by the map, or, beyond its list, by what this node heard of
    /// before it had that map, which may be one from before others joined.
    pub fn find(&self, id: &str) -> Option<NodeIx> {
        let (map, heard) = (self.map.load(), self.unfounded.load());
        let is_beyond = |node: &NodeIx| usize::from(node.0) >= map.members.len();
        map.find(id).or_else(|| heard.find(id).filter(is_beyond))
    }

    /// Where to dial a member: looked up in the newest map each time. `None` for this node, and for
    /// one that has no address.
    pub fn whom(self: &Arc<Self>, node: NodeIx) -> Option<Whom> {
        let shared = self.clone();
        let look = move || {
            let (map, heard) = (shared.map.load(), shared.unfounded.load());
            let at = usize::from(node.0);
            // Of a node of the file this node's own file says it, which may have another name for it.
            let own = heard.members.get(at).filter(|_| at < shared.listed);
            let member = own.or_else(|| map.members.get(at)).or_else(|| heard.members.get(at))?;
            let address = shared.dial.get(&member.id).unwrap_or(&member.peer);
            (!address.is_empty()).then(|| (member.id.clone(), address.clone()))
        };
        (node != self.me && look().is_some()).then(|| Whom::new(look))
    }

    /// Tells shards and Routers that a newer map is published.
    pub fn tell_of_map(&self) {
        let Some(registry) = self.registry.get() else { return };
        registry.shards.iter().for_each(|shard| shard.load().addr.do_send(RowsChanged));
        self.tell_routers_of_map();
    }

    /// Tells Routers that what they keep waiting may be tried again: a newer map, or a lease.
    pub fn tell_routers_of_map(&self) {
        let Some(registry) = self.registry.get() else { return };
        registry.routers.iter().for_each(|router| router.do_send(MapChanged));
    }

    /// The node is another start, which holds nothing. Only the Supervisor calls it.
    pub fn forget_slots(&self) {
        let Some(registry) = self.registry.get() else { return };
        registry.shards.iter().for_each(|shard| shard.load().addr.do_send(shard::messages::Reset));
        registry.routers.iter().for_each(|router| router.do_send(router::messages::Reset));
    }

    /// The handle of the shard that owns a slot; `None` while the node starts.
    pub fn shard_handle(&self, slot: Slot) -> Option<arc_swap::Guard<Arc<ShardHandle>>> {
        Some(self.registry.get()?.shards[self.shard_of(slot)].load())
    }

    /// Is the gate of the shard that owns a slot open? It is closed from when the shard has ended
    /// until another instance takes its place.
    pub fn is_open(&self, slot: Slot) -> bool {
        self.shard_handle(slot).is_some_and(|shard| shard.serving.load(Acquire))
    }

    /// The shard that owns a slot on this node.
    pub fn shard_of(&self, slot: Slot) -> usize {
        self.deal.shard(slot)
    }

    /// Worker threads that have a shard: shard `s` lives on worker `s mod workers`.
    pub fn shard_threads(&self) -> usize {
        self.workers.min(self.shards)
    }

    /// Does a cache live on all copies of a slot? One of a single copy lives on primaries alone.
    pub fn is_replicated(&self, cache: CacheId) -> bool {
        self.caches.get(usize::from(cache.0)).is_some_and(|spec| {
            spec.replication_factor.unwrap_or(self.cluster.replication_factor) > 1
        })
    }

    /// The largest request that can be forwarded: the last one of a frame that was nearly full.
    pub fn max_request_bytes(&self) -> usize {
        max_frame(&self.caches) - 2 * FRAME_BYTES
    }

    /// The acknowledgement policy of a cache.
    pub fn acks_of(&self, cache: CacheId) -> Acks {
        let spec = self.caches.get(usize::from(cache.0));
        spec.and_then(|spec| spec.acks).unwrap_or(self.cluster.acks)
    }

    /// The failure of a write of which this node cannot tell what became of it; counted.
    pub(crate) fn unknown(&self) -> Failure {
        self.counters.outcome_unknown.add(1);
        FailureKind::OutcomeUnknown.maybe()
    }

    /// The cache whose name has this stable hash.
    pub fn cache_of_hash(&self, hash: u32) -> Option<CacheId> {
        self.cache_hashes.iter().position(|&h| h == hash).map(|i| CacheId(i as u16))
    }

    /// This node's own counters.
    pub fn stats(&self) -> NodeStats {
        let caches = self.caches.iter().enumerate().map(|(index, spec)| {
            let mut sum = CacheStats::default();
            self.shard_counters.iter().for_each(|shard| shard.add_to(index, &mut sum));
            (spec.name.clone(), sum)
        });
        NodeStats {
            id: self.id.clone(),
            incarnation: self.incarnation(),
            uptime_ms: self.clock.now() - self.started_at,
            caches: caches.collect(),
            counters: self.counters.all(),
        }
    }

    /// The state of a member as seen from here.
    pub fn member_state(&self, node: NodeIx) -> MemberState {
        match self.member_states[usize::from(node.0)].load(Relaxed) {
            0 => MemberState::Joining,
            1 => MemberState::Up,
            2 => MemberState::Suspect,
            3 => MemberState::Leaving,
            _ => MemberState::Down,
        }
    }

    /// Publishes the state of a member. Only the Supervisor calls it.
    pub fn set_member_state(&self, node: NodeIx, state: MemberState) {
        let code = match state {
            MemberState::Joining => 0,
            MemberState::Up => 1,
            MemberState::Suspect => 2,
            MemberState::Leaving => 3,
            MemberState::Down => 4,
        };
        self.member_states[usize::from(node.0)].store(code, Relaxed);
    }
}

/// Declares the node-wide counters once: the field, its name in metrics and statistics, whether it
/// is a counter or a gauge, and its help, which is its documentation.
macro_rules! counters {
    ($(#[doc = $help:literal] $kind:ident $name:ident,)*) => {
        /// Counters and gauges of routers, links and supervision.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(#[doc = $help] pub $name: Counter,)*
        }

        impl Counters {
            /// Kind and help of each, in the order of [`Counters::all`].
            pub const HELP: &[(&str, &str)] = &[$((stringify!($kind), $help.trim_ascii()),)*];

            /// Name and value of each.
            pub fn all(&self) -> Vec<(String, u64)> {
                vec![$((stringify!($name).to_string(), self.$name.get()),)*]
            }
        }
    };
}

counters! {
    /// Requests sent to primaries on other nodes, each carrying one batch.
    counter peer_requests,
    /// Operations carried by requests to primaries on other nodes.
    counter peer_operations,
    /// Requests received from peers.
    counter peer_requests_received,
    /// Writes sent to copies, those sent again included.
    counter replication_writes_sent,
    /// Writes sent again after a reconnect.
    counter replication_writes_resent,
    /// Writes that copies confirmed.
    counter replication_confirmed,
    /// Imports begun towards copies.
    counter imports_begun,
    /// Imports that copies completed.
    counter imports_completed,
    /// Imports towards copies that are under way or wait for their turn.
    gauge imports_in_flight,
    /// Bytes of keys and values sent to copies by imports.
    counter import_bytes,
    /// Bytes a second that imports sent in the last seconds.
    gauge import_bytes_per_second,
    /// Slots whose copy here became the primary.
    counter slots_promoted,
    /// Slots that this node began empty, because nothing of them was left anywhere.
    counter slots_started_empty,
    /// Slots that the map said this node held and that it did not.
    counter slots_lost_here,
    /// Messages that copies refused: a gap, a lower number, or other writes than the primary has.
    counter replication_refused,
    /// Messages that copies refused because a number was missing.
    counter replication_gaps,
    /// Writes applied here as a copy.
    counter replication_writes_applied,
    /// Writes received as a copy that had been applied before.
    counter replication_writes_skipped,
    /// Uses of keys that copies were told of.
    counter touches_sent,
    /// Uses of keys that primaries told this node of, of entries that it has.
    counter touches_applied,
    /// Bytes of writes kept until copies confirm them.
    gauge replication_unacked_bytes,
    /// Connections to peers that were established.
    counter peer_connects,
    /// Connections to peers that were lost.
    counter peer_connections_lost,
    /// Attempts to connect to a peer that failed.
    counter peer_connect_failures,
    /// Connections from peers that were refused in the handshake.
    counter peer_handshakes_refused,
    /// Answers that came after their request had been answered.
    counter late_answers,
    /// Requests answered at their deadline.
    counter deadline_exceeded,
    /// Requests refused because a queue or window was full.
    counter overloaded,
    /// Writes refused because fewer than `min_copies` copies are in sync.
    counter not_enough_replicas,
    /// Requests answered at their deadline while this node held no lease.
    counter no_quorum,
    /// Writes whose outcome this node could not tell.
    counter outcome_unknown,
    /// Requests that waited for an owner that was not reachable.
    counter parked,
    /// Reads tried again after their link broke.
    counter reads_retried,
    /// Shards that panicked.
    counter shard_panics,
    /// Shards that answered nothing for `failure_timeout`.
    counter shard_stalls,
    /// Shards that were stopped.
    counter shard_stops,
    /// Shards whose thread ended.
    counter shard_threads_lost,
    /// Elections that this node won.
    counter elections_won,
    /// Members that were taken out of the map.
    counter members_removed,
    /// Times that this node's lease ran out.
    counter leases_lost,
    /// Slots that lost their last copy.
    counter slots_lost,
    /// Times that this node dropped what it held and joined again.
    counter rejoins,
    /// Times that this node joined again because a majority of the voters had ended.
    counter majority_lost,
    /// Times that it joined again because another cluster of its name had the majority.
    counter clusters_yielded,
    /// Times that it joined again and dropped what a minority had accepted.
    counter split_lost,
    /// Times that this node went on alone with what it held.
    counter went_on_alone,
    /// Restarts of peers that were noticed.
    counter peer_restarts,
}

/// A number that any thread may add to.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Makes it `n`, for gauges of one writer.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// Takes `n` away, for gauges.
    pub fn sub(&self, n: u64) {
        self.0.fetch_sub(n, Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
