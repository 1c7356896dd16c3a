//! The LRU: exact, O(1), bounded by entries and by bytes, with a deadline per entry.
//!
//! One [`Lru`] is one named cache in one shard. Its nodes stand in one slab that grows by chunks,
//! linked into one list in order of use over all slots, and the list is cut into [`generations`];
//! each slot has a small hash table of its
//! own, so that growth moves hundreds of entries at a time instead of millions, and a slot can
//! be listed, counted and dropped by itself.
//!
//! Pure: time and the seeds of the hash are arguments. Every entry that goes without having been
//! asked to go is reported to the caller as a [`Removal`].

mod copies;
mod generations;
mod node;
mod slab;
mod slots;
mod table;
#[cfg(test)]
mod tests;
mod view;
mod warm;
mod wheel;
mod wiped;

use std::hash::BuildHasher;

use bytes::Bytes;
use foldhash::fast::SeedableRandomState;

pub use copies::Copies;
pub use foldhash::SharedSeed;
pub use node::SHARED_BYTES;
pub use view::View;
pub use warm::{Found, WARMED};

use crate::op::{Ms, ScanPosition, Version};
use crate::slot::{Deal, SLOTS, Slot};
use generations::{GENERATIONS_MAX, Generations};
use node::{NIL, Node};
use slab::Slab;
use table::Table;
use wheel::{Advance, Wheel};
use wiped::Wiped;

/// What an entry is charged beyond its blocks: its node, its places in the slot's table, and what
/// the allocator adds.
pub const ENTRY_OVERHEAD: u64 = 64;

/// Entries that one put evicts at most; what is still too much then is debt, paid in slices.
pub const EVICTIONS_PER_PUT: usize = 256;

/// Most entries of an [`Lru`], whatever its capacity.
pub const ENTRIES_MAX: u64 = wheel::INDEX_MAX as u64 - 1 - GENERATIONS_MAX as u64;

/// The limits of an [`Lru`].
#[derive(Clone, Copy, Debug)]
pub struct LruConfig {
    /// Most entries; at least 1.
    pub capacity: u64,
    /// Most bytes, overhead included.
    pub max_bytes: u64,
    /// Shards of the node: this shard has every `shards`-th slot.
    pub shards: usize,
    /// Keys the hash tables.
    pub seed: u64,
    /// Keys those of all LRUs of a process.
    pub shared_seed: &'static SharedSeed,
}

/// An entry that went without having been asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Its slot.
    pub slot: Slot,
    /// Why.
    pub cause: Cause,
    /// What it was charged.
    pub bytes: u64,
}

/// Why an entry went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It was the least recently used and something had to go.
    Evicted,
    /// Its deadline had passed.
    Expired,
    /// Its slot was wiped, with this mark.
    Wiped(u8),
}

/// The entry alone is charged more than `max_bytes`, or its key or type is longer than any may be;
/// nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the entry alone is larger than the budget of its shard, or its key or type than any")]
pub struct TooLarge;

/// What a put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutOutcome {
    /// Was there a live entry before?
    pub replaced: bool,
}

/// An exact LRU of one named cache in one shard.
#[derive(Debug)]
pub struct Lru {
    capacity: u64,
    max_bytes: u64,
    /// Turns a slot into its place in `tables`.
    deal: Deal,
    seed: u64,
    hasher: SeedableRandomState,
    slab: Slab,
    /// The entries of each slot, by node.
    tables: Vec<Table>,
    /// What the entries of each table are charged.
    charged: Vec<u64>,
    wiped: Wiped,
    wheel: Wheel,
    /// The most and the least recently used node.
    head: u32,
    tail: u32,
    generations: Generations,
    len: usize,
    bytes: u64,
}

impl Lru {
    /// An empty LRU.
    pub fn new(config: LruConfig) -> Self {
        let slots = usize::from(SLOTS).div_ceil(config.shards);
        Lru {
            capacity: config.capacity.min(ENTRIES_MAX),
            max_bytes: config.max_bytes,
            deal: Deal::new(config.shards),
            seed: config.seed,
            hasher: SeedableRandomState::with_seed(config.seed, config.shared_seed),
            slab: Slab::new(),
            tables: (0..slots).map(|_| Table::default()).collect(),
            charged: vec![0; slots],
            wiped: Wiped::default(),
            wheel: Wheel::new(),
            head: NIL,
            tail: NIL,
            generations: Generations::new(0),
            len: 0,
            bytes: 0,
        }
    }

    /// Entries, those included whose deadline has passed but that nothing has met yet, and those of
    /// wiped slots that are there still.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Is there no entry?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Charged bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads an entry and makes it the most recently used.
    pub fn get(
        &mut self,
        slot: Slot,
        key: &[u8],
        now: Ms,
        removed: &mut impl FnMut(Removal),
    ) -> Option<View<'_>> {
        let index = self.live(slot, key, now, removed)?;
        self.promote(index);
        Some(View::new(&self.slab[index]))
    }

    /// Reads an entry without counting a use.
    pub fn peek(&self, slot: Slot, key: &[u8], now: Ms) -> Option<View<'_>> {
        let node = &self.slab[self.find(slot, key)?];
        (!node.is_expired(now)).then_some(View::new(node))
    }

    /// Makes an entry the most recently used; returns whether it is there.
    pub fn touch(&mut self, slot: Slot, key: &[u8]) -> bool {
        let found = self.find(slot, key);
        if let Some(index) = found {
            self.promote(index);
        }
        found.is_some()
    }

    /// Stores an entry as the most recently used, in place of one with the same key, and evicts
    /// what is too much: at most [`EVICTIONS_PER_PUT`] entries, the rest by [`Lru::pay_debt`].
    ///
    /// A value of [`SHARED_BYTES`] or more is kept as it is and must own exactly its allocation.
    ///
    /// # Errors
    /// [`TooLarge`], and nothing is changed.
    #[allow(clippy::too_many_arguments)]
    pub fn put(
        &mut self,
        slot: Slot,
        key: &[u8],
        value: &Bytes,
        content_type: Option<&[u8]>,
        deadline: Option<Ms>,
        version: Version,
        now: Ms,
        removed: &mut impl FnMut(Removal),
    ) -> Result<PutOutcome, TooLarge> {
        self.store(slot, key, value, content_type, deadline, version, None, now, removed)
    }

    #[allow(clippy::too_many_arguments)]
    #[inline(always)]
    fn store(
        &mut self,
        slot: Slot,
        key: &[u8],
        value: &Bytes,
        content_type: Option<&[u8]>,
        deadline: Option<Ms>,
        version: Version,
        age: Option<Ms>,
        now: Ms,
        removed: &mut impl FnMut(Removal),
    ) -> Result<PutOutcome, TooLarge> {
        let charge = node::charge(key, value.len(), content_type);
        if charge > self.max_bytes || !node::has_room_for(key, content_type) {
            return Err(TooLarge);
        }
        let found = self.live(slot, key, now, removed);
        let replaced = found.is_some();
        let index = match found {
            Some(index) => {
                let before = self.slab[index].charge();
                self.bytes -= before;
                self.charged[self.deal.place(slot)] -= before;
                self.wheel.remove(&mut self.slab, index);
                self.unlink(index);
                index
            }
            None => {
                if self.len == 0 {
                    self.restart_generations(now);
                } else if age.is_some_and(|age| self.would_go_at_once(charge, age, now)) {
                    removed(Removal { slot, cause: Cause::Evicted, bytes: charge });
                    return Ok(PutOutcome { replaced });
                }
                self.len += 1;
                self.slab.take()
            }
        };
        self.bytes += charge;
        self.charged[self.deal.place(slot)] += charge;
        let node = &mut self.slab[index];
        node.fill(slot, key, value, content_type);
        node.version = version;
        node.set_deadline(deadline);
        match age {
            None => self.link_front(index),
            Some(age) => self.link_aged(index, age, now),
        }
        self.wheel.insert(&mut self.slab, index);
        if !replaced {
            self.index(slot, index);
        }
        self.evict(EVICTIONS_PER_PUT, now, removed);
        Ok(PutOutcome { replaced })
    }

    /// Removes an entry; returns whether a live one was there.
    pub fn remove(
        &mut self,
        slot: Slot,
        key: &[u8],
        now: Ms,
        removed: &mut impl FnMut(Removal),
    ) -> bool {
        let found = self.live(slot, key, now, removed);
        if let Some(index) = found {
            self.unindex(index);
            self.release(index);
        }
        found.is_some()
    }

    /// Gives a live entry a new deadline and version; not a use. Returns whether it is there.
    pub fn set_deadline(
        &mut self,
        slot: Slot,
        key: &[u8],
        deadline: Option<Ms>,
        version: Version,
        now: Ms,
    ) -> bool {
        let found = self.find(slot, key).filter(|&index| !self.slab[index].is_expired(now));
        let Some(index) = found else { return false };
        self.wheel.remove(&mut self.slab, index);
        self.slab[index].set_deadline(deadline);
        self.slab[index].version = version;
        self.wheel.insert(&mut self.slab, index);
        true
    }

    /// Reclaims entries whose deadline has passed, in at most `budget` steps; returns whether
    /// nothing is left to reclaim.
    pub fn expire(
        &mut self,
        now: Ms,
        mut budget: usize,
        removed: &mut impl FnMut(Removal),
    ) -> bool {
        loop {
            match self.wheel.advance(&mut self.slab, now, &mut budget) {
                Advance::Expired(index) => self.drop_node(index, Cause::Expired, removed),
                Advance::OutOfBudget => return false,
                Advance::Done => return true,
            }
        }
    }

    /// Is there more in it than its limits allow?
    pub fn has_debt(&self) -> bool {
        self.len as u64 > self.capacity || self.bytes > self.max_bytes
    }

    /// Evicts what is too much, at most `budget` entries.
    pub fn pay_debt(&mut self, budget: usize, now: Ms, removed: &mut impl FnMut(Removal)) {
        self.evict(budget, now, removed);
    }

    /// Visits live entries of a slot from a position on: at most `limit` of them and `buckets`
    /// places of the slot's table. Returns where to go on, or `None` at the end.
    ///
    /// A position that is no longer valid starts the slot again, so that an entry present
    /// throughout is visited at least once.
    pub fn scan(
        &self,
        slot: Slot,
        from: ScanPosition,
        limit: usize,
        buckets: usize,
        now: Ms,
        mut visit: impl FnMut(View<'_>),
    ) -> Option<ScanPosition> {
        let table = self.table(slot);
        let layout = self.layout(slot);
        let start = if from.layout == layout { from.bucket as usize } else { 0 };
        let mut visited = 0;
        for bucket in start..table.places() {
            if visited == limit || bucket - start == buckets {
                return Some(ScanPosition { layout, bucket: bucket as u64 });
            }
            if let Some(index) = table.at(bucket)
                && !self.slab[index].is_expired(now)
            {
                visited += 1;
                visit(View::new(&self.slab[index]));
            }
        }
        None
    }

    fn find(&self, slot: Slot, key: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.table(slot).find(hash, |index| self.slab[index].key() == key)
    }

    /// Finds a live entry; one whose deadline has passed is removed.
    fn live(
        &mut self,
        slot: Slot,
        key: &[u8],
        now: Ms,
        removed: &mut impl FnMut(Removal),
    ) -> Option<u32> {
        let index = self.find(slot, key)?;
        self.unless_expired(index, now, removed)
    }

    /// Removes an entry if its deadline has passed.
    fn unless_expired(
        &mut self,
        index: u32,
        now: Ms,
        removed: &mut impl FnMut(Removal),
    ) -> Option<u32> {
        if self.slab[index].is_expired(now) {
            self.drop_node(index, Cause::Expired, removed);
            return None;
        }
        Some(index)
    }

    /// Evicts from the least recently used end while there is too much, at most `budget` entries.
    fn evict(&mut self, budget: usize, now: Ms, removed: &mut impl FnMut(Removal)) {
        for _ in 0..budget {
            if !self.has_debt() {
                return;
            }
            if self.drop_a_wiped_one(removed) {
                continue;
            }
            self.drop_empty_generations();
            let expired = self.slab[self.tail].is_expired(now);
            let cause = if expired { Cause::Expired } else { Cause::Evicted };
            self.drop_node(self.tail, cause, removed);
        }
    }

    fn drop_node(&mut self, index: u32, cause: Cause, removed: &mut impl FnMut(Removal)) {
        if !self.unindex(index) {
            // It is a wiped one, which goes with its slot.
            self.wheel.remove(&mut self.slab, index);
            self.slab[index].set_deadline(None);
            return;
        }
        let node = &self.slab[index];
        removed(Removal { slot: node.slot(), cause, bytes: node.charge() });
        self.release(index);
    }

    /// Takes a node that no table names any more out of everything else.
    fn release(&mut self, index: u32) {
        self.bytes -= self.slab[index].charge();
        self.len -= 1;
        self.wheel.remove(&mut self.slab, index);
        self.unlink(index);
        self.slab.give(index);
    }

    fn promote(&mut self, index: u32) {
        if self.head != index {
            self.unlink(index);
            self.link_front(index);
        }
    }

    fn unlink(&mut self, index: u32) {
        let Node { prev, next, .. } = self.slab[index];
        match prev {
            NIL => self.head = next,
            prev => self.slab[prev].next = next,
        }
        match next {
            NIL => self.tail = prev,
            next => self.slab[next].prev = prev,
        }
    }

    fn link_front(&mut self, index: u32) {
        let first = std::mem::replace(&mut self.head, index);
        let generation = self.generations.newest();
        let node = &mut self.slab[index];
        node.set_generation(generation);
        (node.prev, node.next) = (NIL, first);
        match first {
            NIL => self.tail = index,
            first => self.slab[first].prev = index,
        }
    }
}
