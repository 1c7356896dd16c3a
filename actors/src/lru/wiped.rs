//! Slots that are wiped: from one moment to the next no key leads to their entries, whose memory comes
//! back a few entries at a time.
//!
//! Until then they are charged, and go before any other entry when something has to go. A wiped
//! entry is released here and nowhere else: one whose deadline passes stays until its turn comes.

use std::collections::VecDeque;

use super::table::Nodes;
use super::{Cause, Lru, Removal};
use crate::slot::Slot;

/// The entries of wiped slots, in the order of wiping.
#[derive(Debug, Default)]
pub(super) struct Wiped {
    slots: VecDeque<(u8, Nodes)>,
}

impl Wiped {
    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Takes the next; no slot stays without one.
    fn next(&mut self) -> Option<(u8, u32)> {
        let (mark, nodes) = self.slots.front_mut()?;
        let next = nodes.next().map(|index| (*mark, index));
        if nodes.is_empty() {
            self.slots.pop_front();
        }
        next
    }

    /// Every node.
    #[cfg(test)]
    pub fn nodes(&self) -> impl Iterator<Item = u32> {
        self.slots.iter().flat_map(|(_, nodes)| nodes.iter())
    }
}

impl Lru {
    /// Wipes a slot, whatever its size, at once: nothing that was in it is found any more. Its entries
    /// go by [`Lru::drop_wiped`], each reported with this mark. Returns how many they are.
    pub fn wipe(&mut self, slot: Slot, mark: u8) -> usize {
        let entries = self.slot_len(slot);
        if entries > 0 {
            let place = self.deal.place(slot);
            self.charged[place] = 0;
            self.wiped.slots.push_back((mark, self.tables[place].take()));
        }
        entries
    }

    /// Drops at most `budget` entries of wiped slots; returns whether none is left.
    pub fn drop_wiped(&mut self, budget: usize, removed: &mut impl FnMut(Removal)) -> bool {
        for _ in 0..budget {
            if !self.drop_a_wiped_one(removed) {
                break;
            }
        }
        self.wiped.is_empty()
    }

    /// Drops an entry of a wiped slot; returns whether there was one.
    pub(super) fn drop_a_wiped_one(&mut self, removed: &mut impl FnMut(Removal)) -> bool {
        let Some((mark, index)) = self.wiped.next() else { return false };
        let node = &self.slab[index];
        removed(Removal { slot: node.slot(), cause: Cause::Wiped(mark), bytes: node.charge() });
        self.release(index);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{get, lru, put};
    use super::*;
    use crate::op::{ScanPosition, Version};
    use crate::slot::slot_of;

    fn key(i: usize) -> Vec<u8> {
        format!("{{a}}{i}").into_bytes()
    }

    /// An LRU with so many entries in one slot, and one in another.
    fn filled(capacity: u64, entries: usize, deadline: Option<u64>) -> (Lru, Slot) {
        let mut lru = lru(capacity, 1 << 20);
        put(&mut lru, b"other", b"value", None, 1);
        for i in 0..entries {
            put(&mut lru, &key(i), b"value", deadline, 1);
        }
        (lru, slot_of(b"{a}"))
    }

    #[test]
    fn nothing_of_a_wiped_slot_is_found_and_its_entries_go_in_slices() {
        let (mut lru, slot) = filled(1_000, 100, None);
        let charged = lru.slot_bytes(slot);
        lru.wipe(slot, 7);
        assert_eq!((lru.slot_len(slot), lru.slot_bytes(slot), lru.digest(slot, 1)), (0, 0, 0));
        assert_eq!(lru.len(), 101, "their memory is taken still");
        lru.scan(slot, ScanPosition::START, 10, 10, 1, |_| panic!("a key of a wiped slot"));
        assert!((0..100).all(|i| get(&mut lru, &key(i), 1).is_none()));
        put(&mut lru, &key(5), b"new", None, 1);
        let mut removed = Vec::new();
        for (budget, dropped) in [(30, 30), (60, 90), (30, 100), (30, 100)] {
            let is_done = lru.drop_wiped(budget, &mut |removal| removed.push(removal));
            assert_eq!((removed.len(), is_done), (dropped, dropped == 100));
            lru.check_invariants();
            assert_eq!(get(&mut lru, &key(5), 1), Some(b"new".to_vec()));
        }
        assert!(removed.iter().all(|r| (r.slot, r.cause) == (slot, Cause::Wiped(7))));
        assert_eq!(removed.iter().map(|removal| removal.bytes).sum::<u64>(), charged);
        assert_eq!((lru.len(), get(&mut lru, b"other", 1)), (2, Some(b"value".to_vec())));
    }

    #[test]
    fn what_is_wiped_goes_before_what_is_not() {
        let (mut lru, slot) = filled(101, 100, None);
        lru.wipe(slot, 0);
        let mut causes = Vec::new();
        for i in 0..100u32 {
            causes.extend(put(&mut lru, &i.to_le_bytes(), b"value", None, 1));
            lru.check_invariants();
        }
        assert!(causes.len() == 100 && causes.iter().all(|r| r.cause == Cause::Wiped(0)));
        assert!(get(&mut lru, b"other", 1).is_some(), "it was the least recently used");
        // One that is older than all others is not turned away while something can go for it.
        let (mut lru, slot) = filled(101, 100, None);
        lru.wipe(slot, 0);
        let value = bytes::Bytes::from_static(b"value");
        let stored =
            lru.import(1, b"old", &value, None, None, Version(1), 1_000_000, 1, &mut |_| {});
        assert!(stored.is_ok() && lru.peek(1, b"old", 1).is_some());
    }

    #[test]
    fn a_wiped_entry_whose_deadline_passes_is_released_once() {
        let (mut lru, slot) = filled(1_000, 100, Some(50));
        lru.wipe(slot, 0);
        lru.drop_wiped(40, &mut |_| {});
        let nothing = &mut |removal| panic!("{removal:?}");
        assert!(lru.expire(10_000, usize::MAX, nothing));
        lru.check_invariants();
        put(&mut lru, &key(1), b"new", Some(20_000), 10_000);
        let mut dropped = 0;
        assert!(lru.drop_wiped(usize::MAX, &mut |_| dropped += 1));
        assert_eq!((dropped, lru.len()), (60, 2));
        lru.check_invariants();
    }
}
