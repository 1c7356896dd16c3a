//! What a shard does that nobody asked for, some at a time, so that messages and whoever shares the
//! thread get their turn: expired entries, entries of slots that were wiped or are held no more, and the counters of
//! slots whose role changed.

use actix::fut::{ActorFutureExt, WrapFuture};
use actix::{ActorContext, AsyncContext, Context};

use super::slots::role_of;
use super::{CacheShard, Shard, TURN, count_removal, held, mark_of};
use crate::holding::Holding;
use crate::op::{CacheId, Ms};
use crate::router::messages::Recent;
use crate::shared::Shared;
use crate::slot::Slot;

/// How long an instance goes on after its gate was closed.
const LINGER_MS: Ms = 1_000;

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
        if !self.is_reclaiming {
            self.reclaim(ctx);
        }
    }

    /// Some of it, and the rest after others had their turn.
    fn reclaim(&mut self, ctx: &mut Context<Self>) {
        let now = self.shared.clock.now();
        let mut more = !self.tidy_slots(TURN);
        let slots = &self.slots;
        for CacheShard { lru, stats } in &mut self.caches {
            let done = lru.expire(now, TURN, &mut |removal| count_removal(stats, slots, removal));
            more |= !done;
            more |= !lru.drop_wiped(TURN, &mut |removal| count_removal(stats, slots, removal));
        }
        self.publish();
        self.is_reclaiming = more;
        if more {
            let turn = tokio::task::yield_now().into_actor(self);
            ctx.spawn(turn.map(|(), shard, ctx| shard.reclaim(ctx)));
        }
    }

    /// Wipes slots that are held no more and counts others under their new role, at most `budget` of
    /// them. Returns whether nothing is left to do.
    fn tidy_slots(&mut self, budget: usize) -> bool {
        for _ in 0..budget {
            let Some(slot) = self.chores.pop_front() else { return true };
            match self.slots.get(slot).holding() {
                Holding::None => self.wipe(slot),
                Holding::Primary { .. } | Holding::Copy(_) => self.count_anew(slot),
            }
        }
        self.chores.is_empty()
    }

    /// Empties a slot in every cache: from now on nothing of it can be read, counted or sent. What it
    /// takes to give its entries' memory back is done later, in slices.
    pub(super) fn wipe(&mut self, slot: Slot) {
        self.wipe_caches(slot, |_, _| true);
        let state = self.slots.get_mut(slot);
        state.counted = role_of(&state.holding());
    }

    /// Empties a slot in some caches, in the same way.
    pub(super) fn wipe_caches(&mut self, slot: Slot, which: impl Fn(&Shared, CacheId) -> bool) {
        let mark = mark_of(self.slots.role(slot));
        for (index, cache) in self.caches.iter_mut().enumerate() {
            if which(&self.shared, CacheId(index as u16)) {
                cache.lru.wipe(slot, mark);
            }
        }
    }

    /// Counts a slot's entries under the role that the shard has for it now.
    fn count_anew(&mut self, slot: Slot) {
        let state = self.slots.get_mut(slot);
        let (before, now) = (state.counted, role_of(&state.holding()));
        if before == now {
            return;
        }
        state.counted = now;
        for CacheShard { lru, stats } in &mut self.caches {
            let (entries, bytes) = held(lru, slot);
            stats.entries.shift(before, -entries);
            stats.bytes.shift(before, -bytes);
            stats.entries.shift(now, entries);
            stats.bytes.shift(now, bytes);
        }
    }
}
