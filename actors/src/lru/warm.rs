//! Bringing near what the next requests will touch.

use std::hash::BuildHasher;
use std::hint::black_box;

use super::node::NIL;
use super::{Lru, Removal, View};
use crate::op::Ms;
use crate::slot::Slot;

/// Keys that are looked for at a time: what they touch fits the nearest caches.
pub const WARMED: usize = 64;

/// What was found of keys that are to be asked for: their hashes, and where they seemed to be.
#[derive(Debug)]
pub struct Found {
    keys: [(u64, Slot, u32); WARMED],
    count: usize,
    /// That of the slab then.
    changes: u64,
}

impl Found {
    /// Nothing.
    pub fn nothing() -> Self {
        Found { keys: [(0, 0, NIL); WARMED], count: 0, changes: 0 }
    }
}

impl Lru {
    /// Looks at what a get of each of the first [`WARMED`] keys will touch, and forgets it.
    ///
    /// A get waits for memory several times in a row: for the table, its places, the node, the
    /// block, the neighbours. Here one step is taken for all keys before the next step of any: steps
    /// of different keys do not wait for each other, so a processor has many of them under way. No
    /// key is compared, as that would wait. Rarely another entry is brought near instead; nothing
    /// depends on it. What was `found` is for [`Lru::get_found`].
    pub fn warm<'a>(&self, keys: impl Iterator<Item = (Slot, &'a [u8])>, found: &mut Found) {
        (found.count, found.changes) = (0, self.slab.changes());
        for (seen, (slot, key)) in found.keys.iter_mut().zip(keys) {
            *seen = (self.hasher.hash_one(key), slot, NIL);
            black_box(self.table(slot).len());
            found.count += 1;
        }
        let found = &mut found.keys[..found.count];
        for (hash, slot, index) in found.iter_mut() {
            *index = self.table(*slot).find(*hash, |_| true).unwrap_or(NIL);
        }
        let indices = || found.iter().map(|(_, _, index)| *index).filter(|&index| index != NIL);
        for index in indices() {
            let node = &self.slab[index];
            black_box((node.prev, node.version));
        }
        for index in indices() {
            let node = &self.slab[index];
            let neighbours = [node.prev, node.next].map(|next| match next {
                NIL => (NIL, NIL),
                next => (self.slab[next].prev, self.slab[next].next),
            });
            black_box((node.key().first().copied(), node.value_slice().last().copied()));
            black_box(neighbours);
        }
    }

    /// [`Lru::get`] of one of the keys that were looked for, by its place among them: it is not hashed again,
    /// and not looked for again where it is what was found.
    pub fn get_found(
        &mut self,
        found: &Found,
        place: usize,
        key: &[u8],
        now: Ms,
        removed: &mut impl FnMut(Removal),
    ) -> Option<View<'_>> {
        let (hash, slot, index) = found.keys[place];
        debug_assert!(place < found.count && hash == self.hasher.hash_one(key));
        let is_it = |index: u32| self.slab[index].key() == key;
        let is_found = index != NIL && found.changes == self.slab.changes() && is_it(index);
        let index = if is_found { index } else { self.table(slot).find(hash, is_it)? };
        let index = self.unless_expired(index, now, removed)?;
        self.promote(index);
        Some(View::new(&self.slab[index]))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::lru::tests::lru;
    use crate::op::Version;
    use crate::slot::slot_of;

    #[test]
    fn keys_that_are_there_or_not_and_any_number_of_them_can_be_warmed() {
        let mut lru = lru(500, 1 << 20);
        let keys: Vec<String> = (0..1_000).map(|i| format!("k{i}")).collect();
        let asked = |count: usize| {
            keys.iter().rev().take(count).map(|key| (slot_of(key.as_bytes()), key.as_bytes()))
        };
        let mut found = Found::nothing();
        lru.warm(asked(10), &mut found);
        for (place, key) in keys.iter().rev().enumerate() {
            let key = key.as_bytes();
            let size = if place % 7 == 0 { crate::lru::SHARED_BYTES } else { place % 100 };
            let value = Bytes::from(vec![1; size]);
            let put = lru.put(slot_of(key), key, &value, None, None, Version(1), 0, &mut |_| {});
            put.expect("it fits");
            for count in [0, 1, 2, WARMED, WARMED + 1] {
                lru.warm(asked(count), &mut found);
            }
        }
    }

    /// What was found may be gone, or another entry's, when it is asked for.
    #[test]
    fn what_was_found_is_what_a_get_finds_whatever_has_happened_since() {
        let mut lru = lru(500, 1 << 20);
        let keys: Vec<String> = (0..WARMED).map(|i| format!("k{}", i % 48)).collect();
        let of = |key: &str| slot_of(key.as_bytes());
        let store = |lru: &mut Lru, key: &str, value: &str, deadline| {
            let value = Bytes::copy_from_slice(value.as_bytes());
            let (slot, key) = (of(key), key.as_bytes());
            let put = lru.put(slot, key, &value, None, deadline, Version(1), 0, &mut |_| {});
            put.expect("it fits");
        };
        // Every third is absent, and every fourth expires.
        for (at, key) in keys[..48].iter().enumerate().filter(|(at, _)| at % 3 != 0) {
            store(&mut lru, key, key, (at % 4 == 0).then_some(5));
        }
        let mut found = Found::nothing();
        for now in [1, 9] {
            lru.warm(keys.iter().map(|key| (of(key), key.as_bytes())), &mut found);
            for (place, key) in keys.iter().enumerate() {
                if place == 20 {
                    // The node of one that goes is another's from here on.
                    lru.remove(of("k1"), b"k1", now, &mut |_| {});
                    store(&mut lru, "other", "other", None);
                }
                let peeked = lru.peek(of(key), key.as_bytes(), now);
                let wanted = peeked.map(|view| view.value_slice().to_vec());
                let got = lru.get_found(&found, place, key.as_bytes(), now, &mut |_| {});
                assert_eq!(got.map(|view| view.value_slice().to_vec()), wanted, "{key} at {now}");
            }
        }
    }
}
