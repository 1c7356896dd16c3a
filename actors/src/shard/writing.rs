//! Gets whose replies are written where their values are: nothing is made of an entry that would
//! only be taken apart again.

use super::rows::Turn;
use super::{CacheShard, Shard, count_removal};
use crate::holding::may_decide;
use crate::lru::{SHARED_BYTES, View, WARMED};
use crate::op::{Op, Request};

/// Where a caller wants what gets find, and how: in a language that is its own affair. It goes
/// along with a batch and comes back with the answers. What is written is the replies to the first
/// requests; the first that takes more than a small value, and all after it, are answered.
#[derive(Debug)]
pub struct Writing {
    /// What replies are written to, one after the other.
    pub out: Vec<u8>,
    /// How many are written.
    pub count: usize,
    /// Writes the reply for a value, or that there is none.
    write: fn(&mut Vec<u8>, Option<&[u8]>),
}

impl Writing {
    /// Into an empty buffer, by this function.
    pub fn new(out: Vec<u8>, write: fn(&mut Vec<u8>, Option<&[u8]>)) -> Self {
        Writing { out, count: 0, write }
    }
}

impl Shard {
    /// Writes replies to the first requests, up to the one after which they are more than so many
    /// bytes.
    pub(super) fn write_replies(
        &mut self,
        turn: &Turn,
        requests: &[Request],
        max_reply_bytes: u64,
        writing: &mut Writing,
    ) {
        for (place, request) in requests.iter().enumerate() {
            if place.is_multiple_of(WARMED) {
                self.warm(&turn.map, &requests[place..]);
            }
            let is_full = writing.out.len() as u64 > max_reply_bytes;
            if is_full || self.write_reply(turn, request, writing).is_none() {
                return;
            }
        }
    }

    /// Writes the reply to a get of this shard's own. `None`, and nothing done that deciding it
    /// like any other would not do again, if it is something else or its value is large.
    fn write_reply(&mut self, turn: &Turn, request: &Request, writing: &mut Writing) -> Option<()> {
        let Op::Get { .. } = request.op else { return None };
        let row = turn.map.row(request.slot);
        let held = &self.slots.get(request.slot).holding;
        may_decide(held, row, self.shared.me, turn.now, turn.lease_until, turn.is_open).ok()?;
        let cache = usize::from(request.cache.0);
        let is_long = request.key.len() > self.shared.caches.get(cache)?.max_key;
        let CacheShard { lru, stats } = self.caches.get_mut(cache)?;
        if is_long || lru.has_debt() {
            return None;
        }
        let (slot, key, slots) = (request.slot, &request.key, &self.slots);
        let found = lru.get(slot, key, turn.now, &mut |gone| count_removal(stats, slots, gone));
        let value = found.as_ref().map(View::value_slice);
        let is_hit = match value {
            Some(value) if value.len() >= SHARED_BYTES => return None,
            Some(_) => true,
            None => false,
        };
        (writing.write)(&mut writing.out, value);
        writing.count += 1;
        #[cfg(test)]
        super::bench::crash_if_poison(key);
        if !is_hit {
            stats.misses += 1;
            return Some(());
        }
        stats.hits += 1;
        if !row.in_sync().is_empty() && self.shared.is_replicated(request.cache) {
            self.recency.note(slot, request.cache, key, lru.generation_ms(), turn.now);
        }
        Some(())
    }
}
