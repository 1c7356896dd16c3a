//! Slots on their way to another primary, and what lives on the old one alone: the entries of caches
//! with a single copy. They follow while the slot is parked, so they need no numbers.

use actix::{Context, Handler};

use super::messages::{ChunkEntry, ChunkPosition, Give};
use super::{CacheShard, Shard};
use crate::holding::{Holding, may_give};
use crate::op::CacheId;
use crate::router::messages::{GivenSlot, Giving};
use crate::slot::Slot;

/// Bytes of keys and values that live here alone and are given away in one go, besides those of one
/// slot at least; requests for their slots wait meanwhile.
const OWN_BYTES: usize = 4 << 20;

impl Shard {
    /// The entries of a slot that live here alone.
    fn own_entries(&self, slot: Slot, now: crate::op::Ms) -> Vec<ChunkEntry> {
        let mut all = Vec::new();
        let mut from = Some(ChunkPosition::default());
        while let Some(at) = from {
            let (entries, next) = self.chunk_at(slot, at, now, false);
            all.extend(entries);
            from = next;
        }
        all
    }

    /// Drops the entries of a slot that live on primaries alone: this node is none, or they were not
    /// given to it.
    pub(super) fn wipe_own(&mut self, slot: Slot) {
        let role = self.slots.role(slot);
        for (index, CacheShard { lru, stats }) in self.caches.iter_mut().enumerate() {
            if !self.shared.is_replicated(CacheId(index as u16)) && lru.slot_len(slot) > 0 {
                let (entries, bytes) = lru.clear_part(slot, usize::MAX);
                stats.entries.shift(role, -(entries as i64));
                stats.bytes.shift(role, -(bytes as i64));
            }
        }
    }
}

impl Handler<Give> for Shard {
    type Result = ();
    fn handle(&mut self, give: Give, _ctx: &mut Context<Self>) {
        let turn = self.enter();
        if !turn.is_open {
            return;
        }
        let mut slots = Vec::with_capacity(give.slots.len());
        let mut bytes = 0;
        for (slot, stamp, to) in give.slots {
            let (row, held) = (turn.map.row(slot), self.slots.get(slot).holding);
            if !may_give(&held, row, self.shared.me, stamp, to) {
                continue;
            }
            let own = self.own_entries(slot, turn.now);
            bytes += own.iter().map(|entry| entry.key.len() + entry.value.len()).sum::<usize>();
            let since = row.since;
            self.slots.get_mut(slot).holding = Holding::Primary { since, parked: stamp };
            slots.push(GivenSlot { slot, since, to, own });
            if bytes > OWN_BYTES {
                break;
            }
        }
        if !slots.is_empty() {
            self.router.do_send(Giving { slots });
        }
    }
}
