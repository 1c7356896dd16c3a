//! Bringing near what the next requests will touch.

use std::hash::BuildHasher;
use std::hint::black_box;

use super::Lru;
use super::node::NIL;
use crate::slot::Slot;

/// Keys that are looked for at a time: what they touch fits the nearest caches.
pub const WARMED: usize = 64;

impl Lru {
    /// Looks at what a get of each of the first [`WARMED`] keys will touch, and forgets it.
    ///
    /// A get waits for memory several times in a row: for the table, its places, the node, the
    /// block, the neighbours. Here one step is taken for all keys before the next step of any: steps
    /// of different keys do not wait for each other, so a processor has many of them under way. No
    /// key is compared, as that would wait. Rarely another entry is brought near instead; nothing
    /// depends on it.
    pub fn warm<'a>(&self, keys: impl Iterator<Item = (Slot, &'a [u8])>) {
        let mut found = [(0, 0, NIL); WARMED];
        let mut count = 0;
        for (seen, (slot, key)) in found.iter_mut().zip(keys) {
            *seen = (self.hasher.hash_one(key), slot, NIL);
            black_box(self.table(slot).len());
            count += 1;
        }
        let found = &mut found[..count];
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
        lru.warm(asked(10));
        for (place, key) in keys.iter().rev().enumerate() {
            let key = key.as_bytes();
            let size = if place % 7 == 0 { crate::lru::SHARED_BYTES } else { place % 100 };
            let value = Bytes::from(vec![1; size]);
            let put = lru.put(slot_of(key), key, &value, None, None, Version(1), 0, &mut |_| {});
            put.expect("it fits");
            for count in [0, 1, 2, WARMED, WARMED + 1] {
                lru.warm(asked(count));
            }
        }
    }
}
