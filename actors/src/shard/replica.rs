//! The shard as a copy, and as the source of imports.

use actix::{Context, Handler};

use super::messages::{ChunkEntry, ChunkPosition, Digests, FetchChunk, Replicate, RowsChanged};
use super::slots::SlotState;
use super::{CacheShard, Shard};
use crate::apply::{apply_effect, cache_of};
use crate::map::NodeIx;
use crate::op::{CacheId, Ms};
use crate::peer::inbound::SendAcks;
use crate::replication::{Copy, Effect, Refusal};
use crate::router::messages::Chunk;
use crate::slot::Slot;
use crate::wire::{AckItem, ReplicationItem};
use crate::wire_map::{effect_from_wire, entry_from_wire};

/// Entries that one chunk of an import carries at most.
const CHUNK_ENTRIES: usize = 128;

/// Bytes of keys and values after which a chunk is closed.
const CHUNK_BYTES: usize = 256 * 1024;

impl Shard {
    /// The copy this node keeps of a slot for this peer; `None` when the peer is not the slot's
    /// primary, or not under this `since`.
    fn copy_for(&self, from: NodeIx, slot: Slot, since: u64) -> Option<Copy> {
        let map = self.shared.map.load();
        let row = map.row(slot);
        let is_replica = row.replicas().any(|node| node == self.shared.me);
        if row.primary != from || !is_replica || since != row.since {
            return None;
        }
        match self.slots.get(slot) {
            SlotState::Copy(copy) => Some(copy),
            SlotState::None => Some(Copy::default()),
            SlotState::Primary { .. } => None,
        }
    }

    fn take(&mut self, from: NodeIx, item: ReplicationItem, now: Ms) -> Option<AckItem> {
        let (slot, since, import) = match &item {
            ReplicationItem::Begin { slot, since, import, .. }
            | ReplicationItem::Chunk { slot, since, import, .. }
            | ReplicationItem::Write { slot, since, import, .. } => (*slot, *since, *import),
        };
        let held = self.copy_for(from, slot, since);
        let mut copy = held.unwrap_or_default();
        let verdict = match (held, item) {
            (None, _) => Err(Refusal::Lower),
            (Some(_), ReplicationItem::Begin { n0, .. }) => {
                copy.begin(since, import, n0).map(|()| self.wipe(slot)).map(|()| false)
            }
            (Some(_), ReplicationItem::Chunk { after, entries, last, .. }) => {
                copy.chunk(since, import, after, last).map(|()| {
                    for entry in entries {
                        if let Some(effect) = entry_from_wire(&self.shared, entry, now) {
                            self.apply_as_copy(slot, &effect, now);
                        }
                    }
                    true
                })
            }
            (Some(_), ReplicationItem::Write { n, effect, .. }) => {
                copy.write(since, import, n).map(|fresh| {
                    let counters = self.shared.clone();
                    if fresh {
                        counters.counters.replication_writes_applied.add(1);
                        if let Some(effect) = effect_from_wire(&self.shared, effect, now) {
                            self.apply_as_copy(slot, &effect, now);
                        }
                    } else {
                        counters.counters.replication_writes_skipped.add(1);
                    }
                    true
                })
            }
        };
        if held.is_some() {
            *self.slots.get_mut(slot) = SlotState::Copy(copy);
        }
        match verdict {
            Ok(false) => None,
            Ok(true) => {
                let (n, complete) = (copy.n, copy.complete);
                Some(AckItem::Ack { slot, since, import, n, complete })
            }
            Err(refusal) => Some(AckItem::Nack {
                slot,
                since,
                import,
                held_since: copy.since,
                held_import: copy.import,
                held_n: copy.n,
                reason: refusal,
            }),
        }
    }

    /// Empties a slot in every cache before an import.
    fn wipe(&mut self, slot: Slot) {
        let role = self.slots.role(slot);
        for CacheShard { lru, stats } in &mut self.caches {
            let (entries, bytes) = lru.clear_slot(slot);
            stats.entries.shift(role, -(entries as i64));
            stats.bytes.shift(role, -(bytes as i64));
            stats.lost.add(role, entries as u64);
        }
    }

    fn apply_as_copy(&mut self, slot: Slot, effect: &Effect, now: Ms) {
        if let Effect::Put { version, .. }
        | Effect::Deadline { version, .. }
        | Effect::Several { version, .. } = effect
        {
            self.versions.observe(*version, self.shared.clock.wall_ms());
        }
        let slots = &self.slots;
        let Some(CacheShard { lru, stats }) = self.caches.get_mut(usize::from(cache_of(effect).0))
        else {
            return;
        };
        let before = (lru.len(), lru.bytes());
        let mut gone = (0, 0);
        apply_effect(lru, slot, effect, now, &mut |removal| {
            gone.0 += 1;
            gone.1 += removal.bytes as i64;
            super::count_removal(stats, slots, removal);
        });
        let role = slots.role(slot);
        stats.entries.shift(role, lru.len() as i64 + gone.0 - before.0 as i64);
        stats.bytes.shift(role, lru.bytes() as i64 + gone.1 - before.1 as i64);
        if matches!(effect, Effect::Clear { .. }) {
            stats.cleared.add(role, before.0 as u64 - lru.len() as u64);
        }
    }

    /// Reads the next chunk of a slot.
    fn chunk_at(
        &self,
        slot: Slot,
        from: ChunkPosition,
        now: Ms,
    ) -> (Vec<ChunkEntry>, Option<ChunkPosition>) {
        let mut entries = Vec::new();
        let mut position = from;
        let mut bytes = 0;
        while let Some(CacheShard { lru, .. }) = self.caches.get(usize::from(position.cache)) {
            let cache = CacheId(position.cache);
            // One entry a step, so that a chunk of large values is closed in time.
            let next = lru.scan(slot, position.at, 1, 64, now, |view| {
                bytes += view.key().len() + view.value_slice().len();
                entries.push(ChunkEntry {
                    cache,
                    key: bytes::Bytes::copy_from_slice(view.key()),
                    value: view.value(),
                    content_type: view.content_type().map(bytes::Bytes::copy_from_slice),
                    deadline: view.deadline(),
                    version: view.version(),
                });
            });
            position = match next {
                Some(at) => ChunkPosition { cache: position.cache, at },
                None => ChunkPosition { cache: position.cache + 1, at: Default::default() },
            };
            if entries.len() >= CHUNK_ENTRIES || bytes >= CHUNK_BYTES {
                return (entries, Some(position));
            }
        }
        (entries, None)
    }
}

impl Handler<Replicate> for Shard {
    type Result = ();
    fn handle(&mut self, message: Replicate, _ctx: &mut Context<Self>) {
        let now = self.shared.clock.now();
        let mut acks: Vec<AckItem> = Vec::with_capacity(message.items.len());
        for item in message.items {
            acks.extend(self.take(message.from, item, now));
        }
        message.reply.do_send(SendAcks { items: acks });
        self.publish();
    }
}

impl Handler<FetchChunk> for Shard {
    type Result = ();
    fn handle(&mut self, fetch: FetchChunk, _ctx: &mut Context<Self>) {
        let SlotState::Primary { since, n } = self.slots.get(fetch.slot) else { return };
        if since != fetch.since {
            return;
        }
        let now = self.shared.clock.now();
        let (entries, next) = self.chunk_at(fetch.slot, fetch.from, now);
        self.router.do_send(Chunk {
            copy: fetch.copy,
            slot: fetch.slot,
            since,
            import: fetch.import,
            after: n,
            entries,
            next,
        });
    }
}

impl Handler<RowsChanged> for Shard {
    type Result = ();
    fn handle(&mut self, _message: RowsChanged, _ctx: &mut Context<Self>) {
        let map = self.shared.map.load_full();
        for slot in (self.index as Slot..crate::slot::SLOTS).step_by(self.shared.shards) {
            let since = map.row(slot).since;
            if let SlotState::Copy(copy) = self.slots.get(slot)
                && copy.since < since
            {
                // Its primary started anew and holds nothing: what this copy has is lost.
                self.wipe(slot);
                *self.slots.get_mut(slot) = SlotState::None;
            }
        }
        self.publish();
    }
}

impl Handler<Digests> for Shard {
    type Result = ();
    fn handle(&mut self, message: Digests, _ctx: &mut Context<Self>) {
        let now = self.shared.clock.now();
        let mine = message.slots.into_iter().filter(|&s| self.shared.shard_of(s) == self.index);
        let digests = mine
            .map(|slot| {
                let (mut digest, mut entries) = (0, 0);
                for (index, CacheShard { lru, .. }) in self.caches.iter().enumerate() {
                    digest ^= lru.digest(slot, now).rotate_left(index as u32);
                    entries += lru.slot_len(slot) as u64;
                }
                (slot, digest, entries)
            })
            .collect();
        // Whoever asked may have gone.
        let _ = message.reply.send(digests);
    }
}
