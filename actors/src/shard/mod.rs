//! The Shard: the actor that owns one LRU per named cache for its slots, primaries and replicas
//! alike. Its mailbox serialises access, so there is no lock.
//!
//! State: the LRUs, what the shard is for each slot, the clock of versions. Changed only by its
//! own messages. It checks that it is the slot's primary *before* applying anything; a write that
//! has copies goes to the Router of the shard's own thread, which answers when they confirmed.

mod counters;
pub mod direct;
pub mod messages;
mod replica;
mod slots;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context, Handler};

pub use counters::ShardCounters;

use crate::apply::Target;
use crate::clock::HybridClock;
use crate::lru::{Cause, Lru, LruConfig, Removal};
use crate::map::{ClusterMap, NodeIx};
use crate::op::{Acks, Answer, Failure, FailureKind, Ms, Op, Reply, Request};
use crate::replication::Effect;
use crate::router::Router;
use crate::router::gates::CopyGates;
use crate::router::messages::{Call, CallReply, Fanout, FanoutOrigin, FanoutWrite};
use crate::shared::Shared;
use crate::stats::CacheStats;
use messages::{Batch, PartAnswer, Single};
use slots::{SlotState, Slots};

/// How often a shard looks for expired entries.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(50);

/// Entries reclaimed by one slice of background work: about 50 us.
const SLICE: usize = 256;

/// The actor of one shard.
#[derive(Debug)]
pub struct Shard {
    shared: Arc<Shared>,
    index: usize,
    router: Addr<Router>,
    gates: Rc<CopyGates>,
    caches: Vec<CacheShard>,
    slots: Slots,
    versions: HybridClock,
}

/// One named cache in this shard.
#[derive(Debug)]
struct CacheShard {
    lru: Lru,
    stats: CacheStats,
}

/// What became of one request inside the shard.
enum Decided {
    /// It has its answer.
    Answer(Answer),
    /// It has its answer once these copies confirmed.
    AfterCopies(Answer, FanoutWrite),
    /// This node does not decide the slot.
    NotOwner,
}

impl Shard {
    /// Shard `index` of a node, on the thread of this Router and its gates. `seed` keys the hash
    /// tables.
    pub fn new(
        shared: Arc<Shared>,
        index: usize,
        router: Addr<Router>,
        gates: Rc<CopyGates>,
        seed: u64,
    ) -> Self {
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
                }),
                stats: CacheStats::default(),
            })
            .collect();
        let slots = Slots::new(index, shards);
        let versions = HybridClock::default();
        Shard { shared, index, router, gates, caches, slots, versions }
    }

    /// Decides one request under this map.
    fn decide(&mut self, map: &ClusterMap, request: &Request, now: Ms, wall: Ms) -> Decided {
        let row = map.row(request.slot);
        if row.primary != self.shared.me {
            return self.decide_as_copy(map, request, now);
        }
        let since = row.since;
        let mut n = match self.slots.get(request.slot) {
            SlotState::Primary { since: held, n } if held == since => n,
            // While membership is fixed a node starts its own slots empty, once per start.
            SlotState::None => 0,
            SlotState::Primary { .. } | SlotState::Copy(_) => return Decided::NotOwner,
        };
        let is_write = request.op.is_write();
        let acks = request.acks.unwrap_or_else(|| self.shared.acks_of(request.cache));
        let copies: Vec<NodeIx> = if is_write {
            row.replicas().take(self.shared.replicas_of(request.cache)).collect()
        } else {
            Vec::new()
        };
        if !copies.is_empty()
            && let Some(failure) = self.refuse_before_applying(&copies, acks)
        {
            return Decided::Answer(Err(failure));
        }
        *self.slots.get_mut(request.slot) = SlotState::Primary { since, n };
        let outcome = self.apply(request, since, now, wall);
        let (reply, effect) = match outcome {
            Ok(outcome) => outcome,
            Err(failure) => return Decided::Answer(Err(failure)),
        };
        match effect {
            Some(effect) if !copies.is_empty() => {
                n += 1;
                *self.slots.get_mut(request.slot) = SlotState::Primary { since, n };
                let slot = request.slot;
                let write = FanoutWrite { slot, since, n, copies, effect, acks };
                Decided::AfterCopies(Ok(reply), write)
            }
            _ => Decided::Answer(Ok(reply)),
        }
    }

    /// A replica may answer a get that asked for any copy.
    fn decide_as_copy(&mut self, map: &ClusterMap, request: &Request, now: Ms) -> Decided {
        let row = map.row(request.slot);
        match (&request.op, self.slots.get(request.slot)) {
            (Op::Get { any: true }, SlotState::Copy(copy))
                if copy.complete && copy.since == row.since =>
            {
                let wall = self.shared.clock.wall_ms();
                Decided::Answer(self.apply(request, copy.since, now, wall).map(|(reply, _)| reply))
            }
            _ => Decided::NotOwner,
        }
    }

    fn refuse_before_applying(&self, copies: &[NodeIx], acks: Acks) -> Option<Failure> {
        if self.gates.is_full() {
            self.shared.counters.overloaded.add(1);
            return Some(FailureKind::Overloaded.not_applied());
        }
        if acks == Acks::All && !copies.iter().all(|&copy| self.gates.is_reachable(copy)) {
            self.shared.counters.not_enough_replicas.add(1);
            return Some(FailureKind::NotEnoughReplicas.not_applied());
        }
        None
    }

    /// Applies a request to its cache and counts what it did.
    fn apply(
        &mut self,
        request: &Request,
        since: u64,
        now: Ms,
        wall: Ms,
    ) -> Result<(Reply, Option<Effect>), Failure> {
        let cache_index = usize::from(request.cache.0);
        let Some(cache) = self.caches.get_mut(cache_index) else {
            return Err(FailureKind::CacheNotFound.not_applied());
        };
        let slots = &self.slots;
        let CacheShard { lru, stats } = cache;
        while lru.has_debt() {
            lru.pay_debt(SLICE, now, &mut |removal| count_removal(stats, slots, removal));
        }
        let before = (lru.len(), lru.bytes());
        let mut gone = (0, 0);
        let spec = &self.shared.caches[cache_index];
        let mut target = Target { lru, spec, versions: &mut self.versions, now, wall, since };
        let outcome = target.apply(request, &mut |removal| {
            gone.0 += 1;
            gone.1 += removal.bytes;
            count_removal(stats, slots, removal);
        });
        // Entries that went for the sake of this request were counted under their own slot's role.
        let role = slots.role(request.slot);
        let entries = lru.len() as i64 + gone.0 - before.0 as i64;
        let bytes = lru.bytes() as i64 + gone.1 as i64 - before.1 as i64;
        stats.entries.shift(role, entries);
        stats.bytes.shift(role, bytes);
        if let Ok((reply, _)) = &outcome {
            count_reply(stats, &request.op, reply, role);
        }
        outcome
    }

    fn publish(&self) {
        let counters = &self.shared.shard_counters[self.index];
        for (index, cache) in self.caches.iter().enumerate() {
            counters.publish(index, &cache.stats);
        }
    }

    /// Reclaims expired entries, a bounded slice at a time, so that other messages get their turn.
    fn reclaim(&mut self, ctx: &mut Context<Self>) {
        let now = self.shared.clock.now();
        let slots = &self.slots;
        let mut more = false;
        for CacheShard { lru, stats } in &mut self.caches {
            let done = lru.expire(now, SLICE, &mut |removal| count_removal(stats, slots, removal));
            more |= !done;
            lru.pay_debt(SLICE, now, &mut |removal| count_removal(stats, slots, removal));
            more |= lru.has_debt();
        }
        self.publish();
        if more {
            ctx.notify(ReclaimMore);
        }
    }
}

/// The rest of a reclaiming that did not fit one slice.
#[derive(actix::Message)]
#[rtype(result = "()")]
struct ReclaimMore;

fn count_removal(stats: &mut CacheStats, slots: &Slots, removal: Removal) {
    let role = slots.role(removal.slot);
    stats.entries.shift(role, -1);
    stats.bytes.shift(role, -(removal.bytes as i64));
    match removal.cause {
        Cause::Evicted => stats.evictions.add(role, 1),
        Cause::Expired => stats.expirations.add(role, 1),
    }
}

fn count_reply(stats: &mut CacheStats, op: &Op, reply: &Reply, role: crate::stats::Role) {
    match (op, reply) {
        (Op::Get { .. } | Op::GetTouch { .. }, Reply::Entry(Some(_))) => stats.hits += 1,
        (Op::Get { .. } | Op::GetTouch { .. }, Reply::Entry(None)) => stats.misses += 1,
        (_, Reply::Written(_)) => stats.puts += 1,
        (_, Reply::Deleted { existed: true, .. }) => stats.deletes += 1,
        (_, Reply::TtlSet { .. } | Reply::Number { .. } | Reply::Length { .. }) => {
            stats.updates += 1;
        }
        (_, Reply::PreconditionFailed { .. }) => stats.precondition_failures += 1,
        (_, Reply::Cleared { entries }) => stats.cleared.add(role, *entries),
        _ => {}
    }
}

impl Actor for Shard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(EXPIRY_INTERVAL, |shard, ctx| shard.reclaim(ctx));
    }
}

impl Handler<ReclaimMore> for Shard {
    type Result = ();
    fn handle(&mut self, _message: ReclaimMore, ctx: &mut Context<Self>) {
        self.reclaim(ctx);
    }
}

impl Handler<Single> for Shard {
    type Result = ();
    fn handle(&mut self, single: Single, _ctx: &mut Context<Self>) {
        let (now, wall) = (self.shared.clock.now(), self.shared.clock.wall_ms());
        let map = self.shared.map.load();
        match self.decide(&map, &single.request, now, wall) {
            // A caller that hung up wants no answer.
            Decided::Answer(answer) => drop(single.reply.send(answer)),
            Decided::AfterCopies(answer, write) => {
                let origin = FanoutOrigin::Single(single.reply, answer);
                self.router.do_send(Fanout { origin, writes: vec![write] });
            }
            Decided::NotOwner => self.router.do_send(Call {
                requests: vec![single.request],
                deadline: single.deadline,
                max_reply_bytes: u64::MAX,
                reply: CallReply::One(single.reply),
            }),
        }
        self.publish();
    }
}

impl Handler<Batch> for Shard {
    type Result = ();
    fn handle(&mut self, batch: Batch, _ctx: &mut Context<Self>) {
        let (now, wall) = (self.shared.clock.now(), self.shared.clock.wall_ms());
        let map = self.shared.map.load_full();
        let mut answers = Vec::with_capacity(batch.items.len());
        let mut writes = Vec::new();
        let mut reply_bytes = 0;
        for item in batch.items {
            if reply_bytes > batch.max_reply_bytes && !item.request.op.is_write() {
                let failure = FailureKind::ReplyTooLarge.not_applied();
                answers.push((item.index, PartAnswer::Done(Err(failure))));
                continue;
            }
            let answer = match self.decide(&map, &item.request, now, wall) {
                Decided::Answer(answer) => PartAnswer::Done(answer),
                Decided::AfterCopies(answer, write) => {
                    writes.push(write);
                    PartAnswer::Done(answer)
                }
                Decided::NotOwner => {
                    let request = Some(item.request);
                    PartAnswer::NotOwner { epoch: map.epoch, request }
                }
            };
            reply_bytes += match &answer {
                PartAnswer::Done(Ok(Reply::Entry(Some(entry)))) => entry.value.len() as u64,
                PartAnswer::Done(Ok(Reply::Keys { keys, .. })) => {
                    keys.iter().map(|key| key.len() as u64).sum()
                }
                _ => 0,
            };
            answers.push((item.index, answer));
        }
        if writes.is_empty() {
            batch.reply.answer(answers);
        } else {
            let origin = FanoutOrigin::Part(batch.reply, answers);
            self.router.do_send(Fanout { origin, writes });
        }
        self.publish();
    }
}
