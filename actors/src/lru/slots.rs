//! Where a slot stands in an LRU, and operations on the entries of one slot as a whole.

use super::Lru;
use crate::op::Ms;
use crate::slot::Slot;

impl Lru {
    /// Entries of one slot.
    pub fn slot_len(&self, slot: Slot) -> usize {
        self.table(slot).len()
    }

    /// What the entries of one slot are charged. Reads the whole slot.
    pub fn slot_bytes(&self, slot: Slot) -> u64 {
        self.table(slot).iter().map(|&index| self.slab[index].charge()).sum()
    }

    /// Removes every entry of a slot; returns how many and what they were charged.
    pub fn clear_slot(&mut self, slot: Slot) -> (usize, u64) {
        let before = self.bytes;
        let place = self.deal.place(slot);
        self.layouts[place] = self.layouts[place].wrapping_add(1);
        let nodes = std::mem::take(&mut self.tables[place]);
        for &index in &nodes {
            self.release(index);
        }
        (nodes.len(), before - self.bytes)
    }

    /// A digest of a slot's live entries: equal for copies with the same keys, values, types and
    /// versions, whatever their order. Reads the whole slot.
    pub fn digest(&self, slot: Slot, now: Ms) -> u64 {
        let live = self.table(slot).iter().map(|&index| &self.slab[index]);
        live.filter(|node| !node.is_expired(now)).fold(0, |digest, node| {
            let mut hash = xxhash_rust::xxh3::Xxh3::with_seed(node.version.0);
            for part in [node.key(), node.value_slice(), node.content_type().unwrap_or(&[])] {
                hash.update(&(part.len() as u64).to_le_bytes());
                hash.update(part);
            }
            digest ^ hash.digest()
        })
    }
}
