//! The Shard: the actor that owns one LRU per named cache for its slots, primaries and replicas
//! alike. Its mailbox serialises access, so there is no lock.
//!
//! State: the LRUs, what the shard holds of each slot, the map that it has adopted, the clock of
//! versions. Changed only by its own messages. At the start of a message it looks at clock, lease,
//! its own gate and only then at the map, and adopts a map that is new to it ([`rows`]). It
//! decides a request only as the slot's primary and before anything is applied ([`decide`]); a
//! write that has copies goes to the Router of the shard's own thread, which answers when they
//! confirmed. Copies follow what their primaries send ([`replica`]).
//!
//! An instance of a shard begins with nothing. Its gate is its own: once it is closed, because
//! the instance ended or stalled, it decides nothing and acknowledges nothing any more.

mod batch;
#[cfg(test)]
pub(crate) mod bench;
mod chores;
mod counters;
mod debt;
mod decide;
pub mod direct;
mod giving;
mod import;
mod inspect;
pub mod messages;
#[cfg(test)]
mod pair_tests;
#[cfg(all(test, feature = "agreement"))]
mod poison_tests;
mod replica;
mod rows;
#[cfg(test)]
mod slices_tests;
mod slots;
#[cfg(test)]
mod tests;
mod writing;

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Release};
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context, Handler};

pub use counters::ShardCounters;
pub use writing::Writing;

use crate::apply::{CLEARED, SCAN_BUCKETS};
use crate::clock::HybridClock;
use crate::lru::{Cause, Copies, Lru, LruConfig, Removal, SharedSeed};
use crate::op::{Answer, Ms, Op, Request};
use crate::recency::Recency;
use crate::router::Router;
use crate::router::gates::CopyGates;
use crate::router::messages::{Call, CallReply, Fanout, FanoutOrigin};
use crate::shared::Shared;
use crate::slot::Slot;
use crate::stats::{CacheStats, Role};
use crate::supervisor::{ShardAlive, ShardEnded, Supervisor, restarts};
use decide::Decided;
use messages::{Ping, Single};
use rows::Adopted;
use slots::Slots;

/// How often a shard looks after what nobody asked for: expired entries, entries of dropped
/// slots, slots it has lost.
const CHORES_INTERVAL: Duration = Duration::from_millis(50);

/// Entries of background work between two turns of the others on the thread: some 200 us.
const TURN: usize = 1_024;

/// What an entry of a slot that is scanned counts for, besides the bytes of the reply, towards the
/// bytes after which a message leaves out other reads: a listing that allows 1 MiB has a shard look at
/// [`SCAN_BUCKETS`] entries and at no more than one slot beyond.
const LOOK_BYTES: u64 = 256;

/// The actor of one shard.
#[derive(Debug)]
pub struct Shard {
    shared: Arc<Shared>,
    index: usize,
    instance: u64,
    serving: Arc<AtomicBool>,
    router: Addr<Router>,
    gates: Rc<CopyGates>,
    supervisor: Addr<Supervisor>,
    caches: Vec<CacheShard>,
    copies: Copies,
    slots: Slots,
    versions: HybridClock,
    recency: Recency,
    adopted: Adopted,
    /// Slots of which the map says that they are held here, and that are not.
    lost: BTreeSet<Slot>,
    /// Slots to be wiped or counted anew, when there is time.
    chores: VecDeque<Slot>,
    /// Slots that were parked, those included that are not any more until there is need to know.
    parked: Vec<Slot>,
    /// Is there more of that, for which others were given a turn?
    is_reclaiming: bool,
    /// When its gate was seen closed.
    closed_at: Option<Ms>,
}

/// One named cache in this shard.
#[derive(Debug)]
struct CacheShard {
    lru: Lru,
    stats: CacheStats,
}

/// What an instance of a shard is told when it is made.
#[derive(Debug)]
pub struct ShardConfig {
    /// The node's shared state.
    pub shared: Arc<Shared>,
    /// Which shard of the node.
    pub index: usize,
    /// Which instance of it; another number for each.
    pub instance: u64,
    /// The gate of this instance, as [`crate::shared::ShardHandle`] carries it.
    pub serving: Arc<AtomicBool>,
    /// The Router of its thread.
    pub router: Addr<Router>,
    /// The gates of its thread.
    pub gates: Rc<CopyGates>,
    /// The node's Supervisor.
    pub supervisor: Addr<Supervisor>,
    /// Keys the hash tables.
    pub seed: u64,
}

impl Shard {
    /// An instance that holds nothing yet.
    pub fn new(config: ShardConfig) -> Self {
        let ShardConfig { shared, index, instance, serving, router, gates, supervisor, seed } =
            config;
        let shards = shared.shards;
        let caches = shared
            .caches
            .iter()
            .map(|spec| CacheShard {
                lru: Lru::new(LruConfig {
                    capacity: spec.capacity.div_ceil(shards as u64),
                    max_bytes: spec.max_bytes / shards as u64,
                    shards,
                    seed,
                    shared_seed: SharedSeed::global_random(),
                }),
                stats: CacheStats::default(),
            })
            .collect();
        Shard {
            adopted: Adopted::nothing(shared.incarnation()),
            slots: Slots::new(index, shards),
            versions: HybridClock::default(),
            recency: Recency::default(),
            lost: BTreeSet::new(),
            chores: VecDeque::new(),
            parked: Vec::new(),
            is_reclaiming: false,
            closed_at: None,
            shared,
            index,
            instance,
            serving,
            router,
            gates,
            supervisor,
            caches,
            copies: Copies::default(),
        }
    }

    /// What a scan counts for whatever it finds; see [`LOOK_BYTES`].
    fn look_bytes(&self, request: &Request) -> u64 {
        let Op::Scan { .. } = request.op else { return 0 };
        let cache = self.caches.get(usize::from(request.cache.0));
        let entries = cache.map_or(0, |cache| cache.lru.slot_len(request.slot));
        entries.min(SCAN_BUCKETS) as u64 * LOOK_BYTES
    }

    /// Publishes the counters: before an answer leaves, so that whoever got it finds it counted.
    fn publish(&self) {
        let counters = &self.shared.shard_counters[self.index];
        for (index, cache) in self.caches.iter().enumerate() {
            counters.publish(index, &cache.stats);
        }
    }
}

/// Roles by the marks of what is wiped: entries go on being counted as what they were.
const ROLES: [Role; 2] = [Role::Primary, Role::Replica];

fn mark_of(role: Role) -> u8 {
    match role {
        Role::Primary => 0,
        Role::Replica => 1,
    }
}

/// Entries and bytes of a slot, as counters take them. A clear takes them out at once, though they are
/// charged until their turn to go has come.
fn held(lru: &Lru, slot: Slot) -> (i64, i64) {
    (lru.slot_len(slot) as i64, lru.slot_bytes(slot) as i64)
}

fn count_removal(stats: &mut CacheStats, slots: &Slots, removal: Removal) {
    let role = match removal.cause {
        Cause::Wiped(CLEARED) => return,
        Cause::Wiped(mark) => ROLES[usize::from(mark)],
        Cause::Evicted | Cause::Expired => slots.role(removal.slot),
    };
    stats.entries.shift(role, -1);
    stats.bytes.shift(role, -(removal.bytes as i64));
    match removal.cause {
        Cause::Evicted => stats.evictions.add(role, 1),
        Cause::Expired => stats.expirations.add(role, 1),
        Cause::Wiped(_) => stats.lost.add(role, 1),
    }
}

fn reply_bytes(answer: &Answer) -> u64 {
    answer.as_ref().map_or(0, |reply| reply.payload_bytes() as u64)
}

impl Actor for Shard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(CHORES_INTERVAL, |shard, ctx| shard.look_after(ctx));
    }

    /// Also called while a panic unwinds: nothing here may panic.
    fn stopped(&mut self, _ctx: &mut Context<Self>) {
        let was_open = self.serving.swap(false, Release);
        let cause = match (std::thread::panicking(), was_open) {
            (true, _) => restarts::Cause::Panic,
            // It looks after its gate and ends itself.
            (false, false) => restarts::Cause::Stop,
            (false, true) => restarts::Cause::LostThread,
        };
        let (shard, instance) = (self.index, self.instance);
        self.supervisor.do_send(ShardEnded { shard, instance, cause });
    }
}

impl Handler<Ping> for Shard {
    type Result = ();
    fn handle(&mut self, _ping: Ping, _ctx: &mut Context<Self>) {
        self.supervisor.do_send(ShardAlive { shard: self.index, instance: self.instance });
    }
}

impl Handler<Single> for Shard {
    type Result = ();
    fn handle(&mut self, mut single: Single, ctx: &mut Context<Self>) {
        let turn = self.enter();
        let decided = self.decide(&turn, &single.request);
        drop(turn);
        self.publish();
        self.settle(ctx);
        // Whoever has the answer may send as much again.
        let bytes = single.pass.bytes.take().filter(|_| matches!(decided, Decided::Wait));
        match decided {
            // A caller that hung up wants no answer.
            Decided::Answer(answer) => drop(single.reply.send(answer)),
            Decided::Applied(answer, since) => {
                let holds = self.still_holds(&self.look(), single.request.slot, since);
                let answer = if holds { answer } else { Err(self.shared.unknown()) };
                drop(single.reply.send(answer));
            }
            Decided::AfterCopies(answer, mut write) => {
                write.holds = self.still_holds(&self.look(), write.slot, write.since);
                let origin = FanoutOrigin::Single(single.reply, answer, single.deadline);
                self.router.do_send(Fanout { origin, writes: vec![write] });
            }
            Decided::Wait => self.router.do_send(Call {
                requests: vec![single.request],
                deadline: single.deadline,
                max_reply_bytes: u64::MAX,
                reply: CallReply::One(single.reply),
                bytes,
            }),
        }
    }
}
