//! Slots on their way to another primary.

use actix::{Context, Handler};

use super::Shard;
use super::messages::Give;
use crate::holding::{Holding, may_give};
use crate::op::CacheId;
use crate::router::messages::Giving;
use crate::slot::Slot;

impl Shard {
    /// Has this node entries of a slot that no copy has?
    fn has_entries_of_its_own(&self, slot: Slot) -> bool {
        let mut caches = self.caches.iter().enumerate();
        caches.any(|(index, cache)| {
            !self.shared.is_replicated(CacheId(index as u16)) && cache.lru.slot_len(slot) > 0
        })
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
        for (slot, stamp, to) in give.slots {
            let (row, held) = (turn.map.row(slot), self.slots.get(slot).holding);
            let may = may_give(&held, row, self.shared.me, stamp, to);
            if may && !self.has_entries_of_its_own(slot) {
                let since = row.since;
                self.slots.get_mut(slot).holding = Holding::Primary { since, parked: stamp };
                slots.push((slot, since, to));
            }
        }
        if !slots.is_empty() {
            self.router.do_send(Giving { slots });
        }
    }
}
