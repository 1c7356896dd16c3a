//! The fan-out: writes of this thread's shards on their way to their copies.
//!
//! Towards each peer there is one link and one [`Stream`] per slot that was ever written. A slot's
//! writes and the chunks of its import leave by one Router on one link, so they arrive in the
//! primary's order. What waits for confirmations is kept in `waiting`; each entry is counted down
//! by the streams that carry its writes.
//!
//! Bounds: the window (bytes kept until copies confirm them, over all links of the thread) and
//! [`IMPORTS_MAX`] imports fetching chunks at a time per link, one chunk of each under way.

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use actix::Addr;
use slab::Slab;

use super::gates::CopyGates;
use super::messages::{Acked, Chunk, Fanout, FanoutOrigin, LinkEvent};
use crate::map::NodeIx;
use crate::op::Acks;
use crate::peer::link::{PeerLink, SendItems};
use crate::replication::{Out, Phase, Stream};
use crate::shard::messages::{ChunkPosition, FetchChunk};
use crate::shared::Shared;
use crate::slot::Slot;
use crate::wire::{AckItem, ReplicationItem};
use crate::wire_map::{chunk_to_wire, effect_to_wire};

/// Imports that fetch chunks at the same time, per link; the others wait their turn.
const IMPORTS_MAX: usize = 64;

/// Everything the Router knows of its copies.
#[derive(Debug)]
pub struct Fans {
    shared: Arc<Shared>,
    gates: Rc<CopyGates>,
    peers: Vec<Option<PeerSide>>,
    waiting: Slab<Waiting>,
    window_bytes: u64,
    window_max: u64,
}

#[derive(Debug)]
struct PeerSide {
    link: Addr<PeerLink>,
    up: bool,
    incarnation: u64,
    streams: HashMap<Slot, Stream<usize>>,
    /// Imports that fetch chunks, and where each goes on once its last chunk is acknowledged.
    active: HashMap<Slot, Option<ChunkPosition>>,
    /// Imports that wait for their turn to fetch.
    queued: VecDeque<Slot>,
    items: Vec<ReplicationItem>,
}

/// An answer that waits for copies.
#[derive(Debug)]
struct Waiting {
    origin: FanoutOrigin,
    open: usize,
}

impl Fans {
    pub fn new(shared: Arc<Shared>, gates: Rc<CopyGates>) -> Self {
        // Half of the budget may wait for copies; the rest is for bodies and responses.
        let window_max = shared.inflight.limit() / 2 / shared.workers as u64;
        Fans { shared, gates, peers: Vec::new(), waiting: Slab::new(), window_bytes: 0, window_max }
    }

    pub fn set_links(&mut self, links: Vec<Option<Addr<PeerLink>>>) {
        self.peers = links
            .into_iter()
            .map(|link| {
                link.map(|link| PeerSide {
                    link,
                    up: false,
                    incarnation: 0,
                    streams: HashMap::new(),
                    active: HashMap::new(),
                    queued: VecDeque::new(),
                    items: Vec::new(),
                })
            })
            .collect();
    }

    pub fn link(&self, peer: NodeIx) -> Option<&Addr<PeerLink>> {
        Some(&self.peers.get(usize::from(peer.0))?.as_ref()?.link)
    }

    pub fn is_up(&self, peer: NodeIx) -> bool {
        matches!(self.peers.get(usize::from(peer.0)), Some(Some(side)) if side.up)
    }

    pub fn peers_up(&self) -> Vec<NodeIx> {
        (0..self.peers.len() as u16).map(NodeIx).filter(|&peer| self.is_up(peer)).collect()
    }

    /// Sends writes to their copies and answers once those that are waited for have confirmed.
    pub fn fan_out(&mut self, fanout: Fanout) {
        let open: usize = fanout
            .writes
            .iter()
            .map(|write| if write.acks == Acks::All { write.copies.len() } else { 0 })
            .sum();
        // The extra one is for this call itself: an answer that waits for nobody leaves at its end.
        let key = self.waiting.insert(Waiting { origin: fanout.origin, open: open + 1 });
        let mut out = Vec::new();
        for write in fanout.writes {
            let waits = (write.acks == Acks::All).then_some(key);
            for &copy in &write.copies {
                let reachable = self.gates.is_reachable(copy);
                let Some(side) = side(&mut self.peers, copy) else { continue };
                let stream = side
                    .streams
                    .entry(write.slot)
                    .or_insert_with(|| Stream::new(write.since, write.n - 1));
                let before = stream.bytes();
                stream.write(write.n, write.effect.clone(), waits, side.up, &mut out);
                if !reachable {
                    stream.give_up();
                }
                self.window_bytes = self.window_bytes + stream.bytes() - before;
                self.emit(copy, write.slot, &mut out);
            }
        }
        self.flush();
        self.confirm(key);
    }

    /// Sends a chunk of an import, if it is still wanted.
    pub fn chunk(&mut self, chunk: Chunk) {
        let now = self.shared.clock.now();
        let shared = self.shared.clone();
        let Some(side) = side(&mut self.peers, chunk.copy) else { return };
        let wanted = side
            .streams
            .get(&chunk.slot)
            .is_some_and(|s| s.since() == chunk.since && s.wants_chunk(chunk.import));
        if !wanted {
            return;
        }
        side.items.push(chunk_to_wire(&shared, &chunk, now));
        side.active.insert(chunk.slot, chunk.next);
        self.flush();
    }

    pub fn acked(&mut self, acked: Acked) {
        let mut confirmed = Vec::new();
        let mut out = Vec::new();
        for item in acked.items {
            let Some(side) = side(&mut self.peers, acked.peer) else { return };
            match item {
                AckItem::Ack { slot, since, import, n, complete } => {
                    let Some(stream) = side.streams.get_mut(&slot) else { continue };
                    let before = (stream.bytes(), stream.phase());
                    let counted = stream.ack(since, import, n, complete, |key| confirmed.push(key));
                    self.window_bytes = self.window_bytes + stream.bytes() - before.0;
                    if !counted {
                        self.shared.counters.late_answers.add(1);
                    } else if complete && before.1 == Phase::Importing {
                        self.shared.counters.imports_completed.add(1);
                        side.active.remove(&slot);
                        self.fetch_queued(acked.peer);
                    } else if let Some(from) = side.active.get_mut(&slot).and_then(Option::take) {
                        self.fetch(acked.peer, slot, from);
                    }
                }
                AckItem::Nack { slot, since, import, held_since, held_import, .. } => {
                    self.shared.counters.replication_refused.add(1);
                    tracing::warn!(node = %self.shared.id, slot, since, import, held_since, held_import,
                        "copy refused replication, importing it again");
                    let Some(stream) = side.streams.get_mut(&slot) else { continue };
                    let before = stream.bytes();
                    let held = if held_since == since { held_import } else { 0 };
                    stream.refused(since, import, held, side.up, &mut out);
                    self.window_bytes = self.window_bytes + stream.bytes() - before;
                    side.active.remove(&slot);
                    self.emit(acked.peer, slot, &mut out);
                }
            }
        }
        self.shared.counters.replication_confirmed.add(confirmed.len() as u64);
        for key in confirmed {
            self.confirm(key);
        }
        self.flush();
    }

    pub fn link_news(&mut self, peer: NodeIx, event: LinkEvent) {
        let mut out = Vec::new();
        let Some(side) = side(&mut self.peers, peer) else { return };
        match event {
            LinkEvent::Up { incarnation } => {
                let same = side.incarnation == incarnation;
                side.up = true;
                side.incarnation = incarnation;
                self.gates.set_reachable(peer, true);
                let slots: Vec<Slot> = side.streams.keys().copied().collect();
                for slot in slots {
                    let Some(side) = self::side(&mut self.peers, peer) else { return };
                    let Some(stream) = side.streams.get_mut(&slot) else { continue };
                    let before = stream.bytes();
                    stream.link_up(same, &mut out);
                    self.window_bytes = self.window_bytes + stream.bytes() - before;
                    let writes = out.iter().filter(|o| matches!(o, Out::Write { .. })).count();
                    self.shared.counters.replication_writes_resent.add(writes as u64);
                    self.emit(peer, slot, &mut out);
                }
                self.flush();
            }
            LinkEvent::Lost | LinkEvent::Down => {
                side.up = false;
                side.active.clear();
                side.queued.clear();
                side.items.clear();
                for stream in side.streams.values_mut() {
                    let before = stream.bytes();
                    stream.link_lost();
                    self.window_bytes = self.window_bytes + stream.bytes() - before;
                }
                if event == LinkEvent::Down {
                    self.gates.set_reachable(peer, false);
                }
                self.update_window();
            }
        }
    }

    /// Turns what a stream wants into messages for its peer.
    fn emit(&mut self, peer: NodeIx, slot: Slot, out: &mut Vec<Out>) {
        let now = self.shared.clock.now();
        let shared = self.shared.clone();
        let Some(side) = side(&mut self.peers, peer) else { return };
        let Some(since) = side.streams.get(&slot).map(Stream::since) else { return };
        for want in out.drain(..) {
            match want {
                Out::Begin { import, n0 } => {
                    shared.counters.imports_begun.add(1);
                    side.items.push(ReplicationItem::Begin { slot, since, import, n0 });
                }
                Out::EmptyImport { import, n0: after } => {
                    let (entries, last) = (Vec::new(), true);
                    side.items.push(ReplicationItem::Chunk {
                        slot,
                        since,
                        import,
                        after,
                        entries,
                        last,
                    });
                }
                Out::FetchChunk { .. } => side.queued.push_back(slot),
                Out::Write { import, n, effect } => {
                    shared.counters.replication_writes_sent.add(1);
                    let effect = effect_to_wire(&shared, &effect, now);
                    side.items.push(ReplicationItem::Write { slot, since, import, n, effect });
                }
            }
        }
        self.fetch_queued(peer);
    }

    /// Lets imports that wait for their turn fetch their first chunk.
    fn fetch_queued(&mut self, peer: NodeIx) {
        while let Some(side) = side(&mut self.peers, peer)
            && side.active.len() < IMPORTS_MAX
            && let Some(slot) = side.queued.pop_front()
        {
            if side.streams.get(&slot).is_some_and(|s| s.phase() == Phase::Importing) {
                side.active.insert(slot, None);
                self.fetch(peer, slot, ChunkPosition::default());
            }
        }
    }

    fn fetch(&mut self, copy: NodeIx, slot: Slot, from: ChunkPosition) {
        let Some(stream) = side(&mut self.peers, copy).and_then(|s| s.streams.get(&slot)) else {
            return;
        };
        let (since, import) = (stream.since(), stream.import());
        if let Some(shard) = self.shared.shard_handle(slot) {
            shard.addr.do_send(FetchChunk { copy, slot, since, import, from });
        }
    }

    /// Hands what has piled up to the links, one message each.
    fn flush(&mut self) {
        for side in self.peers.iter_mut().flatten() {
            if !side.items.is_empty() {
                side.link.do_send(SendItems { items: std::mem::take(&mut side.items) });
            }
        }
        self.update_window();
    }

    fn update_window(&mut self) {
        self.gates.set_full(self.window_bytes > self.window_max);
    }

    fn confirm(&mut self, key: usize) {
        let Some(waiting) = self.waiting.get_mut(key) else { return };
        waiting.open -= 1;
        if waiting.open == 0 {
            answer(self.waiting.remove(key).origin);
        }
    }
}

fn side(peers: &mut [Option<PeerSide>], peer: NodeIx) -> Option<&mut PeerSide> {
    peers.get_mut(usize::from(peer.0))?.as_mut()
}

fn answer(origin: FanoutOrigin) {
    match origin {
        // A caller that hung up wants no answer.
        FanoutOrigin::Single(reply, answer) => drop(reply.send(answer)),
        FanoutOrigin::Part(reply, answers) => reply.answer(answers),
    }
}
