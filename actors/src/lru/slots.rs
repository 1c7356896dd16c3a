//! The table of each slot: where it stands, what goes in and out, and what its entries are as a whole.

use std::hash::BuildHasher;

use super::Lru;
use super::table::Table;
use crate::op::Ms;
use crate::slot::Slot;

impl Lru {
    /// Entries of one slot.
    pub fn slot_len(&self, slot: Slot) -> usize {
        self.table(slot).len()
    }

    /// What the entries of one slot are charged.
    pub fn slot_bytes(&self, slot: Slot) -> u64 {
        self.charged[self.deal.place(slot)]
    }

    /// A digest of a slot's live entries: equal for copies with the same keys, values, types and
    /// versions, whatever their order. Reads the whole slot.
    pub fn digest(&self, slot: Slot, now: Ms) -> u64 {
        let live = self.table(slot).iter().map(|index| &self.slab[index]);
        live.filter(|node| !node.is_expired(now)).fold(0, |digest, node| {
            let mut hash = xxhash_rust::xxh3::Xxh3::with_seed(node.version.0);
            for part in [node.key(), node.value_slice(), node.content_type().unwrap_or(&[])] {
                hash.update(&(part.len() as u64).to_le_bytes());
                hash.update(part);
            }
            digest ^ hash.digest()
        })
    }

    pub(super) fn table(&self, slot: Slot) -> &Table {
        &self.tables[self.deal.place(slot)]
    }

    /// Identity of a slot's layout: never 0, and different for other LRUs.
    pub(super) fn layout(&self, slot: Slot) -> u64 {
        (self.seed ^ u64::from(self.table(slot).layout())).max(1)
    }

    /// Puts a node into its slot's table.
    pub(super) fn index(&mut self, slot: Slot, index: u32) {
        let (slab, hasher) = (&self.slab, &self.hasher);
        let hash = |index: u32| hasher.hash_one(slab[index].key());
        self.tables[self.deal.place(slot)].insert(hash(index), index, hash);
    }

    /// Takes a node out of its slot's table; returns whether it was there.
    pub(super) fn unindex(&mut self, index: u32) -> bool {
        let (slab, hasher) = (&self.slab, &self.hasher);
        let hash = |index: u32| hasher.hash_one(slab[index].key());
        let place = self.deal.place(slab[index].slot());
        let is_there = self.tables[place].remove(hash(index), index, hash);
        if is_there {
            self.charged[place] -= slab[index].charge();
        }
        is_there
    }
}
