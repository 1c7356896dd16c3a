//! Imports: whose turn it is to be read, and how fast.
//!
//! An import reads a chunk when there is room for it in the [`Pace`] of the thread, when it is one of
//! [`super::links::IMPORTS_MAX`] of its link, and when its chunk before has been acknowledged. Links take turns.

use std::time::Duration;

use actix::{AsyncContext, Context};

use super::Router;
use super::fanout::Fans;
use super::links::Import;
use super::messages::Chunk;
use crate::map::NodeIx;
use crate::replication::fan::Phase;
use crate::replication::{Pace, rate_to_leave};
use crate::shard::messages::FetchChunk;
use crate::slot::Slot;
use crate::wire_map::chunk_to_wire;

/// Between two looks at whether there is room, while something waits for it.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The turns of a thread's imports.
#[derive(Debug)]
pub(super) struct Turns {
    pace: Pace,
    /// What is needed to be through in time, while this node leaves.
    needed: u64,
    /// The link whose turn it is.
    next: usize,
    /// May there be something to read?
    pub is_due: bool,
    /// Does something wait for room?
    waits: bool,
    /// Will somebody look again?
    is_timed: bool,
}

impl Turns {
    pub fn new(bytes_per_second: u64) -> Self {
        let pace = Pace::new(bytes_per_second);
        Turns { pace, needed: 0, next: 0, is_due: false, waits: false, is_timed: false }
    }
}

impl Fans {
    /// Sends a chunk of an import, if it is still wanted.
    pub fn chunk(&mut self, chunk: Chunk) {
        let sizes = || chunk.entries.iter().map(|entry| entry.key.len() + entry.value.len());
        self.turns.pace.spend(sizes());
        // It may have cost less than was thought.
        self.turns.is_due |= self.turns.waits;
        let now = self.shared.clock.now();
        let (slot, copy, import) = (chunk.slot, chunk.copy, chunk.import);
        let held = self.fans.get_mut(&slot).filter(|held| held.fan.since() == chunk.since);
        if held.is_some_and(|held| held.fan.wants_chunk(copy, import, now))
            && let Some(link) = self.links.get_mut(copy)
        {
            self.shared.counters.import_bytes.add(sizes().sum::<usize>() as u64);
            link.items.push(chunk_to_wire(&self.shared, &chunk, now));
            link.active.insert(slot, Import { import, next: chunk.next });
        }
        self.flush();
    }

    /// An import is to be read from the beginning.
    pub(super) fn begin_import(&mut self, peer: NodeIx, slot: Slot, import: u64) {
        if let Some(link) = self.links.get_mut(peer) {
            link.queued.push_back((slot, import));
            self.turns.is_due = true;
        }
    }

    /// What was sent of an import has arrived: it goes on, unless that was the last of it.
    pub(super) fn go_on_importing(&mut self, peer: NodeIx, slot: Slot, import: u64) {
        let Some(link) = self.links.get_mut(peer) else { return };
        if let Some(active) = link.active.get_mut(&slot)
            && active.import == import
            && let Some(from) = active.next.take()
        {
            link.ready.push_back((slot, import, from));
            self.turns.is_due = true;
        }
    }

    pub(super) fn end_import(&mut self, peer: NodeIx, slot: Slot, import: u64) {
        if let Some(link) = self.links.get_mut(peer)
            && link.active.get(&slot).is_some_and(|active| active.import == import)
        {
            link.active.remove(&slot);
            self.turns.is_due = true;
        }
    }

    /// Gives the turns of imports that are wanted no more to others. One that waits for its turn
    /// waits for this node, and not for the copy.
    pub(super) fn tend_imports(&mut self) {
        let now = self.shared.clock.now();
        let fans = &mut self.fans;
        for (peer, link) in self.links.all_mut() {
            let phase = |slot: &Slot| fans.get(slot).and_then(|held| held.fan.phase(peer));
            link.active.retain(|slot, _| phase(slot) == Some(Phase::Importing));
            let mut is_wanted = |slot: &Slot, import| {
                fans.get_mut(slot).is_some_and(|held| held.fan.wants_chunk(peer, import, now))
            };
            link.queued.retain(|(slot, import)| is_wanted(slot, *import));
            link.ready.retain(|(slot, import, _)| is_wanted(slot, *import));
        }
        let rate = self.rate();
        self.turns.pace.set_rate(rate);
        self.turns.is_due = true;
    }

    /// Bytes a second that this thread may send: what is set, and more if this node leaves with so much
    /// that it would not be through in time. It does not slow down while it gets less.
    fn rate(&mut self) -> u64 {
        let shared = &self.shared;
        self.turns.needed = match shared.map.load().member(shared.me).leaving {
            false => 0,
            true => {
                let caches = shared.stats().caches;
                let entries = caches.iter().map(|(_, cache)| cache.entries.total()).sum();
                let bytes = caches.iter().map(|(_, cache)| cache.bytes.total()).sum();
                let within_ms = shared.cluster.drain_timeout_ms;
                self.turns.needed.max(rate_to_leave(entries, bytes, within_ms))
            }
        };
        shared.import_rate.max(self.turns.needed) / shared.shard_threads() as u64
    }

    /// Has chunks read while there is room for them.
    pub(super) fn read_chunks(&mut self) {
        let (now, links) = (self.shared.clock.now(), self.links.len());
        (self.turns.is_due, self.turns.waits) = (false, false);
        let mut idle = 0;
        while idle < links {
            let peer = NodeIx((self.turns.next % links) as u16);
            if self.links.get(peer).is_some_and(|link| link.has_turn()) {
                if !self.turns.pace.grant(now) {
                    self.turns.waits = true;
                    return;
                }
                idle = 0;
                self.read_chunk(peer);
            }
            (self.turns.next, idle) = (self.turns.next + 1, idle + 1);
        }
    }

    /// Has the next chunk read for a node.
    fn read_chunk(&mut self, copy: NodeIx) {
        let now = self.shared.clock.now();
        let next = self.links.get_mut(copy).and_then(|link| {
            let (slot, import, from) = link.next_turn()?;
            let held = self.fans.get_mut(&slot)?;
            if !held.fan.wants_chunk(copy, import, now) {
                return None;
            }
            link.active.insert(slot, Import { import, next: None });
            Some(FetchChunk { copy, slot, since: held.fan.since(), import, from })
        });
        let shard = next.as_ref().and_then(|fetch| self.shared.shard_handle(fetch.slot));
        match (next, shard) {
            (Some(fetch), Some(shard)) => shard.addr.do_send(fetch),
            _ => self.turns.pace.spend(std::iter::empty()),
        }
    }
}

impl Router {
    /// Looks again soon if imports wait for room.
    pub(super) fn keep_pace(&mut self, ctx: &mut Context<Self>) {
        let turns = &mut self.fans.turns;
        if turns.waits && !std::mem::replace(&mut turns.is_timed, true) {
            ctx.run_later(LOOK_AGAIN, |router, ctx| {
                router.fans.turns.is_timed = false;
                router.fans.turns.is_due = true;
                router.fans.flush();
                router.keep_pace(ctx);
            });
        }
    }
}
