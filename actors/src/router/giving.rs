//! Slots that are given to copies: what lives on this node alone goes ahead of the request, a chunk at a
//! time, each after the one before has arrived. The first is sent also if it is empty: a node that
//! does not answer is given nothing.

use actix::{Context, Handler};

use super::Router;
use super::fanout::Fans;
use super::messages::{GivenSlot, Giving, Offer, OwnChunk};
use crate::map::{Ask, NodeIx};
use crate::op::Ms;
use crate::shard::messages::{ChunkPosition, FetchOwn, Give};
use crate::slot::Slot;
use crate::wire::ReplicationItem;
use crate::wire_map::entry_to_wire;

/// How long nothing more is given to a node after a slot had to be kept.
const BACK_OFF_MS: Ms = 1_000;

impl Fans {
    /// Has the shards give away those slots that can be given without a wait.
    pub fn offer(&mut self, slots: Vec<(Slot, u64, NodeIx)>) {
        let now = self.shared.clock.now();
        let mut by_shard = vec![Vec::new(); self.shared.shards];
        for (slot, stamp, to) in slots {
            let is_trusted = self.links.get(to).is_some_and(|link| now >= link.gives_from);
            if is_trusted && self.could_give(slot, stamp, to, now) {
                by_shard[self.shared.shard_of(slot)].push((slot, stamp, to));
            }
        }
        for slots in by_shard.into_iter().filter(|slots| !slots.is_empty()) {
            if let Some(shard) = self.shared.shard_handle(slots[0].0) {
                shard.addr.do_send(Give { slots });
            }
        }
    }

    /// Slots that the shard decides no more are to be given to copies.
    pub fn give(&mut self, slots: Vec<GivenSlot>) {
        let now = self.shared.clock.now();
        for given in slots {
            if self.since_of(given.slot) == Some(given.since) {
                self.change(given.slot, |fan, _| fan.give(given.to, now));
                self.fetch_own(given, ChunkPosition::default());
            }
        }
        self.flush();
    }

    fn fetch_own(&self, given: GivenSlot, from: ChunkPosition) {
        if let Some(shard) = self.shared.shard_handle(given.slot) {
            shard.addr.do_send(FetchOwn { given, from });
        }
    }

    /// Hands over a chunk of what lives here alone.
    pub fn own_chunk(&mut self, chunk: OwnChunk) {
        let GivenSlot { slot, since, stamp, to } = chunk.given;
        let now = self.shared.clock.now();
        if self.place_of(slot, to).is_none_or(|(current, _)| current != stamp) {
            return;
        }
        let import = self.place_of(slot, to).map_or(0, |(_, import)| import);
        let shared = self.shared.clone();
        let Some(link) = self.links.get_mut(to).filter(|link| link.up) else { return };
        let entries =
            chunk.entries.iter().map(|entry| entry_to_wire(&shared, entry, now)).collect();
        let (first, last) = (chunk.first, chunk.next.is_none());
        let hand = ReplicationItem::AgedHand { slot, since, import, stamp, entries, first, last };
        link.items.push(hand);
        link.handing.insert(slot, (chunk.given, chunk.next));
        self.flush();
    }

    /// The new primary has what was handed over until now.
    pub fn handed(&mut self, from: NodeIx, slot: Slot, stamp: u64) {
        let now = self.shared.clock.now();
        let Some(link) = self.links.get_mut(from) else { return };
        let Some(&(given, next)) = link.handing.get(&slot) else { return };
        if given.stamp != stamp {
            return;
        }
        link.handing.remove(&slot);
        let last = next.is_none();
        if self.change(slot, |fan, _| fan.handed(from, stamp, last, now)) != Some(true) {
            return;
        }
        match next {
            Some(next) => self.fetch_own(given, next),
            None => self.ask_at_once(slot),
        }
    }

    /// A slot had to be kept: nothing more is given to that node for a while.
    pub fn back_off(&mut self, slot: Slot, asks: &[(u64, Ask)]) {
        if !asks.iter().any(|(_, ask)| *ask == Ask::Keep) {
            return;
        }
        let gives_from = self.shared.clock.now() + BACK_OFF_MS;
        if let Some(link) = self.heir_of(slot).and_then(|to| self.links.get_mut(to)) {
            link.gives_from = gives_from;
            link.handing.remove(&slot);
        }
    }

    /// The node to which a slot is given.
    fn heir_of(&self, slot: Slot) -> Option<NodeIx> {
        self.fans.get(&slot)?.fan.heir()
    }

    /// Could a slot be given to this node now, under the row of this stamp?
    fn could_give(&self, slot: Slot, stamp: u64, to: NodeIx, now: Ms) -> bool {
        let held = self.fans.get(&slot).filter(|held| held.fan.stamp() == stamp);
        held.is_some_and(|held| held.fan.could_give(to, now))
    }

    /// The stamp of the row that a slot's fan follows, and the import that a copy came from.
    fn place_of(&self, slot: Slot, copy: NodeIx) -> Option<(u64, u64)> {
        self.fans.get(&slot).map(|held| (held.fan.stamp(), held.fan.import_of(copy)))
    }

    /// The `since` under which a slot's writes are numbered here.
    pub(super) fn since_of(&self, slot: Slot) -> Option<u64> {
        self.fans.get(&slot).map(|held| held.fan.since())
    }
}

impl Handler<Offer> for Router {
    type Result = ();
    fn handle(&mut self, offer: Offer, _ctx: &mut Context<Self>) {
        self.fans.offer(offer.slots);
    }
}

impl Handler<Giving> for Router {
    type Result = ();
    fn handle(&mut self, giving: Giving, _ctx: &mut Context<Self>) {
        self.fans.give(giving.slots);
    }
}

impl Handler<OwnChunk> for Router {
    type Result = ();
    fn handle(&mut self, chunk: OwnChunk, _ctx: &mut Context<Self>) {
        self.fans.own_chunk(chunk);
    }
}
