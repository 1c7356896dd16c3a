//! Gets whose replies are written where their values are: nothing is made of an entry that would
//! only be taken apart again.

use super::direct::WARMED_MIN;
use super::rows::Turn;
use super::{CacheShard, Shard, count_removal};
use crate::holding::may_decide;
use crate::lru::{Found, SHARED_BYTES, View, WARMED};
use crate::op::{Op, Request};
use crate::slot::Slot;

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
        if !turn.is_open || turn.now >= turn.lease_until {
            return;
        }
        let mut found = (requests.len() >= WARMED_MIN).then(Found::nothing);
        for part in requests.chunks(WARMED) {
            let looked_for = found.as_mut().map_or(0, |found| self.look_for(part, found));
            for (place, request) in part.iter().enumerate() {
                let is_full = writing.out.len() as u64 > max_reply_bytes;
                let found = found.as_ref().filter(|_| place < looked_for);
                let found = found.map(|found| (found, place));
                if is_full || self.write_reply(turn, request, found, writing).is_none() {
                    return;
                }
            }
        }
    }

    /// Writes the reply to a get of this shard's own, with a lease and an open gate. `None`, and nothing
    /// done that deciding it like any other would not do again, if it is something else or its value is large.
    fn write_reply(
        &mut self,
        turn: &Turn,
        request: &Request,
        found: Option<(&Found, usize)>,
        writing: &mut Writing,
    ) -> Option<()> {
        let Op::Get { .. } = request.op else { return None };
        if !self.slots.decides(request.slot) {
            return None;
        }
        debug_assert!(self.may_decide(turn, request.slot), "the bit is that of this map");
        let cache = usize::from(request.cache.0);
        let is_long = request.key.len() > self.shared.caches.get(cache)?.max_key;
        let CacheShard { lru, stats } = self.caches.get_mut(cache)?;
        if is_long || lru.has_debt() {
            return None;
        }
        let (slot, key, slots) = (request.slot, &request.key, &self.slots);
        let mut removed = |gone| count_removal(stats, slots, gone);
        let found = match found {
            Some((found, place)) => lru.get_found(found, place, key, turn.now, &mut removed),
            None => lru.get(slot, key, turn.now, &mut removed),
        };
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
        if self.slots.has_copies(slot) && self.shared.is_replicated(request.cache) {
            self.recency.note(slot, request.cache, key, lru.generation_ms(), turn.now);
        }
        Some(())
    }

    /// What the bit of a slot says, by the row and by what is held.
    fn may_decide(&self, turn: &Turn, slot: Slot) -> bool {
        let (row, held) = (turn.map.row(slot), self.slots.get(slot).holding());
        let (now, until) = (turn.now, turn.lease_until);
        may_decide(&held, row, self.shared.me, now, until, turn.is_open).is_ok()
            && row.in_sync().is_empty() != self.slots.has_copies(slot)
    }
}
