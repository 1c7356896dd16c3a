//! What a shard does that nobody asked for, a bounded slice at a time, so that messages get their
//! turn: expired entries, entries of slots that are held no more, and the counters of slots whose
//! role changed.

use actix::{ActorContext, AsyncContext, Context, Handler, Message};

use super::slots::role_of;
use super::{CacheShard, SLICE, Shard, count_removal};
use crate::holding::Holding;
use crate::op::Ms;
use crate::router::messages::Recent;
use crate::slot::Slot;

/// How long an instance goes on after its gate was closed.
const LINGER_MS: Ms = 1_000;

/// The rest of the work that did not fit one slice.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct LookAfterMore;

impl Shard {
    /// The periodic part: also asks again for what is lost.
    ///
    /// An instance whose gate was closed has been replaced, or will be: it hands back what still
    /// comes for a while and ends, with all it held.
    pub(super) fn look_after(&mut self, ctx: &mut Context<Self>) {
        let turn = self.enter();
        if !turn.is_open {
            if turn.now > *self.closed_at.get_or_insert(turn.now) + LINGER_MS {
                ctx.stop();
            }
            return;
        }
        self.ask_for_lost(&turn);
        drop(turn);
        let used = self.recency.take();
        if !used.is_empty() {
            self.router.do_send(Recent { used });
        }
        let now = self.shared.clock.now();
        self.caches.iter_mut().for_each(|cache| cache.lru.tick(now));
        self.reclaim(ctx);
    }

    fn reclaim(&mut self, ctx: &mut Context<Self>) {
        let now = self.shared.clock.now();
        let slots = &self.slots;
        let mut more = false;
        for CacheShard { lru, stats } in &mut self.caches {
            let done = lru.expire(now, SLICE, &mut |removal| count_removal(stats, slots, removal));
            more |= !done;
        }
        more |= !self.tidy_slots(SLICE);
        self.publish();
        if more {
            ctx.notify(LookAfterMore);
        }
    }

    /// Wipes slots that are held no more and counts others under their new role: about `budget`
    /// entries, and one slot at least. Returns whether nothing is left to do.
    fn tidy_slots(&mut self, budget: usize) -> bool {
        let mut seen = 0;
        while seen < budget {
            let Some(&slot) = self.chores.front() else { return true };
            let holding = self.slots.get(slot).holding;
            let len: usize = self.caches.iter().map(|cache| cache.lru.slot_len(slot)).sum();
            if holding == Holding::None && len > budget {
                self.wipe_part(slot, budget);
                return false;
            }
            seen += len.max(1);
            self.chores.pop_front();
            match holding {
                Holding::None => self.wipe(slot),
                Holding::Primary { .. } | Holding::Copy(_) => self.count_anew(slot),
            }
        }
        self.chores.is_empty()
    }

    /// Empties a slot in every cache.
    pub(super) fn wipe(&mut self, slot: Slot) {
        self.wipe_part(slot, usize::MAX);
        let state = self.slots.get_mut(slot);
        state.counted = role_of(&state.holding);
    }

    /// Drops at most `budget` entries of a slot from every cache.
    fn wipe_part(&mut self, slot: Slot, budget: usize) {
        let role = self.slots.role(slot);
        for CacheShard { lru, stats } in &mut self.caches {
            let (entries, bytes) = lru.clear_part(slot, budget);
            stats.entries.shift(role, -(entries as i64));
            stats.bytes.shift(role, -(bytes as i64));
            stats.lost.add(role, entries as u64);
        }
    }

    /// Counts a slot's entries under the role that the shard has for it now.
    fn count_anew(&mut self, slot: Slot) {
        let state = self.slots.get_mut(slot);
        let (before, now) = (state.counted, role_of(&state.holding));
        if before == now {
            return;
        }
        state.counted = now;
        for CacheShard { lru, stats } in &mut self.caches {
            let (entries, bytes) = (lru.slot_len(slot) as i64, lru.slot_bytes(slot) as i64);
            stats.entries.shift(before, -entries);
            stats.bytes.shift(before, -bytes);
            stats.entries.shift(now, entries);
            stats.bytes.shift(now, bytes);
        }
    }
}

impl Handler<LookAfterMore> for Shard {
    type Result = ();
    fn handle(&mut self, _message: LookAfterMore, ctx: &mut Context<Self>) {
        self.reclaim(ctx);
    }
}
