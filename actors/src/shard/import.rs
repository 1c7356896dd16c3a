//! The shard as the source of imports.

use actix::{Context, Handler};

use super::messages::{ChunkEntry, ChunkPosition, FetchChunk};
use super::{CacheShard, Shard};
use crate::op::{CacheId, Ms};
use crate::router::messages::Chunk;
use crate::slot::Slot;

/// Entries that one chunk of an import carries at most.
const CHUNK_ENTRIES: usize = 128;

/// Bytes of keys and values after which a chunk is closed.
const CHUNK_BYTES: usize = 256 * 1024;

impl Shard {
    /// Reads the next chunk of a slot: entries of the caches that live on copies, or of the others.
    pub(super) fn chunk_at(
        &self,
        slot: Slot,
        from: ChunkPosition,
        now: Ms,
        replicated: bool,
    ) -> (Vec<ChunkEntry>, Option<ChunkPosition>) {
        let mut entries = Vec::new();
        let mut position = from;
        let mut bytes = 0;
        while let Some(CacheShard { lru, .. }) = self.caches.get(usize::from(position.cache)) {
            let cache = CacheId(position.cache);
            // One entry a step, so that a chunk of large values is closed in time.
            let next = match self.shared.is_replicated(cache) == replicated {
                false => None,
                true => lru.scan(slot, position.at, 1, 64, now, |view| {
                    bytes += view.key().len() + view.value_slice().len();
                    entries.push(ChunkEntry {
                        cache,
                        key: bytes::Bytes::copy_from_slice(view.key()),
                        value: view.value(),
                        content_type: view.content_type().map(bytes::Bytes::copy_from_slice),
                        deadline: view.deadline(),
                        version: view.version(),
                        age: lru.age(&view, now),
                    });
                }),
            };
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

impl Handler<FetchChunk> for Shard {
    type Result = ();
    fn handle(&mut self, fetch: FetchChunk, _ctx: &mut Context<Self>) {
        let state = self.slots.get(fetch.slot);
        let (n, since) = (state.n, fetch.since);
        if !state.holding().is_primary(since) {
            return;
        }
        let now = self.shared.clock.now();
        let (entries, next) = self.chunk_at(fetch.slot, fetch.from, now, true);
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
