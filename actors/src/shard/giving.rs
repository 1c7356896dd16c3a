//! Slots on their way to another primary, and what lives on the old one alone: the entries of caches
//! with a single copy. They follow while the slot is parked, so they need no numbers.

use actix::{Context, Handler};

use super::Shard;
use super::messages::{ChunkPosition, FetchOwn, Give};
use crate::holding::{Holding, may_give};
use crate::router::messages::{GivenSlot, Giving, OwnChunk};
use crate::slot::Slot;

/// Slots of one shard that may be parked at a time.
const PARKED_MAX: usize = 128;

impl Shard {
    /// Drops the entries of a slot that live on primaries alone: this node is none, or they were not
    /// given to it.
    pub(super) fn wipe_own(&mut self, slot: Slot) {
        self.wipe_caches(slot, |shared, cache| !shared.is_replicated(cache));
    }

    /// Slots of this shard that are parked now.
    fn parked(&mut self) -> usize {
        let slots = &self.slots;
        let is_parked = |slot: &Slot| matches!(slots.get(*slot).holding(), Holding::Primary { parked, .. } if parked != 0);
        self.parked.retain(is_parked);
        self.parked.len()
    }
}

impl Handler<Give> for Shard {
    type Result = ();
    fn handle(&mut self, give: Give, _ctx: &mut Context<Self>) {
        let turn = self.enter();
        if !turn.is_open {
            return;
        }
        let room = PARKED_MAX.saturating_sub(self.parked());
        let mut slots = Vec::new();
        for (slot, stamp, to) in give.slots {
            let (row, held) = (turn.map.row(slot), self.slots.get(slot).holding());
            if slots.len() < room && may_give(&held, row, self.shared.me, stamp, to) {
                let since = row.since;
                self.slots.hold(slot, Holding::Primary { since, parked: stamp });
                self.parked.push(slot);
                slots.push(GivenSlot { slot, since, stamp, to });
            }
        }
        if !slots.is_empty() {
            self.router.do_send(Giving { slots });
        }
    }
}

impl Handler<FetchOwn> for Shard {
    type Result = ();
    fn handle(&mut self, fetch: FetchOwn, _ctx: &mut Context<Self>) {
        let GivenSlot { slot, since, stamp, .. } = fetch.given;
        if self.slots.get(slot).holding() != (Holding::Primary { since, parked: stamp }) {
            return;
        }
        let now = self.shared.clock.now();
        let (entries, next) = self.chunk_at(slot, fetch.from, now, false);
        let first = fetch.from == ChunkPosition::default();
        self.router.do_send(OwnChunk { given: fetch.given, first, entries, next });
    }
}
