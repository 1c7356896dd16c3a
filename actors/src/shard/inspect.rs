//! Looking into a shard, and making it fail on purpose: for tests and for whoever debugs a node.

use std::time::Duration;

use actix::{Context, Handler};

use super::messages::{Digests, EntryLook, HeldAs, Inspect, Panic, SlotDigest, Stall};
use super::{CacheShard, Shard};
use crate::holding::Holding;
use crate::slot::{SLOTS, Slot};

impl Shard {
    fn held_as(&self, slot: Slot) -> HeldAs {
        let state = self.slots.get(slot);
        match state.holding() {
            Holding::None => HeldAs::Nothing,
            Holding::Primary { since, .. } => HeldAs::Primary { since, n: state.n },
            Holding::Copy(copy) => {
                HeldAs::Copy { since: copy.since, n: copy.n, complete: copy.complete }
            }
        }
    }
}

impl Handler<Digests> for Shard {
    type Result = ();
    fn handle(&mut self, message: Digests, _ctx: &mut Context<Self>) {
        let now = self.shared.clock.now();
        let is_mine = |&slot: &Slot| slot < SLOTS && self.shared.shard_of(slot) == self.index;
        let mine = message.slots.into_iter().filter(is_mine);
        let digests = mine
            .map(|slot| {
                let (mut digest, mut entries) = (0, 0);
                for (index, CacheShard { lru, .. }) in self.caches.iter().enumerate() {
                    digest ^= lru.digest(slot, now).rotate_left(index as u32);
                    entries += lru.slot_len(slot) as u64;
                }
                SlotDigest { slot, digest, entries, held: self.held_as(slot) }
            })
            .collect();
        // Whoever asked may have gone.
        let _ = message.reply.send(digests);
    }
}

impl Handler<Inspect> for Shard {
    type Result = ();
    fn handle(&mut self, message: Inspect, _ctx: &mut Context<Self>) {
        let now = self.shared.clock.now();
        let cache = self.caches.get(usize::from(message.cache.0));
        let view = cache.and_then(|cache| cache.lru.peek(message.slot, &message.key, now));
        let entry = view.map(|view| EntryLook {
            version: view.version(),
            ttl_ms: view.deadline().map(|at| at.saturating_sub(now)),
            value_hash: xxhash_rust::xxh3::xxh3_64(view.value_slice()),
        });
        // Whoever asked may have gone.
        let _ = message.reply.send((self.held_as(message.slot), entry));
    }
}

impl Handler<Panic> for Shard {
    type Result = ();
    fn handle(&mut self, _panic: Panic, _ctx: &mut Context<Self>) {
        panic!("shard {} was asked to panic", self.index);
    }
}

impl Handler<Stall> for Shard {
    type Result = ();
    fn handle(&mut self, stall: Stall, _ctx: &mut Context<Self>) {
        tracing::warn!(node = %self.shared.id, shard = self.index, ms = stall.ms,
            "shard was asked to stall");
        std::thread::sleep(Duration::from_millis(stall.ms));
    }
}
