//! Between the wire's types and the node's own: names of caches for their indexes, milliseconds
//! left for deadlines.

use crate::op::{CacheId, Failure, FailureKind, Ms, Request};
use crate::replication::{Effect, Stored};
use crate::router::messages::Chunk;
use crate::shard::messages::ChunkEntry;
use crate::shared::Shared;
use crate::slot::SLOTS;
use crate::wire::{AgedEntry, ReplicationItem, WireEffect, WireEntry, WireRequest};

/// A request as it travels.
pub fn request_to_wire(shared: &Shared, request: &Request) -> WireRequest {
    WireRequest {
        cache: shared.cache_hashes[usize::from(request.cache.0)],
        slot: request.slot,
        key: request.key.clone(),
        op: request.op.clone(),
        acks: request.acks,
    }
}

/// A request as it arrived.
///
/// # Errors
/// `CacheNotFound` when this node has no such cache, `NotReady` for a slot that does not exist.
pub fn request_from_wire(shared: &Shared, request: WireRequest) -> Result<Request, Failure> {
    let WireRequest { cache, slot, key, op, acks } = request;
    let cache = shared.cache_of_hash(cache).ok_or(FailureKind::CacheNotFound.not_applied())?;
    if slot >= SLOTS {
        return Err(FailureKind::NotReady.not_applied());
    }
    Ok(Request { cache, slot, key, op, acks })
}

/// A write's effect as it travels.
pub fn effect_to_wire(shared: &Shared, effect: &Effect, now: Ms) -> WireEffect {
    let hash = |cache: &CacheId| shared.cache_hashes[usize::from(cache.0)];
    let left = |deadline: &Option<Ms>| deadline.map(|at| at.saturating_sub(now));
    match effect {
        Effect::Put { cache, key, value, content_type, deadline, version } => {
            WireEffect::Put(WireEntry {
                cache: hash(cache),
                key: key.clone(),
                value: value.clone(),
                content_type: content_type.clone(),
                ttl_ms: left(deadline),
                version: *version,
            })
        }
        Effect::Delete { cache, key, version } => {
            WireEffect::Delete { cache: hash(cache), key: key.clone(), version: *version }
        }
        Effect::Deadline { cache, key, deadline, version } => WireEffect::Deadline {
            cache: hash(cache),
            key: key.clone(),
            ttl_ms: left(deadline),
            version: *version,
        },
        Effect::Clear { cache } => WireEffect::Clear { cache: hash(cache) },
        Effect::Several { cache, removed, stored, version } => WireEffect::Several {
            cache: hash(cache),
            removed: removed.clone(),
            stored: stored
                .iter()
                .map(|entry| WireEntry {
                    cache: hash(cache),
                    key: entry.key.clone(),
                    value: entry.value.clone(),
                    content_type: entry.content_type.clone(),
                    ttl_ms: left(&entry.deadline),
                    version: entry.version,
                })
                .collect(),
            version: *version,
        },
    }
}

/// A write's effect as it arrived; `None` when this node has no such cache.
pub fn effect_from_wire(shared: &Shared, effect: WireEffect, now: Ms) -> Option<Effect> {
    Some(match effect {
        WireEffect::Put(entry) => return entry_from_wire(shared, entry, now),
        WireEffect::Delete { cache, key, version } => {
            Effect::Delete { cache: shared.cache_of_hash(cache)?, key, version }
        }
        WireEffect::Deadline { cache, key, ttl_ms, version } => Effect::Deadline {
            cache: shared.cache_of_hash(cache)?,
            key,
            deadline: ttl_ms.map(|ms| now.saturating_add(ms)),
            version,
        },
        WireEffect::Clear { cache } => Effect::Clear { cache: shared.cache_of_hash(cache)? },
        WireEffect::Several { cache, removed, stored, version } => Effect::Several {
            cache: shared.cache_of_hash(cache)?,
            removed,
            stored: stored
                .into_iter()
                .map(|entry| Stored {
                    key: entry.key,
                    value: entry.value,
                    content_type: entry.content_type,
                    deadline: entry.ttl_ms.map(|ms| now.saturating_add(ms)),
                    version: entry.version,
                })
                .collect(),
            version,
        },
    })
}

/// An entry as it arrived; `None` when this node has no such cache.
pub fn entry_from_wire(shared: &Shared, entry: WireEntry, now: Ms) -> Option<Effect> {
    let WireEntry { cache, key, value, content_type, ttl_ms, version } = entry;
    let cache = shared.cache_of_hash(cache)?;
    let deadline = ttl_ms.map(|ms| now.saturating_add(ms));
    Some(Effect::Put { cache, key, value, content_type, deadline, version })
}

/// An entry as it travels.
pub fn entry_to_wire(shared: &Shared, entry: &ChunkEntry, now: Ms) -> AgedEntry {
    let age_ms = entry.age;
    let entry = WireEntry {
        cache: shared.cache_hashes[usize::from(entry.cache.0)],
        key: entry.key.clone(),
        value: entry.value.clone(),
        content_type: entry.content_type.clone(),
        ttl_ms: entry.deadline.map(|at| at.saturating_sub(now)),
        version: entry.version,
    };
    AgedEntry { entry, age_ms }
}

/// A chunk of an import as it travels.
pub fn chunk_to_wire(shared: &Shared, chunk: &Chunk, now: Ms) -> ReplicationItem {
    let entries = chunk.entries.iter().map(|entry| entry_to_wire(shared, entry, now)).collect();
    ReplicationItem::AgedChunk {
        slot: chunk.slot,
        since: chunk.since,
        import: chunk.import,
        after: chunk.after,
        entries,
        last: chunk.next.is_none(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bytes::Bytes;

    use super::*;
    use crate::op::Version;
    use crate::shard::bench::spec;

    #[test]
    fn a_time_to_live_beyond_every_clock_is_a_deadline_that_never_comes() {
        let shared = crate::node::share(&spec(), Vec::new()).unwrap();
        let (cache, key, version) = (shared.cache_hashes[0], Bytes::from_static(b"k"), Version(1));
        let (value, content_type, ttl_ms) = (key.clone(), None, Some(Ms::MAX));
        let entry = WireEntry { cache, key: key.clone(), value, content_type, ttl_ms, version };
        let (removed, stored) = (Vec::new(), vec![entry.clone()]);
        for effect in [
            WireEffect::Put(entry),
            WireEffect::Deadline { cache, key, ttl_ms, version },
            WireEffect::Several { cache, removed, stored, version },
        ] {
            let deadline = match effect_from_wire(&shared, effect, 5).unwrap() {
                Effect::Put { deadline, .. } | Effect::Deadline { deadline, .. } => deadline,
                Effect::Several { stored, .. } => stored[0].deadline,
                other => panic!("no deadline: {other:?}"),
            };
            assert_eq!(deadline, Some(Ms::MAX));
        }
    }
}
